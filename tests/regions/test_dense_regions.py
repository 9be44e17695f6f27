from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from regionclip.data.transforms import Padding
from regionclip.encoders.dense_resnet import dense_resnet_of
from regionclip.regions.dense_regions import (
    DenseRegions,
    DenseView,
    cell_shares,
    pool_boxes,
    pool_masks,
)
from regionclip.regions.embedder import BatchView, RegionEmbedder, RegionView
from regionclip.regions.layer4_regions import Layer4Regions, pool_boxes_with_attention
from regionclip.regions.mask_attention import (
    MaskAttentionRegions,
    box_cells,
    occupied_cells,
)
from regionclip.structures import PreparedImage
from tests.tiny_clip import tiny_clip
from tests.tiny_dense import tiny_dense

ODD_BOXES = torch.tensor(
    [
        [3.0, 5.0, 40.0, 30.0],
        [0.0, 0.0, 80.0, 48.0],
        [20.0, 20.0, 20.4, 20.3],
        [-12.0, -9.0, 14.0, 20.0],
        [60.0, 30.0, 120.0, 90.0],
        [24.0, 24.0, 24.0, 24.0],
        [30.0, 10.0, 30.0, 40.0],
        [-90.0, -90.0, -60.0, -60.0],
        [10.0, 0.0, 12.0, 48.0],
    ]
)
"""Inside, whole, tiny, over each border, without area, outside, narrow; 48 x 80 pixels."""


def a_map(batch: int = 1) -> Tensor:
    return torch.randn(batch, 7, 6, 10, generator=torch.Generator().manual_seed(3))


def test_boxes_are_pooled_as_torchvision_does_borders_and_all() -> None:
    dense, boxes = a_map(2), [ODD_BOXES, ODD_BOXES[:2]]
    found = pool_boxes(dense, boxes, cell=8)
    expected = roi_align(dense, boxes, 1, spatial_scale=1 / 8, sampling_ratio=-1, aligned=True)
    torch.testing.assert_close(found, expected[:, :, 0, 0])
    assert not found[5].any()


def test_a_box_of_one_cell_is_that_cell_and_of_two_their_mean() -> None:
    dense = a_map()
    boxes = torch.tensor([[24.0, 16.0, 32.0, 24.0], [24.0, 16.0, 40.0, 24.0]])
    one, two = pool_boxes(dense, [boxes], cell=8)
    torch.testing.assert_close(one, dense[0, :, 2, 3])
    torch.testing.assert_close(two, dense[0, :, 2, 3:5].mean(dim=1))


def test_no_box_and_no_mask_give_no_row() -> None:
    dense = a_map(2)
    none = [torch.zeros(0, 4)] * 2
    assert pool_boxes(dense, none, cell=8).shape == (0, 7)
    assert pool_masks(dense, [torch.zeros(0, 6, 10)] * 2).shape == (0, 7)
    assert torch.equal(
        pool_boxes(dense, [none[0], ODD_BOXES[:1]], cell=8),
        pool_boxes(dense[1:], [ODD_BOXES[:1]], cell=8),
    )


def test_little_memory_gives_the_same_rows() -> None:
    wide = pool_boxes(a_map(), [ODD_BOXES], cell=8)
    narrow = pool_boxes(a_map(), [ODD_BOXES], cell=8, memory_budget=1)
    torch.testing.assert_close(narrow, wide)


def test_gradients_are_those_of_torchvision() -> None:
    first, second = (a_map().requires_grad_() for _ in range(2))
    pool_boxes(first, [ODD_BOXES], cell=8).square().sum().backward()
    roi_align(second, [ODD_BOXES], 1, 1 / 8, -1, True).square().sum().backward()
    torch.testing.assert_close(first.grad, second.grad)


def test_masks_are_means_and_an_empty_one_is_zero() -> None:
    dense = a_map()
    masks = torch.zeros(3, 6, 10)
    masks[0, 1, 2] = masks[0, 4, 9] = 1
    masks[1, 1, 2], masks[1, 4, 9] = 0.25, 0.75
    found = pool_masks(dense, [masks])
    one, other = dense[0, :, 1, 2], dense[0, :, 4, 9]
    torch.testing.assert_close(found[0], (one + other) / 2)
    torch.testing.assert_close(found[1], 0.25 * one + 0.75 * other)
    assert not found[2].any()
    torch.testing.assert_close(pool_masks(dense, [masks > 0])[1], found[0])


