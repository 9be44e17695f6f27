from dataclasses import replace
from math import exp, log

import pytest
import torch

from regionclip.losses import (
    CaptionLossOptions,
    TagLossOptions,
    caption_region_loss,
    tag_region_loss,
)

CAPTIONS = CaptionLossOptions(weight=1.0, scale=2.0, regions_per_picture=None)
TAGS = TagLossOptions(weight=1.0, scale=2.0)
EYE = torch.eye(3)


def softplus(x: float) -> float:
    return log(1 + exp(x))


def test_own_captions_share_a_weight_of_one_and_others_have_an_eighth() -> None:
    regions = torch.tensor([[7.0, 0, 0], [0, 0, 0.1]])
    is_own = torch.tensor([[True, True, False], [False, False, False]])
    loss = caption_region_loss(regions, EYE, is_own, bias=-1.0, options=CAPTIONS)
    # logits: 2 - 1 and -1, -1; the second region has no caption of its own
    first = (softplus(-1) + softplus(1)) / 2 + softplus(-1) / 8
    second = (softplus(-1) + softplus(-1) + softplus(1)) / 8
    assert float(loss.total) == pytest.approx(first + second)
    assert float(loss.count) == 2


def test_the_sum_is_divided_by_a_number_per_picture_where_one_is_given() -> None:
    is_own = torch.eye(3, dtype=torch.bool)
    loss = caption_region_loss(EYE, EYE, is_own, bias=0.0, options=CAPTIONS)
    fixed = replace(CAPTIONS, regions_per_picture=3.0, weight=0.1)
    other = caption_region_loss(EYE, EYE, is_own, bias=0.0, options=fixed, num_pictures=2)
    assert float(other.mean()) == pytest.approx(0.1 * float(loss.mean()) / 2)


def test_tags_cost_a_sum_over_classes_and_a_mean_over_regions() -> None:
    regions = torch.tensor([[1.0, 0, 0], [1, 0, 0]])
    is_named = torch.tensor([[True, False, False], [False, False, False]])
    loss = tag_region_loss(regions, 5 * EYE, is_named, bias=-1.0, options=TAGS)
    first = softplus(-1) + 2 * softplus(-1)
    second = softplus(1) + 2 * softplus(-1)
    assert float(loss.mean()) == pytest.approx((first + second) / 2)


def test_gradients_reach_regions_and_bias_and_draw_a_region_to_its_caption() -> None:
    regions = torch.tensor([[0.6, 0.8, 0.0]], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    is_own = torch.tensor([[True, False, False]])
    caption_region_loss(regions, EYE, is_own, bias=bias, options=CAPTIONS).mean().backward()
    assert regions.grad is not None
    assert bias.grad is not None
    assert regions.grad[0, 0] < 0 < regions.grad[0, 1]


def test_no_region_costs_nothing_and_keeps_gradients_whole() -> None:
    regions = torch.zeros(0, 3, requires_grad=True)
    none = torch.zeros(0, 3, dtype=torch.bool)
    for loss in (
        caption_region_loss(regions, EYE, none, bias=0.0, options=CAPTIONS),
        tag_region_loss(regions, EYE, none, bias=0.0, options=TAGS),
    ):
        assert loss.mean().item() == 0
        loss.mean().backward()


def test_impossible_options_are_refused() -> None:
    for options in (CAPTIONS, TAGS):
        with pytest.raises(ValueError, match="weight must not be negative, got -1"):
            replace(options, weight=-1.0)
        with pytest.raises(ValueError, match="scale must be positive, got 0"):
            replace(options, scale=0.0)
    with pytest.raises(ValueError, match="regions_per_picture must be positive"):
        replace(CAPTIONS, regions_per_picture=0.0)
    with pytest.raises(ValueError, match="queue_size must not be negative"):
        replace(CAPTIONS, queue_size=-1)
