from dataclasses import replace

import torch
from torch import Tensor, nn

from regionclip.methods.fvit.model import build
from regionclip.methods.fvit.nas_pyramid import (
    MERGES,
    OUTPUTS,
    MergingPass,
    NasNeck,
    merged_maps,
    resized,
)
from tests.fvit_files import TINY_FVIT


def levels(batch: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(batch, 1, side, side, generator=generator) for side in (16, 8, 4, 2, 1)]


def test_maps_are_merged_by_hand() -> None:
    first = torch.tensor([[[[0.0, 2.0]], [[-1.0, -3.0]]]])
    second = torch.tensor([[[[10.0, 20.0]], [[30.0, 40.0]]]])
    assert torch.equal(merged_maps(first, second, how="sum"), first + second)
    gates = torch.tensor([2.0, -1.0]).sigmoid()[None, :, None, None]
    torch.testing.assert_close(merged_maps(first, second, how="gate"), first + second * gates)


def test_maps_are_resized_by_repeating_or_by_maxima() -> None:
    small = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(resized(small, (4, 4)), large)
    assert torch.equal(resized(large + torch.eye(4), (2, 2)), small + torch.eye(2))
    assert torch.equal(resized(small, (2, 2)), small)


@torch.no_grad()
def test_a_pass_merges_in_the_order_of_the_paper() -> None:
    """With layers that change nothing, on maps that are not negative."""
    own = MergingPass(1).eval()
    for layer in own.layers:
        kernel = layer.get_submodule("1").get_parameter("weight")
        nn.init.dirac_(kernel)
        norm = layer.get_submodule("2")
        assert isinstance(norm, nn.BatchNorm2d)
        norm.eps = 0.0
    p3, p4, p5, p6, p7 = levels()

    def gate(one: Tensor, other: Tensor) -> Tensor:
        return one + other * one.amax(dim=(2, 3), keepdim=True).sigmoid()

    low = p4 + gate(p4, resized(p6, (8, 8)))
    o3 = p3 + resized(low, (16, 16))
    o4 = low + resized(o3, (8, 8))
    o5 = gate(resized(o3, (4, 4)), resized(o4, (4, 4))) + p5
    o7 = gate(resized(low, (1, 1)), resized(o5, (1, 1))) + p7
    o6 = gate(resized(o5, (2, 2)), resized(o7, (2, 2)))
    for found, expected in zip(own(levels()), (o3, o4, o5, o6, o7), strict=True):
        torch.testing.assert_close(found, expected)
    assert len(MERGES) == 7
    assert sorted(OUTPUTS) == [7, 8, 9, 10, 11]


def test_a_detector_may_have_this_pyramid() -> None:
    model = build(replace(TINY_FVIT, neck="nas-fpn", neck_passes=2))
    assert isinstance(model.neck, NasNeck)
    with torch.no_grad():
        found = model.levels(model.maps(model.prepare([torch.rand(3, 40, 50)])))
    assert [each.shape[1:] for each in found] == [(8, side, side) for side in (64, 32, 16, 8, 4)]
    none = [torch.zeros(0, 16, side, side) for side in (64, 32, 16, 8)]
    assert [len(each) for each in model.neck(none)] == [0] * 5
    own = NasNeck((16, 16, 16, 16), 8, num_passes=3)
    assert len(own.passes) == 3
    assert len({id(each) for each in own.parameters()}) == 4 * 3 + 3 * 7 * 3