def test_a_cell_counts_by_its_share_of_a_mask() -> None:
    masks = torch.zeros(1, 10, 12, dtype=torch.bool)
    masks[:, :8, :4] = True
    masks[:, 9, 11] = True
    expected = torch.tensor([[[0.5, 0.0], [0.0, 1 / 64]]])
    torch.testing.assert_close(cell_shares(masks, (2, 2), cell=8), expected)


def test_sets_of_regions_that_do_not_go_with_the_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="got regions of 1 images for 2 maps"):
        pool_boxes(a_map(2), [ODD_BOXES], cell=8)
    with pytest.raises(ValueError, match=r"masks must be over the map's \(6, 10\) cells, got \(6,"):
        pool_masks(a_map(), [torch.zeros(1, 6, 9)])


def test_cells_of_a_box_are_cut_towards_zero_and_at_the_border() -> None:
    boxes = torch.tensor([[9.0, 8.0, 31.9, 24.0], [-9.0, -9.0, 9.0, 9.0], [4.0, 4.0, 5.0, 5.0]])
    cells = box_cells(boxes, (6, 10), cell=8)
    assert cells[0].nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert cells[1].nonzero().tolist() == [[0, 0]]
    assert not cells[2].any()


def test_boxes_within_a_row_or_column_of_cells_have_that_of_their_centre() -> None:
    within = [[2.0, 2.0, 7.0, 7.0], [33.0, 9.0, 60.0, 15.0], [79.0, 40.0, 80.0, 48.0]]
    outside = [[-90.0, -90.0, -60.0, -60.0], [90.0, 90.0, 99.0, 99.0]]
    boxes = torch.tensor(within + outside)
    assert not box_cells(boxes, (6, 10), cell=8)[[0, 1, 3, 4]].any()
    cells = [each.nonzero().tolist() for each in occupied_cells(boxes, (6, 10), cell=8)]
    assert cells == [[[0, 0]], [[1, 4], [1, 5], [1, 6]], [[5, 9]], [[0, 0]], [[5, 9]]]
    large = torch.tensor([[9.0, 8.0, 31.9, 24.0], [-9.0, -9.0, 9.0, 9.0]])
    found = occupied_cells(large, (6, 10), cell=8)
    assert found.equal(box_cells(large, (6, 10), cell=8))


def test_small_boxes_in_several_places_are_told_apart_by_mask_attention() -> None:
    boxes = torch.tensor([[2.0, 2.0, 7.0, 7.0], [17.0, 17.0, 23.0, 23.0], [33.0, 9.0, 60.0, 15.0]])
    regions = MaskAttentionRegions(tiny_dense().requires_grad_(False))
    vectors = F.normalize(regions.view([prepared(48, 80)]).of(0).features(boxes), dim=1)
    cosines = vectors @ vectors.T
    assert cosines.triu(1).max() < 0.999


Make = Callable[..., RegionEmbedder]
MAKERS: dict[str, Make] = {
    "ViT": lambda **options: DenseRegions(tiny_dense().requires_grad_(False), **options),
    "ResNet": lambda **options: DenseRegions(dense_resnet_of(tiny_clip()), **options),
    "layer4": lambda **options: Layer4Regions(dense_resnet_of(tiny_clip()), **options),
    "mask attention": lambda **options: MaskAttentionRegions(
        tiny_dense().requires_grad_(False), **options
    ),
}
every_way = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def prepared(height: int, width: int, *, seed: int = 0) -> PreparedImage:
    pixels = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    return PreparedImage(pixels, (height, width), "x")


@every_way
def test_one_call_embeds_boxes_and_masks_and_nothing(make: Make) -> None:
    embedder = make()
    assert isinstance(embedder, RegionEmbedder)
    batch = embedder.view([prepared(48, 80), prepared(70, 33)])
    assert isinstance(batch, BatchView)
    view = batch.of(0)
    assert isinstance(view, RegionView)
    boxes = torch.tensor([[0.0, 0.0, 80.0, 48.0], [10.0, 8.0, 60.0, 40.0], [3.0, 3.0, 3.4, 3.2]])
    vectors = view.features(boxes)
    assert vectors.shape[0] == 3
    assert vectors.isfinite().all()
    masks = torch.zeros(3, 48, 80, dtype=torch.bool)
    masks[0], masks[1, 10:30, 20:60], masks[2, 47, 79] = True, True, True
    assert view.features(boxes, masks=masks).isfinite().all()
    assert view.features(boxes, masks=masks).shape == vectors.shape
    assert view.features(boxes[:0]).shape == (0, vectors.shape[1])
    assert view.features(boxes[:0], masks=masks[:0]).shape == (0, vectors.shape[1])
    torch.testing.assert_close(view.features(boxes[1:2]), vectors[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ViT", "ResNet", "layer4"])
def test_boxes_and_masks_fit_into_any_memory(name: str) -> None:
    boxes = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)).sort(dim=1).values * 48
    masks = torch.rand(6, 48, 80, generator=torch.Generator().manual_seed(1)) > 0.7
    wide, narrow = (
        MAKERS[name](memory_budget=budget).view([prepared(48, 80)]).of(0) for budget in (1 << 30, 1)
    )
    for own in (None, masks):
        expected = wide.features(boxes, masks=own)
        found = narrow.features(boxes, masks=own)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@every_way
