import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regionclip.data.augmentation import Augmentation
from regionclip.data.detection_loading import detection_batches
from regionclip.data.images import ImageReadError
from regionclip.data.sampling import Loading
from regionclip.structures import DetectionBatch
from tests.data.made import made_dataset

AUGMENTATION = Augmentation(shortest_sides=(32, 40), longest_side=64)
LOADING = Loading(
    augmentation=AUGMENTATION, batch_size=4, part_size=4, num_parts=6, num_workers=0, seed=7
)
LABELS = [[0], [0, 0], [], [0], [0], [0], [0], [0]]


def assert_equal(one: DetectionBatch, other: DetectionBatch) -> None:
    assert one.seeds == other.seeds
    for own, its in zip(one.images, other.images, strict=True):
        assert torch.equal(own, its)
    for own, its in zip(one.targets, other.targets, strict=True):
        assert torch.equal(own.boxes, its.boxes)


def test_a_run_can_be_picked_up_at_any_part(tmp_path: Path) -> None:
    batches = detection_batches(made_dataset(LABELS, folder=tmp_path), LOADING)
    whole = list(batches(0))
    assert len(whole) == 6
    assert all(len(batch.images) == 4 for batch in whole)
    later = list(batches(4))
    assert len(later) == 2
    assert_equal(whole[4], later[0])
    assert_equal(whole[5], later[1])
    assert [batch.step for batch in (*whole, *later)] == [0, 1, 2, 3, 4, 5, 4, 5]


def test_two_processes_see_together_what_one_sees(tmp_path: Path) -> None:
    dataset = made_dataset(LABELS, folder=tmp_path)
    whole = list(detection_batches(dataset, LOADING)(0))
    halves = [
        list(
            detection_batches(
                dataset, replace(LOADING, part_size=2, num_processes=2, process_index=process)
            )(0)
        )
        for process in (0, 1)
    ]
    for one, left, right in zip(whole, *halves, strict=True):
        assert one.seeds == left.seeds + right.seeds
        for own, its in zip(one.images, left.images + right.images, strict=True):
            assert torch.equal(own, its)


def test_accumulated_parts_are_a_step_one_after_another(tmp_path: Path) -> None:
    dataset = made_dataset(LABELS, folder=tmp_path)
    whole = list(detection_batches(dataset, LOADING)(0))
    parts = list(detection_batches(dataset, replace(LOADING, part_size=2, num_parts=12))(0))
    for number, one in enumerate(whole):
        assert one.seeds == parts[2 * number].seeds + parts[2 * number + 1].seeds
        assert one.step == parts[2 * number].step == parts[2 * number + 1].step


@pytest.mark.slow
def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    dataset = made_dataset(LABELS, folder=tmp_path)
    one = list(detection_batches(dataset, LOADING)(0))
    other = list(detection_batches(dataset, replace(LOADING, num_workers=2))(0))
    for own, its in zip(one, other, strict=True):
        assert_equal(own, its)


def test_an_unreadable_image_is_replaced_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = made_dataset(LABELS, folder=tmp_path)
    (tmp_path / "3.png").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        batches = list(detection_batches(dataset, LOADING)(0))
    assert all(len(batch.images) == 4 for batch in batches)
    assert "3.png" in caplog.text
    assert "the next image is taken instead" in caplog.text


def test_a_data_set_without_any_readable_image_is_refused(tmp_path: Path) -> None:
    dataset = made_dataset(LABELS, folder=tmp_path)
    for path in tmp_path.glob("*.png"):
        path.unlink()
    with pytest.raises(ImageReadError, match=r"\.png"):
        list(detection_batches(dataset, LOADING)(0))
