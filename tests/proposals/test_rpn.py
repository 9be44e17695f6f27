from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from regionclip.proposals.proposer import Proposer
from regionclip.proposals.rpn import (
    RPN_FORMS,
    RegionProposalNetwork,
    RpnConfig,
    RpnLevel,
    RpnSelection,
    select_proposals,
)
from regionclip.structures import PreparedImage

TINY_C4 = RpnConfig(
    layers=(1, 1),
    width=8,
    strided_conv="conv2",
    pyramid_channels=None,
    anchor_sizes=((12.0, 24.0),),
    channel_order="rgb",
    pixel_range=1.0,
    pixel_mean=(0.5, 0.5, 0.5),
    pixel_std=(0.25, 0.25, 0.25),
)
TINY_FPN = replace(
    TINY_C4, pyramid_channels=16, pyramid_has_norm=True, anchor_sizes=((8.0,), (16.0,), (32.0,))
)


def prepared(height: int, width: int, *, seed: int = 0) -> PreparedImage:
    pixels = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    return PreparedImage(pixels=pixels, original_size_hw=(height, width), name=f"image {seed}")


def network(config: RpnConfig) -> RegionProposalNetwork:
    torch.manual_seed(0)
    made = RegionProposalNetwork(config).eval()
    nn.init.normal_(made.head.cls_logits.weight, std=0.3)
    nn.init.normal_(made.head.bbox_pred.weight, std=0.1)
    return made


def one_level(logits: Sequence[float], anchors: Sequence[Sequence[float]]) -> RpnLevel:
    boxes = torch.tensor(anchors, dtype=torch.float32).reshape(-1, 4)
    return RpnLevel(
        logits=torch.tensor([logits], dtype=torch.float32),
        deltas=torch.zeros(1, len(logits), 4),
        anchors=boxes,
    )


def select(levels: list[RpnLevel], **options: float) -> tuple[Tensor, Tensor]:
    (proposals,) = select_proposals(levels, (100, 100), RpnSelection(**options))  # pyright: ignore
    assert proposals.objectness is not None
    return proposals.boxes, proposals.objectness


def test_selection_sorts_clips_and_drops_what_lies_outside() -> None:
    level = one_level([1.0, 3.0, 2.0], [[-10, -10, 20, 20], [50, 50, 130, 130], [100, 10, 120, 30]])
    boxes, objectness = select([level])
    assert boxes.tolist() == [[50, 50, 100, 100], [0, 0, 20, 20]]
    assert objectness.tolist() == [3, 1]


def test_nms_drops_the_lower_box_of_the_same_level_only() -> None:
    level = one_level([2.0, 1.0], [[0, 0, 40, 40], [0, 0, 40, 38]])
    assert select([level], nms_iou=0.9)[1].tolist() == [2]
    assert select([level], nms_iou=0.96)[1].tolist() == [2, 1]
    other = one_level([1.5], [[0, 0, 40, 40]])
    assert select([level, other], nms_iou=0.9)[1].tolist() == [2, 1.5]


def test_topk_cuts_each_level_before_nms_and_all_levels_after() -> None:
    boxes = [[0, 0, 40, 40], [0, 0, 40, 39], [60, 60, 90, 90]]
    level = one_level([3.0, 2.0, 1.0], boxes)
    assert select([level], pre_nms_topk=2)[1].tolist() == [3], "the far box never entered"
    other = one_level([2.5], [[10, 60, 30, 90]])
    assert select([level, other], post_nms_topk=2)[1].tolist() == [3, 2.5]


def test_rows_that_are_not_finite_are_dropped() -> None:
    level = one_level([torch.nan, 1.0, 2.0], [[0, 0, 9, 9], [20, 20, 40, 40], [50, 50, 70, 70]])
    level.deltas[0, 2, 0] = torch.inf
    assert select([level])[0].tolist() == [[20, 20, 40, 40]]


def test_deltas_move_and_scale_the_anchor() -> None:
    level = one_level([0.0], [[20, 20, 40, 60]])
    level.deltas[0, 0] = torch.tensor([0.5, -0.25, torch.log(torch.tensor(2.0)), 0.0])
    torch.testing.assert_close(select([level])[0], torch.tensor([[20.0, 10.0, 60.0, 50.0]]))


@pytest.mark.parametrize("config", [TINY_C4, TINY_FPN], ids=["c4", "fpn"])
def test_proposals_lie_inside_the_image_in_decreasing_objectness(config: RpnConfig) -> None:
    proposer = network(config)
    assert isinstance(proposer, Proposer)
    (proposals,) = proposer.propose([prepared(50, 70)])
    assert proposals.objectness is not None
    assert len(proposals) == len(proposals.objectness) > 10
    assert (proposals.objectness.diff() <= 0).all()
    assert (proposals.boxes >= 0).all()
    assert (proposals.boxes <= torch.tensor([70.0, 50.0, 70.0, 50.0])).all()
    assert (proposals.boxes[:, 2:] > proposals.boxes[:, :2]).all()
    assert not proposals.boxes.requires_grad


def test_no_image_gives_no_result() -> None:
    assert network(TINY_C4).propose([]) == []