def test_an_image_is_the_same_alone_and_among_others(make: Make) -> None:
    embedder = make()
    boxes = torch.tensor([[4.0, 4.0, 30.0, 20.0]])
    among = embedder.view([prepared(40, 40, seed=1), prepared(24, 64)]).of(1).features(boxes)
    torch.testing.assert_close(embedder.view([prepared(24, 64)]).of(0).features(boxes), among)


@every_way
def test_reduced_precision_gives_much_the_same_and_float32(make: Make) -> None:
    boxes = torch.tensor([[4.0, 4.0, 30.0, 20.0]])
    whole, half = (
        make(dtype=dtype).view([prepared(24, 64)]).of(0).features(boxes)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert half.dtype == torch.float32
    assert torch.cosine_similarity(whole, half).item() > 0.98


def test_padding_to_cells_leaves_no_more_than_needed_and_squares_are_black() -> None:
    vit, image = tiny_dense().requires_grad_(False), prepared(24, 60)
    mean, std = (torch.tensor(each)[:, None, None] for each in (vit.mean, vit.std))
    sizes: dict[Padding, tuple[int, int]] = {"cells": (24, 64), "square": (64, 64)}
    for padding, size in sizes.items():
        view = DenseRegions(vit, padding=padding).view([image]).of(0)
        black = torch.zeros(3, *size)
        black[:, :24, :60] = image.pixels
        expected = vit.dense_features(((black - mean) / std)[None])
        assert isinstance(view, DenseView)
        torch.testing.assert_close(view.dense, expected)


def test_a_region_of_the_whole_map_is_the_attention_pools_own() -> None:
    resnet = dense_resnet_of(tiny_clip())
    layer4 = resnet.layer4_map(torch.randn(1, 3, 64, 64))
    whole = torch.tensor([[0.0, 0.0, 64.0, 64.0]])
    found = pool_boxes_with_attention(layer4, [whole], resnet.visual.attnpool)
    torch.testing.assert_close(found, resnet.whole_of(layer4), rtol=1e-4, atol=1e-5)
    boxes = [torch.rand(5, 4).sort(dim=1).values * 64]
    wide = pool_boxes_with_attention(layer4, boxes, resnet.visual.attnpool)
    narrow = pool_boxes_with_attention(layer4, boxes, resnet.visual.attnpool, memory_budget=1)
    torch.testing.assert_close(narrow, wide, rtol=1e-4, atol=1e-5)
    cells = Layer4Regions(resnet).view([prepared(64, 64)]).of(0).last_stage_cells(whole)
    assert cells.shape == (1, 256, 2, 2)


@pytest.mark.parametrize("name", ["ViT", "mask attention"])
def test_what_has_no_last_stage_says_so(name: str) -> None:
    with pytest.raises(NotImplementedError, match="a mask head needs a ResNet's last stage"):
        MAKERS[name]().view([prepared(24, 24)]).of(0).last_stage_cells(torch.zeros(0, 4))


@pytest.mark.parametrize("name", ["ViT", "layer4"])
def test_a_budget_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="memory_budget must be positive, got 0 bytes"):
        MAKERS[name](memory_budget=0)
    with pytest.raises(ValueError, match="at_once must be at least 1, got 0"):
        MAKERS["mask attention"](at_once=0)


def test_few_at_once_are_answered_as_many_are() -> None:
    boxes = torch.rand(5, 4).sort(dim=1).values * 24
    many, few = (
        MAKERS["mask attention"](at_once=number).view([prepared(24, 24)]).of(0).features(boxes)
        for number in (100, 2)
    )
    torch.testing.assert_close(few, many, rtol=1e-4, atol=1e-5)
