"""The model that ships: small, and it finds icons of base and of novel classes."""

from importlib.resources import files

import pytest

import regionclip
from regionclip.checkpoints import read_native_metadata
from regionclip.data import icons
from regionclip.detect import Detector
from regionclip.evaluation import evaluate_icons
from regionclip.structures import Detections

MAX_BYTES = 10_000_000


@pytest.fixture(scope="module")
def detector() -> Detector:
    return regionclip.load("icons")


def test_the_file_is_at_most_ten_megabytes() -> None:
    path = files("regionclip") / "assets" / "icons.safetensors"
    assert len(path.read_bytes()) <= MAX_BYTES


def test_the_file_names_the_joint_space_of_its_vectors(detector: Detector) -> None:
    """CONTRIBUTING.md has the command that mends it."""
    path = files("regionclip") / "assets" / "icons.safetensors"
    assert read_native_metadata(str(path)).encoder_id == detector.encoder_id


def test_it_finds_base_and_novel_icons_in_new_scenes(detector: Detector) -> None:
    report = evaluate_icons(detector, num_scenes=24, seed=4242)
    assert report.metrics["ap50_base"] > 0.8
    assert report.metrics["ap50_novel"] > 0.7


def test_it_answers_with_the_names_that_were_asked_for(detector: Detector) -> None:
    scene = icons.draw_scene(4242, 0)
    name = icons.CLASS_NAMES[scene.labels[0]]
    other = next(each for each in icons.CLASS_NAMES if each not in scene.caption and each != name)
    found = detector.detect(scene.pixels, [other, name])
    assert isinstance(found, Detections)
    assert found.class_names == (other, name)
    assert name in found.names
