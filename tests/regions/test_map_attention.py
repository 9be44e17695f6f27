import pytest
import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from regionclip.regions.map_attention import BOXES_PER_CHUNK, pool_boxes_on_map
from tests.tiny_clip import tiny_clip

MAP_HW = (5, 7)


@pytest.fixture
def pool() -> AttentionPool2d:
    return tiny_clip().visual.attnpool


def feature_map(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(256, *MAP_HW, generator=generator)


def random_cells(count: int, seed: int = 1) -> Tensor:
    """Boxes in cells of the map, many of which reach outside."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 9 - 2
    return torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 6], dim=1)


def plainly(layer4_map: Tensor, boxes: Tensor, pool: AttentionPool2d) -> Tensor:
    """The same as it is defined: three maps projected, cut out one by one, one query."""
    channels, height, width = layer4_map.shape
    cells = layer4_map.flatten(1).T
    bins = []
    for layer in (pool.q_proj, pool.k_proj, pool.v_proj):
        projected = layer(cells).T.reshape(1, -1, height, width)
        bins.append(roi_align(projected, [boxes], 2, 1.0, aligned=True).flatten(2).mT)
    positions = pool.positional_embedding
    query = bins[0].mean(dim=1, keepdim=True) + positions[:1] @ pool.q_proj.weight.T
    key = bins[1] + positions[1:] @ pool.k_proj.weight.T
    value = bins[2] + positions[1:] @ pool.v_proj.weight.T
    heads = [
        each.unflatten(2, (pool.num_heads, -1)).transpose(1, 2) for each in (query, key, value)
    ]
    answer = F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(-1, channels)
    return pool.c_proj(answer)


def test_it_equals_three_projected_maps_cut_out_box_by_box(pool: AttentionPool2d) -> None:
    boxes = random_cells(50)
    found = pool_boxes_on_map(feature_map(), boxes, pool)
    torch.testing.assert_close(found, plainly(feature_map(), boxes, pool), rtol=1e-4, atol=1e-5)


def test_biases_count_for_the_inside_only(pool: AttentionPool2d) -> None:
    # wholly outside every projected bin is zero: uniform over what the positions alone attend to
    outside = torch.tensor([[20.0, 20.0, 24.0, 24.0]])
    found = pool_boxes_on_map(feature_map(), outside, pool)
    torch.testing.assert_close(found, plainly(feature_map(), outside, pool), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, pool_boxes_on_map(feature_map(3), outside, pool))
    halfway = torch.tensor([[5.0, 2.0, 9.0, 4.0]])
    with torch.no_grad():
        torch.nn.init.normal_(pool.v_proj.bias)
    found = pool_boxes_on_map(feature_map(), halfway, pool)
    torch.testing.assert_close(found, plainly(feature_map(), halfway, pool), rtol=1e-4, atol=1e-5)


def test_boxes_do_not_depend_on_each_other_or_on_chunks(pool: AttentionPool2d) -> None:
    boxes = random_cells(BOXES_PER_CHUNK + 5)
    found = pool_boxes_on_map(feature_map(), boxes, pool)
    assert len(found) == len(boxes)
    few = pool_boxes_on_map(feature_map(), boxes[-7:], pool)
    torch.testing.assert_close(found[-7:], few, rtol=1e-4, atol=1e-5)


def test_no_boxes_give_no_vectors(pool: AttentionPool2d) -> None:
    assert pool_boxes_on_map(feature_map(), torch.zeros(0, 4), pool).shape == (0, 12)
