import math

import pytest
import torch
from torchvision.ops import generalized_box_iou

from regionclip.losses import LossSum, QueryLoss, query_loss
from regionclip.losses.queries import paired_giou
from regionclip.pairs import QueryMatches

BOXES = torch.tensor([[[0.25, 0.3, 0.1, 0.2], [0.7, 0.7, 0.2, 0.2]]])
OBJECTS = [torch.tensor([[0.3, 0.3, 0.2, 0.2]])]


def matches(query: list[int], target: list[int]) -> list[QueryMatches]:
    own = [torch.tensor(each, dtype=torch.int64) for each in (query, target)]
    return [QueryMatches(own[0], own[1])]


def parts(loss: QueryLoss) -> dict[str, LossSum]:
    return {"objectness": loss.objectness, "boxes": loss.boxes, "giou": loss.giou}


def test_losses_are_those_worked_out_by_hand() -> None:
    loss = query_loss(BOXES, torch.zeros(1, 2), OBJECTS, matches([0], [0]), num_matched=4)
    # centres 0.05 apart and widths 0.1; half of the object, inside it
    assert loss.boxes.total.item() == pytest.approx(0.15)
    assert loss.giou.total.item() == pytest.approx(0.5)
    # (0.25 + 0.75) * 0.5 ** 2 * log 2: one object, one other
    assert loss.objectness.total.item() == pytest.approx(0.25 * math.log(2))
    assert all(part.count.item() == 4 for part in parts(loss).values())


def test_a_sure_and_right_objectness_costs_nothing() -> None:
    logits = torch.tensor([[30.0, -30.0]])
    loss = query_loss(BOXES, logits, OBJECTS, matches([0], [0]), num_matched=1)
    assert loss.objectness.total.item() == pytest.approx(0.0, abs=1e-6)
    swapped = query_loss(BOXES, -logits, OBJECTS, matches([0], [0]), num_matched=1)
    assert swapped.objectness.total.item() == pytest.approx(30 * (0.25 + 0.75), rel=1e-4)


def test_without_a_match_only_objectness_costs_and_all_have_a_gradient() -> None:
    boxes, logits = BOXES.clone().requires_grad_(), torch.zeros(1, 2, requires_grad=True)
    for objects in (OBJECTS, [torch.zeros(0, 4)]):
        loss = query_loss(boxes, logits, objects, matches([], []), num_matched=0)
        sum(part.total for part in parts(loss).values()).backward()  # type: ignore[union-attr]
        assert loss.boxes.total.item() == loss.giou.total.item() == 0
        assert loss.objectness.mean().item() == pytest.approx(2 * 0.75 * 0.25 * math.log(2))
    assert boxes.grad is not None
    assert boxes.grad.abs().sum() == 0
    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_images_add_up() -> None:
    boxes = BOXES.expand(2, -1, -1)
    one = query_loss(BOXES, torch.zeros(1, 2), OBJECTS, matches([0], [0]), num_matched=1)
    none = query_loss(BOXES, torch.zeros(1, 2), [torch.zeros(0, 4)], matches([], []), num_matched=0)
    both = query_loss(
        boxes,
        torch.zeros(2, 2),
        [*OBJECTS, torch.zeros(0, 4)],
        [*matches([0], [0]), *matches([], [])],
        num_matched=1,
    )
    for name, part in parts(both).items():
        total = parts(one)[name].total + parts(none)[name].total
        assert part.total.item() == pytest.approx(total.item()), name


def test_paired_giou_is_the_diagonal_of_all_pairs() -> None:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(2, 20, 4, generator=generator) * 0.4
    corners[:, :, 2:] += corners[:, :, :2] + 0.01
    centred = torch.cat(
        [(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], dim=-1
    )
    expected = generalized_box_iou(corners[0], corners[1]).diagonal()
    torch.testing.assert_close(paired_giou(centred[0], centred[1]), expected, rtol=1e-4, atol=1e-5)
    assert expected.min() < 0 < expected.max()


def test_paired_giou_of_tiny_boxes_is_exact() -> None:
    tiny = torch.tensor([[0.5, 0.5, 1e-4, 1e-4]])
    assert paired_giou(tiny, tiny).item() == pytest.approx(1.0, rel=1e-3)
    assert paired_giou(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)
