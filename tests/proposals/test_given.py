from typing import Any

import numpy as np
import pytest
import torch

from regionclip.proposals.given import GivenBoxes
from regionclip.proposals.proposer import Proposer
from regionclip.structures import PreparedImage, Proposals

ROWS = [[10, 20, 30, 40], [0, 0, 100, 50]]


def image(name: str = "a.jpg") -> PreparedImage:
    """100x50 pixels in the original, twice that in the network."""
    return PreparedImage(torch.zeros(3, 100, 200), (50, 100), name)


def proposals_of(boxes: Any) -> Proposals:
    return GivenBoxes({"a.jpg": boxes}).propose([image()])[0]


def test_given_boxes_are_a_proposer() -> None:
    assert isinstance(GivenBoxes({}), Proposer)
    assert GivenBoxes({}).propose([]) == []


@pytest.mark.parametrize("boxes", [ROWS, np.array(ROWS), torch.tensor(ROWS).double()])
def test_boxes_move_from_the_original_to_the_prepared_image(boxes: Any) -> None:
    proposals = proposals_of(boxes)
    assert proposals.boxes.tolist() == [[20, 40, 60, 80], [0, 0, 200, 100]]
    assert proposals.objectness is None


def test_the_part_outside_the_image_is_cut_off_and_rows_stay() -> None:
    boxes = proposals_of([[-5, -5, 200, 200], [110, 0, 120, 9], [0, 0, 1, 1]]).boxes
    assert boxes.tolist() == [[0, 0, 200, 100], [200, 0, 200, 18], [0, 0, 2, 2]]


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), torch.zeros(0)])
def test_no_boxes_give_zero_rows(boxes: Any) -> None:
    assert proposals_of(boxes).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    "boxes",
    [
        [[1, 2, 3]],
        [1, 2, 3, 4],
        5,
        [["a", 2, 3, 4]],
        [[1, 2, 3, 4], [1, 2]],
        [[1, 2, 3, float("nan")]],
        [[9, 2, 3, 4]],
    ],
)
def test_wrong_boxes_are_refused_with_the_name_of_their_image(boxes: Any) -> None:
    with pytest.raises(ValueError, match=r"the boxes of a.jpg cannot be used: .+"):
        proposals_of(np.array(boxes) if isinstance(boxes, int) else boxes)


def test_every_image_gets_the_boxes_under_its_name() -> None:
    proposer = GivenBoxes({"a.jpg": [[0, 0, 10, 10]], "b.jpg": []})
    b, a = proposer.propose([image("b.jpg"), image("a.jpg")])
    assert len(b) == 0
    assert a.boxes.tolist() == [[0, 0, 20, 20]]


def test_an_image_without_entry_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no boxes were given for c.jpg; boxes were .* a.jpg"):
        GivenBoxes({"a.jpg": []}).propose([image("c.jpg")])
