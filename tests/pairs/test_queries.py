from dataclasses import replace

import pytest
import torch

from regionclip.pairs import MatchingCosts, QueryMatches, match_queries
from regionclip.pairs.queries import pair_costs

COSTS = MatchingCosts()
NONE = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
OBJECTS = torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]])
NEAR = OBJECTS + torch.tensor([0.01, 0.0, 0.0, 0.0])


def matched(
    boxes: torch.Tensor,
    query_labels: list[int],
    target_labels: list[int],
    *,
    targets: torch.Tensor = OBJECTS,
    objectness: torch.Tensor | None = None,
) -> list[tuple[int, int]]:
    """Pairs of query and object in a single layer."""
    logits = torch.zeros(len(boxes)) if objectness is None else objectness
    [found] = match_queries(
        boxes[None],
        logits[None],
        torch.tensor(query_labels, dtype=torch.int64),
        targets,
        torch.tensor(target_labels, dtype=torch.int64),
        costs=COSTS,
    )
    return list(zip(found.query_index.tolist(), found.target_index.tolist(), strict=True))


def test_queries_find_the_objects_that_they_are_on() -> None:
    assert matched(NEAR, [3, 3], [3, 3]) == [(0, 0), (1, 1)]
    assert matched(NEAR.flip(0), [3, 3], [3, 3]) == [(0, 1), (1, 0)]


def test_a_query_of_another_class_finds_nothing() -> None:
    # both are on the objects, and only one asks for its class
    assert matched(NEAR, [3, 4], [3, 3]) == [(0, 0)]
    assert matched(NEAR, [4, 4], [3, 3]) == []


def test_an_object_that_no_query_of_its_class_overlaps_stays_without_one() -> None:
    far = torch.tensor([[0.1, 0.9, 0.05, 0.05], [0.7, 0.7, 0.2, 0.2]])
    assert matched(far, [3, 3], [3, 3]) == [(1, 1)]
    # the other class's query overlaps the first object: that does not count
    boxes = torch.cat([far, NEAR[:1]])
    assert matched(boxes, [3, 3, 5], [3, 3]) == [(1, 1)]


def test_an_object_that_is_overlapped_may_get_a_query_beside_it() -> None:
    # one query on both objects of the class: the other object takes the one beside it
    both = torch.tensor([[0.5, 0.5, 0.62, 0.62], [0.1, 0.9, 0.05, 0.05]])
    assert len(matched(both, [3, 3], [3, 3])) == 2


def test_no_query_has_two_objects() -> None:
    both = torch.tensor([[0.5, 0.5, 0.62, 0.62]])
    assert len(matched(both, [3], [3, 3])) == 1


def test_the_surer_of_two_like_boxes_is_taken() -> None:
    boxes = NEAR[[0, 0, 1]]
    sure = torch.tensor([-2.0, 2.0, 0.0])
    assert matched(boxes, [3, 3, 3], [3, 3], objectness=sure) == [(1, 0), (2, 1)]


def test_each_layer_is_matched_by_its_own_boxes() -> None:
    layers = torch.stack([NEAR, NEAR.flip(0)])
    labels = torch.tensor([1, 1])
    first, second = match_queries(layers, torch.zeros(2, 2), labels, OBJECTS, labels, costs=COSTS)
    assert first.target_index.tolist() == [0, 1]
    assert second.target_index.tolist() == [1, 0]


def test_an_image_without_objects_and_a_detector_without_queries_match_nothing() -> None:
    [found] = match_queries(NEAR[None], torch.zeros(1, 2), torch.tensor([0, 1]), *NONE, costs=COSTS)
    assert len(found) == 0
    none = torch.zeros(1, 0, 4), torch.zeros(1, 0), torch.zeros(0, dtype=torch.int64)
    [found] = match_queries(*none, OBJECTS, torch.tensor([0, 1]), costs=COSTS)
    assert len(found) == 0
    assert found.target_index.dtype == torch.int64


def test_boxes_that_are_no_numbers_match_nothing() -> None:
    assert matched(NEAR * float("nan"), [3, 3], [3, 3]) == []


def test_a_pairs_cost_is_that_worked_out_by_hand() -> None:
    # half the object: IoU and generalized IoU 0.5; centres 0.05 apart, widths 0.1
    boxes = torch.tensor([[[0.25, 0.3, 0.1, 0.2]]])
    ious = torch.tensor([[[0.5]]])
    cost = pair_costs(boxes, torch.zeros(1, 1), OBJECTS[:1], generalized_ious=ious, costs=COSTS)
    # objectness 0.5: (0.25 - 0.75) * 0.25 * log 2
    assert cost.item() == pytest.approx(5 * 0.15 + 2 * -0.125 * 0.693147 - 2 * 0.5, rel=1e-5)
    only_boxes = replace(COSTS, objectness=0.0, giou=0.0)
    cost = pair_costs(
        boxes, torch.zeros(1, 1), OBJECTS[:1], generalized_ious=ious, costs=only_boxes
    )
    assert cost.item() == pytest.approx(0.75)


def test_matches_do_not_depend_on_the_order_of_queries() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = OBJECTS.repeat(15, 1) + 0.05 * torch.rand(30, 4, generator=generator)
    labels = torch.randint(2, (30,), generator=generator).tolist()
    plain = set(matched(boxes, labels, [0, 1]))
    order = torch.randperm(30, generator=generator)
    mixed = matched(boxes[order], [labels[row] for row in order.tolist()], [0, 1])
    assert {(int(order[query]), target) for query, target in mixed} == plain
    assert len(plain) == 2


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="giou must not be negative, got -1"):
        MatchingCosts(giou=-1.0)


def test_matches_tell_their_number() -> None:
    assert len(QueryMatches(torch.tensor([4, 7]), torch.tensor([1, 0]))) == 2