@pytest.mark.parametrize("config", [TINY_C4, TINY_FPN], ids=["c4", "fpn"])
def test_proposals_do_not_depend_on_batch_mates_and_keep_the_images_order(
    config: RpnConfig,
) -> None:
    proposer = network(config)
    images = [prepared(50, 70), prepared(90, 40, seed=1), prepared(50, 70, seed=2)]
    for together, image in zip(proposer.propose(images), images, strict=True):
        (alone,) = proposer.propose([image])
        assert together.objectness is not None
        assert alone.objectness is not None
        torch.testing.assert_close(together.objectness, alone.objectness)
        torch.testing.assert_close(together.boxes, alone.boxes, rtol=0, atol=1e-3)


@pytest.mark.parametrize("config", [TINY_C4, TINY_FPN], ids=["c4", "fpn"])
def test_forward_has_one_row_per_anchor_and_trains(config: RpnConfig) -> None:
    proposer = network(config).train()
    images = proposer.prepare([torch.rand(3, 48, 64), torch.rand(3, 33, 50)])
    levels = proposer(images)
    assert len(levels) == len(config.strides)
    for level, stride in zip(levels, config.strides, strict=True):
        cells = (images.shape[2] // stride) * (images.shape[3] // stride)
        count = cells * 3 * len(config.anchor_sizes[0])
        assert level.anchors.shape == (count, 4)
        assert level.logits.shape == (2, count)
        assert level.deltas.shape == (2, count, 4)
    loss = sum(level.logits.square().sum() + level.deltas.square().sum() for level in levels)
    assert isinstance(loss, Tensor)
    loss.backward()
    assert all(parameter.grad is not None for parameter in proposer.parameters())


def test_rows_of_logits_deltas_and_anchors_belong_together() -> None:
    proposer = network(TINY_C4)
    images = proposer.prepare([torch.rand(3, 40, 64)])
    with torch.no_grad():
        (level,) = proposer(images)
        logits, deltas = proposer.head(proposer.feature_maps(images))
    row, column, anchor = 2, 5, 4
    index = (row * 8 + column) * 6 + anchor
    assert level.logits[0, index] == logits[0][0, anchor, row, column]
    assert (level.deltas[0, index] == deltas[0][0, 4 * anchor : 4 * anchor + 4, row, column]).all()
    center = (level.anchors[index, :2] + level.anchors[index, 2:]) / 2
    assert center.tolist() == [column * 8, row * 8]


def test_prepare_turns_white_into_bgr_statistics_and_pads_with_zero() -> None:
    fpn = RPN_FORMS["fpn"]
    proposer = RegionProposalNetwork(replace(TINY_FPN, channel_order=fpn.channel_order))
    proposer.config = fpn
    image = torch.tensor([1.0, 0.5, 0.0])[:, None, None].expand(3, 33, 64)
    batch = proposer.prepare([image])
    assert batch.shape == (1, 3, 64, 64)
    expected = torch.tensor([0 - 103.53, 127.5 - 116.28, 255 - 123.675])
    torch.testing.assert_close(batch[0, :, 0, 0], expected, rtol=1e-5, atol=1e-4)
    assert (batch[0, :, 33:] == 0).all()


def test_folded_network_proposes_the_same() -> None:
    proposer = network(TINY_FPN)
    (expected,) = proposer.propose([prepared(64, 64)])
    proposer.fold_batch_norms()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in proposer.modules())
    (folded,) = proposer.propose([prepared(64, 64)])
    assert expected.objectness is not None
    assert folded.objectness is not None
    torch.testing.assert_close(folded.objectness, expected.objectness, rtol=1e-4, atol=1e-4)
    assert (box_iou(folded.boxes, expected.boxes).diagonal() > 0.999).all()


def test_bfloat16_network_gives_float32_boxes() -> None:
    (proposals,) = network(TINY_C4).to(torch.bfloat16).propose([prepared(40, 40)])
    assert proposals.objectness is not None
    assert (proposals.boxes.dtype, proposals.objectness.dtype) == (torch.float32, torch.float32)


def test_strides_and_padding_follow_the_stages() -> None:
    assert RPN_FORMS["c4"].strides == (16,)
    assert RPN_FORMS["c4"].size_divisor == 1
    assert RPN_FORMS["fpn"].strides == (4, 8, 16, 32, 64)
    assert RPN_FORMS["fpn"].size_divisor == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchor_sizes": ((8.0,),)}, r"one row for each of the strides \(4, 8, 16\), got 1"),
        ({"anchor_sizes": ((8.0,), (8.0,), (8.0, 9.0))}, "equally many sizes per level"),
        ({"backbone": "clip_resnet"}, r"needs four layers and pyramid_channels, got \(1, 1\)"),
    ],
)
def test_config_refuses_what_does_not_fit_together(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_FPN, **change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nms_iou": 0.0}, r"nms_iou must be in \(0, 1\], got 0.0"),
        ({"pre_nms_topk": 0}, "must be at least 1, got 0 and 1000"),
        ({"post_nms_topk": 0}, "must be at least 1, got 1000 and 0"),
    ],
)
def test_selection_refuses_numbers_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RpnSelection(**options)
