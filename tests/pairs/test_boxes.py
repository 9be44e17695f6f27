import pytest
import torch

from regionclip.pairs import LabelledRegions, Permutation, pair_regions, random_permutation
from regionclip.pairs.boxes import foreground_rows, in_chunks, sample_rows
from regionclip.structures import Targets

BACKGROUND = 3
TARGETS = Targets(
    boxes=torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]]), labels=torch.tensor([2, 0])
)
NO_TARGETS = Targets(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
PROPOSALS = torch.tensor(
    [
        [0.0, 0, 10, 5],  # half of the first object
        [0.0, 0, 10, 4.9],  # a little less
        [50.0, 50, 60, 60],  # nothing
        [20.0, 20, 40, 38],  # nearly the second
    ]
)


def paired(
    proposals: torch.Tensor = PROPOSALS,
    targets: Targets = TARGETS,
    permutation: Permutation = torch.arange,
    **options: float,
) -> LabelledRegions:
    return pair_regions(
        proposals,
        targets,
        num_classes=BACKGROUND,
        permutation=permutation,
        **options,  # type: ignore[arg-type]
    )


def test_regions_take_the_label_of_the_object_that_they_overlap_by_half() -> None:
    found = paired(foreground_share=1.0)
    # two proposals and the two objects' own boxes, in that order, then background
    assert torch.equal(found.boxes[:2], PROPOSALS[[0, 3]])
    assert torch.equal(found.boxes[2:4], TARGETS.boxes)
    assert torch.equal(found.boxes[4:], PROPOSALS[[1, 2]])
    assert found.labels.tolist() == [2, 0, 2, 0, BACKGROUND, BACKGROUND]
    assert found.target_index.tolist() == [0, 1, 0, 1, 0, 0]
    assert found.num_foreground == 4
    assert len(found) == 6


def test_at_most_a_quarter_is_on_objects() -> None:
    background = torch.tensor([[50.0, 50, 60, 60]]).repeat(20, 1)
    found = paired(torch.cat([PROPOSALS, background]), regions_per_image=8)
    assert found.num_foreground == 2
    assert found.labels.tolist() == [2, 0] + [BACKGROUND] * 6


def test_background_fills_what_objects_leave_free() -> None:
    background = torch.tensor([[50.0, 50, 60, 60]]).repeat(20, 1)
    found = paired(background, regions_per_image=16)
    assert found.num_foreground == 2
    assert len(found) == 16


def test_without_objects_all_is_background() -> None:
    found = paired(targets=NO_TARGETS)
    assert found.labels.tolist() == [BACKGROUND] * 4
    assert found.target_index.tolist() == [0] * 4
    assert found.num_foreground == 0


def test_without_proposals_the_objects_are_the_regions() -> None:
    found = paired(torch.zeros(0, 4), regions_per_image=8)
    assert torch.equal(found.boxes, TARGETS.boxes)
    assert found.labels.tolist() == [2, 0]


def test_without_proposals_and_objects_there_is_no_region() -> None:
    found = paired(torch.zeros(0, 4), NO_TARGETS)
    assert len(found) == 0
    assert found.num_foreground == 0


def test_one_seed_draws_one_sample_whatever_happened_before() -> None:
    many = torch.rand(100, 4).cumsum(dim=1)
    first = paired(many, permutation=random_permutation(7), regions_per_image=10)
    torch.rand(3)
    again = paired(many, permutation=random_permutation(7), regions_per_image=10)
    other = paired(many, permutation=random_permutation(8), regions_per_image=10)
    assert torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.boxes, other.boxes)


def test_every_region_is_drawn_equally_often() -> None:
    is_background = torch.ones(10, dtype=torch.bool)
    permutation = random_permutation(0)
    counts = torch.zeros(10)
    for _ in range(2000):
        foreground, background = sample_rows(
            ~is_background, is_background, count=3, foreground_share=0.5, permutation=permutation
        )
        assert len(foreground) == 0
        counts[background] += 1
    # 600 each; five standard deviations of a binomial with 2000 draws at 0.3
    assert (counts - 600).abs().max() < 5 * (2000 * 0.3 * 0.7) ** 0.5


def test_rows_that_are_neither_are_never_drawn() -> None:
    is_foreground = torch.tensor([True, False, False, False])
    is_background = torch.tensor([False, True, False, False])
    foreground, background = sample_rows(
        is_foreground, is_background, count=4, foreground_share=0.5, permutation=torch.arange
    )
    assert (foreground.tolist(), background.tolist()) == ([0], [1])


@pytest.mark.parametrize("label", [-1, 3, 50])
def test_a_label_that_is_no_training_class_is_refused(label: int) -> None:
    targets = Targets(TARGETS.boxes, torch.tensor([0, label]))
    with pytest.raises(ValueError, match=rf"has the label {label}, but 3 classes are trained"):
        paired(targets=targets)


def rows_of(count: int, num_foreground: int, start: int = 0) -> LabelledRegions:
    boxes = torch.arange(start, start + count)[:, None].repeat(1, 4).float()
    index = torch.arange(count)
    return LabelledRegions(boxes, index, index, num_foreground)


def test_regions_are_cut_into_pieces_across_images() -> None:
    regions = [rows_of(3, 1), rows_of(0, 0), rows_of(4, 3, start=3)]
    chunks = in_chunks(regions, 2)
    assert [[image for image, _ in chunk] for chunk in chunks] == [[0], [0, 2], [2], [2]]
    assert [sum(len(part) for _, part in chunk) for chunk in chunks] == [2, 2, 2, 1]
    parts = [part for chunk in chunks for _, part in chunk]
    assert torch.cat([part.boxes[:, 0] for part in parts]).tolist() == list(range(7))
    assert [part.num_foreground for part in parts] == [1, 0, 1, 2, 0]
    assert [image for image, _ in in_chunks(regions, 100)[0]] == [0, 2]
    assert in_chunks([rows_of(0, 0)], 5) == [[]]


def test_rows_on_objects_are_found_across_images() -> None:
    regions = [rows_of(3, 1), rows_of(0, 0), rows_of(4, 2)]
    assert foreground_rows(regions).tolist() == [0, 3, 4]
    assert foreground_rows([]).tolist() == []
