import pytest
import torch
import torchvision

from regionclip.regions import RegionHead
from regionclip.regions.attention_pool import attention_pool
from regionclip.regions.region_head import ImageRegions
from tests.tiny_clip import TINY, tiny_clip

BOXES = torch.tensor(
    [
        [0.0, 0.0, 160.0, 128.0],
        [10.0, 20.0, 90.0, 70.0],
        [120.0, 60.0, 160.0, 128.0],
        [33.3, 44.4, 55.5, 66.6],
    ]
)


@pytest.fixture
def head() -> RegionHead:
    return RegionHead(tiny_clip().visual)


@pytest.fixture
def feature_map() -> torch.Tensor:
    torch.manual_seed(3)
    return tiny_clip().feature_map(torch.randn(2, 3, 128, 160))


def plain(head: RegionHead, feature_map: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The published way: ROIAlign, then layer4 and the full attention pool on every region."""
    cells = torchvision.ops.roi_align(
        feature_map, [boxes, boxes[:0]], TINY.roi_grid, 1 / 16, sampling_ratio=-1, aligned=True
    )
    return head.pool(head.layer4(cells))


def test_region_head_equals_the_published_order_of_operations(
    head: RegionHead, feature_map: torch.Tensor
) -> None:
    found = head(head.lift(feature_map), 0, BOXES)
    expected = plain(head, feature_map, BOXES)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_boxes_over_the_border_equal_the_published_order(
    head: RegionHead, feature_map: torch.Tensor
) -> None:
    # points outside the map count as zero before layer4's biases, not after them
    boxes = torch.tensor([[-40.0, -30.0, 50.0, 60.0], [130.0, 90.0, 220.0, 190.0]])
    found = head(head.lift(feature_map), 0, boxes)
    torch.testing.assert_close(found, plain(head, feature_map, boxes), rtol=1e-4, atol=1e-5)


def test_gradients_equal_those_of_the_published_order() -> None:
    torch.manual_seed(3)
    images = torch.randn(2, 3, 128, 160)
    gradients = []
    for way in ("published", "ours"):
        encoder = tiny_clip().requires_grad_(True)
        head, feature_map = RegionHead(encoder.visual), encoder.feature_map(images)
        if way == "ours":
            maps = head.lift(feature_map)
            cells = head.cells([ImageRegions(maps, 0, head.weights(maps, BOXES))])
            vectors = attention_pool(cells, head.pool)
        else:
            vectors = plain(head, feature_map, BOXES)
        weights = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0))
        (vectors * weights).sum().backward()
        # the affine part of norms is a constant in training, and the key bias drops out
        gradients.append(
            {
                name: own.grad
                for name, own in encoder.visual.named_parameters()
                if own.grad is not None and ".bn" not in name and "downsample.1" not in name
            }
        )
    published, found = gradients
    assert "layer4.0.downsample.0.weight" in found
    assert set(published) - set(found) == {"attnpool.k_proj.bias"}
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, published[name], rtol=1e-3, atol=1e-3, msg=name)


def test_regions_of_several_images_go_through_layer4_together(
    head: RegionHead, feature_map: torch.Tensor
) -> None:
    maps = head.lift(feature_map)
    parts = [
        ImageRegions(maps, image, head.weights(maps, boxes))
        for image, boxes in ((1, BOXES[:3]), (0, BOXES[:0]), (0, BOXES))
    ]
    expected = torch.cat([head.layer4_cells(maps, 1, BOXES[:3]), head.layer4_cells(maps, 0, BOXES)])
    torch.testing.assert_close(head.cells(parts), expected)


def test_what_the_backward_pass_needs_is_counted(feature_map: torch.Tensor) -> None:
    encoder = tiny_clip().requires_grad_(True)
    head = RegionHead(encoder.visual)
    maps = head.lift(feature_map)
    sizes = []
    for count in (8, 40):
        kept: dict[int, int] = {}
        tensors = []

        def note(
            tensor: torch.Tensor, kept: dict[int, int] = kept, held: list[torch.Tensor] = tensors
        ) -> torch.Tensor:
            held.append(tensor)  # so that no address is used twice
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            weights = head.weights(maps, BOXES[:1].repeat(count, 1))
            vectors = attention_pool(head.cells([ImageRegions(maps, 0, weights)]), head.pool)
        assert vectors.requires_grad
        sizes.append(sum(kept.values()))
    # interpolation weights, queries and attention scores are small beside it
    assert (sizes[1] - sizes[0]) / 32 == pytest.approx(head.kept_bytes, rel=0.15)


def test_each_image_of_a_batch_has_its_own_regions(
    head: RegionHead, feature_map: torch.Tensor
) -> None:
    found = head(head.lift(feature_map), 1, BOXES)
    alone = head(head.lift(feature_map[1:]), 0, BOXES)
    torch.testing.assert_close(found, alone)
    assert not torch.allclose(found, head(head.lift(feature_map), 0, BOXES))


def test_layer4_cells_are_what_the_pool_sees(head: RegionHead, feature_map: torch.Tensor) -> None:
    maps = head.lift(feature_map)
    cells = head.layer4_cells(maps, 0, BOXES)
    assert cells.shape == (4, 32 * TINY.width, TINY.pool_grid, TINY.pool_grid)
    torch.testing.assert_close(head.pool(cells), head(maps, 0, BOXES), rtol=1e-4, atol=1e-5)


def test_a_small_memory_budget_makes_chunks_and_changes_nothing(feature_map: torch.Tensor) -> None:
    visual = tiny_clip().visual
    wide, narrow = RegionHead(visual), RegionHead(visual, memory_budget=1)
    map_hw = (int(feature_map.shape[2]), int(feature_map.shape[3]))
    assert wide.chunk_size(map_hw) >= len(BOXES)
    assert narrow.chunk_size(map_hw) == 1
    torch.testing.assert_close(
        narrow(narrow.lift(feature_map), 0, BOXES), wide(wide.lift(feature_map), 0, BOXES)
    )


def test_chunks_grow_with_the_memory_budget() -> None:
    visual = tiny_clip().visual
    sizes = [RegionHead(visual, memory_budget=each).chunk_size((8, 10)) for each in (10**6, 10**7)]
    assert sizes[0] > 1
    assert sizes[1] == pytest.approx(10 * sizes[0], rel=0.1)


def test_order_of_boxes_is_order_of_rows(head: RegionHead, feature_map: torch.Tensor) -> None:
    maps, order = head.lift(feature_map), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(head(maps, 0, BOXES[order]), head(maps, 0, BOXES)[order])


def test_a_mask_over_the_whole_image_is_no_mask(
    head: RegionHead, feature_map: torch.Tensor
) -> None:
    maps = head.lift(feature_map)
    masks = torch.ones(len(BOXES), 128, 160, dtype=torch.bool)
    torch.testing.assert_close(head(maps, 0, BOXES, masks=masks), head(maps, 0, BOXES))


def test_a_mask_on_one_side_of_the_box_changes_the_vector(
    head: RegionHead, feature_map: torch.Tensor
) -> None:
    maps = head.lift(feature_map)
    masks = torch.ones(len(BOXES), 128, 160, dtype=torch.bool)
    masks[0, :, 48:] = False  # clear of the points between the two cells of a row
    masked, whole = head(maps, 0, BOXES, masks=masks), head(maps, 0, BOXES)
    assert not torch.allclose(masked[0], whole[0])
    torch.testing.assert_close(masked[1:], whole[1:])


def test_a_mask_that_touches_no_cell_leaves_the_whole_box(
    head: RegionHead, feature_map: torch.Tensor
) -> None:
    maps = head.lift(feature_map)
    masks = torch.zeros(len(BOXES), 128, 160, dtype=torch.bool)
    torch.testing.assert_close(head(maps, 0, BOXES, masks=masks), head(maps, 0, BOXES))


def test_zero_boxes_give_zero_rows(head: RegionHead, feature_map: torch.Tensor) -> None:
    maps = head.lift(feature_map)
    assert head(maps, 0, BOXES[:0]).shape == (0, TINY.embed_dim)
    grid = TINY.pool_grid
    assert head.layer4_cells(maps, 0, BOXES[:0]).shape == (0, 32 * TINY.width, grid, grid)


def test_bfloat16_stays_close_to_float32(head: RegionHead, feature_map: torch.Tensor) -> None:
    exact = head(head.lift(feature_map), 0, BOXES)
    rough = head(head.lift(feature_map.bfloat16()), 0, BOXES)
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(exact, rough).min() > 0.999


def test_a_memory_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_budget must be positive, got 0 bytes"):
        RegionHead(tiny_clip().visual, memory_budget=0)


def test_layer4_without_a_shortcut_convolution_is_refused() -> None:
    visual = tiny_clip().visual
    del visual.layer4[0]
    head = RegionHead(visual)
    with pytest.raises(TypeError, match="no shortcut convolution"):
        head.lift(torch.randn(1, TINY.map_channels, 4, 4))
