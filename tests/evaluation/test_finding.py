import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regionclip.data.datasets import Member
from regionclip.evaluation.coco import evaluate_coco
from regionclip.evaluation.finding import (
    Search,
    carried_vocabulary,
    data_vocabulary,
    detect_dataset,
    find_in_true_boxes,
    find_objects,
    find_proposals,
    name_true_boxes,
    prompt_names,
)
from regionclip.evaluation.proposals import evaluate_proposals
from regionclip.vocabulary import Vocabulary

from .made import BOX, ELSEWHERE
from .painted import NAMES, colour_detector, found_in, paint

IMAGES = [[("cat", BOX), ("cow", ELSEWHERE)], [], [("dog", BOX)], [("cat", ELSEWHERE)]]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_detector_that_sees_everything_gets_full_marks(tmp_path: Path, batch_size: int) -> None:
    data = paint(tmp_path, IMAGES)
    detections = found_in(colour_detector(data), data, batch_size=batch_size)
    assert evaluate_coco(data, detections).metrics["ap"] == 1.0


def test_images_that_cannot_be_read_count_as_empty_and_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = paint(tmp_path, IMAGES)
    (tmp_path / "2.png").write_bytes(b"no image")
    (tmp_path / "0.png").unlink()
    told: list[tuple[int, str]] = []
    detections = list(
        found_in(
            colour_detector(data),
            data,
            batch_size=2,
            unreadable=lambda index, error: told.append((index, str(error))),
        )
    )
    assert [len(each) for each in detections] == [0, 0, 0, 1]
    assert [index for index, _ in told] == [0, 2]
    assert "0.png: there is no such file" in told[0][1]
    assert evaluate_coco(data, detections).metrics["ar100"] == pytest.approx(0.5 / 3)
    with caplog.at_level(logging.WARNING):
        list(found_in(colour_detector(data), data))
    assert "2.png" in caplog.text


def test_true_boxes_take_the_place_of_proposals(tmp_path: Path) -> None:
    data = paint(tmp_path, IMAGES)
    blind = colour_detector()  # proposes for no image
    detections = found_in(blind, data, find=find_in_true_boxes)
    assert evaluate_coco(data, detections).metrics["ap"] == 1.0
    with pytest.raises(KeyError):
        list(found_in(blind, data))


def test_true_boxes_keep_their_best_classes_however_low(tmp_path: Path) -> None:
    data = paint(tmp_path, IMAGES)
    found = list(found_in(colour_detector(), data, find=name_true_boxes))
    assert [len(each) for each in found] == [2 * 3, 0, 3, 3]
    first = found[0]
    assert torch.equal(first.boxes[0], data[0].objects.boxes[0])
    assert first.scores.max() > 0.99
    assert first.scores.min() < 1e-4


def test_proposals_have_no_names_and_need_no_text(tmp_path: Path) -> None:
    data = paint(tmp_path, IMAGES)
    detector = colour_detector(data)
    detector.parts.encoder.tokenize = None  # type: ignore[method-assign, assignment]
    detections = detect_dataset(detector, data, None, find=find_proposals)
    assert evaluate_proposals(data, detections).metrics["ar_100"] == 1.0


def test_a_model_uses_the_class_vectors_that_it_carries(tmp_path: Path) -> None:
    data = paint(tmp_path, IMAGES)
    detector = colour_detector(data)
    own = Vocabulary(("Cow", "hen", "cat", "dog"), torch.eye(4), ("a {}",), "colours")
    detector.parts = replace(detector.parts, class_vocabulary=own)
    vocabulary = data_vocabulary(detector, data)
    assert vocabulary.names == NAMES
    assert vocabulary.embeddings.argmax(dim=1).tolist() == [2, 3, 0]
    assert carried_vocabulary(detector, ("cat", "pig")) is None


def test_underscores_are_blanks_in_prompts() -> None:
    assert prompt_names(("alarm_clock", "cat")) == ("alarm clock", "cat")


def test_images_inside_archives_are_read(tmp_path: Path) -> None:
    data = paint(tmp_path, IMAGES[:1])
    content = (tmp_path / "0.png").read_bytes()
    archive = tmp_path / "shard.tar"
    archive.write_bytes(b"before" + content + b"after")
    member = Member(archive, "0.png", len(b"before"), len(content))
    inside = replace(data, samples=(replace(data[0], image=member),))
    detections = found_in(colour_detector(inside), inside)
    assert evaluate_coco(inside, detections).metrics["ap"] == 1.0


def test_names_are_needed_to_find_objects(tmp_path: Path) -> None:
    detector = colour_detector(paint(tmp_path, IMAGES))
    with pytest.raises(ValueError, match="objects are found by name; give a vocabulary"):
        find_objects(Search(detector, None, detector.defaults), [])
