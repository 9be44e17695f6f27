from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from regionclip.data.icons import CLASS_NAMES, draw_scene
from regionclip.demo.actions import (
    Indexes,
    Place,
    Request,
    box_vector,
    detect,
    elsewhere,
    find_alike,
    name_region,
)
from regionclip.demo.inputs import InputError, Picture
from regionclip.demo.models import Choice, Models
from regionclip.demo.sessions import EXAMPLE_SEED, EXAMPLE_SIDE
from regionclip.detect import Detector


def truth(index: int) -> tuple[list[list[float]], list[str]]:
    """Boxes and names of an example."""
    scene = draw_scene(EXAMPLE_SEED, index, size=EXAMPLE_SIDE)
    return scene.boxes.tolist(), [CLASS_NAMES[label] for label in scene.labels]


def test_what_is_in_a_scene_is_found(icons: Detector, scenes: list[Picture]) -> None:
    found = detect(icons, scenes[0], Request(names=CLASS_NAMES, min_score=0.9))
    detections = found.detections
    assert set(truth(0)[1]) <= set(detections.names)
    assert detections.image == scenes[0].path
    assert detections.features is not None
    assert found.num_proposals == 20
    rows = torch.arange(len(detections))
    assert (found.probabilities[rows, detections.labels] > 0.8).all()


def test_fewer_regions_and_fewer_boxes_can_be_asked_for(
    icons: Detector, scenes: list[Picture]
) -> None:
    request = Request(names=CLASS_NAMES, min_score=0.0, num_regions=5, max_detections=2)
    found = detect(icons, scenes[0], request)
    assert (found.num_proposals, len(found.detections)) == (5, 2)
    none = detect(icons, scenes[0], replace(request, min_score=1.0))
    assert len(none.detections) == 0
    assert none.probabilities.shape == (0, len(CLASS_NAMES))


def test_a_negative_name_takes_its_place_and_is_not_shown(
    icons: Detector, scenes: list[Picture]
) -> None:
    """Without the right name, another that is somewhat like it gets the region."""
    boxes, names = truth(0)
    wrong = tuple(name for name in CLASS_NAMES if name not in names)
    request = Request(names=wrong, min_score=0.0, max_detections=300, one_name_per_place=False)
    alone = detect(icons, scenes[0], request)
    both = detect(icons, scenes[0], replace(request, negatives=tuple(names)))
    assert set(both.detections.names) <= set(wrong)
    assert both.detections.class_names == wrong

    def best_at(found: torch.Tensor, scores: torch.Tensor) -> float:
        near = (found - torch.tensor(boxes[0])).abs().amax(dim=1) < 40
        return float(scores[near].max()) if near.any() else 0.0

    before = best_at(alone.detections.boxes, alone.detections.scores)
    after = best_at(both.detections.boxes, both.detections.scores)
    assert after < 0.5 * before


def test_one_name_per_place_leaves_no_boxes_on_each_other(
    icons: Detector, scenes: list[Picture]
) -> None:
    request = Request(names=CLASS_NAMES, min_score=0.05)
    many = detect(icons, scenes[1], replace(request, one_name_per_place=False)).detections
    one = detect(icons, scenes[1], request).detections
    assert 0 < len(one) < len(many)
    assert float(one.scores[0]) == float(many.scores[0])


def test_a_drawn_box_is_named(icons: Detector, scenes: list[Picture]) -> None:
    boxes, names = truth(0)
    scores = name_region(icons, scenes[0], boxes[0], CLASS_NAMES, ["a photo of a {}."])
    assert scores[0][0] == names[0]
    values = [score for _, score in scores]
    assert values == sorted(values, reverse=True)
    assert sum(values) <= 1.0001
    with pytest.raises(InputError, match="too small"):
        name_region(icons, scenes[0], [1, 1, 2, 2], CLASS_NAMES, ["{}"])


def test_the_nearest_region_of_a_box_is_itself_and_elsewhere_leaves_it_out(
    icons: Detector, scenes: list[Picture]
) -> None:
    index = Indexes().of(icons, scenes[0], 50)
    box = index.boxes[0].tolist()
    vector = box_vector(icons, scenes[0], box)
    steps: list[tuple[float, str]] = []
    places = find_alike(
        icons,
        scenes,
        vector,
        num_regions=50,
        indexes=Indexes(),
        step=lambda share, text: steps.append((share, text)),
    )
    assert places[0].picture == 0
    assert places[0].similarity == pytest.approx(1, abs=1e-4)
    similarities = [place.similarity for place in places]
    assert similarities == sorted(similarities, reverse=True)
    assert [share for share, _ in steps] == [0, 1 / 3, 2 / 3]
    assert steps[1][1] == "looking through scene 2"
    others = elsewhere(places, 0, box)
    assert len(others) < len(places)
    assert places[0] not in others


def test_elsewhere_keeps_what_hardly_overlaps() -> None:
    at = (0.0, 0.0, 10.0, 10.0)
    places = [
        Place(0, at, 1.0),
        Place(0, (0.0, 0.0, 10.0, 4.0), 0.9),
        Place(0, (0.0, 0.0, 10.0, 6.0), 0.8),
        Place(1, at, 0.7),
    ]
    assert elsewhere(places, 0, at) == [places[1], places[3]]
    assert elsewhere([], 0, at) == []


def test_regions_of_no_pictures_are_none(icons: Detector) -> None:
    assert find_alike(icons, [], torch.zeros(192), num_regions=5, indexes=Indexes()) == []


def test_regions_are_computed_once_and_the_longest_unused_go(
    icons: Detector, scenes: list[Picture]
) -> None:
    indexes = Indexes(most=1)
    first = indexes.of(icons, scenes[0], 5)
    assert indexes.of(icons, scenes[0], 5) is first
    assert torch.allclose(first.vectors.norm(dim=1), torch.ones(5))
    indexes.of(icons, scenes[1], 5)
    assert indexes.of(icons, scenes[0], 5) is not first


def test_a_text_finds_its_region(icons: Detector, scenes: list[Picture]) -> None:
    """Regions and texts live in one space."""
    _, names = truth(0)
    words = F.normalize(icons.encode_text([f"a {names[0]}"]), dim=1)[0]
    places = find_alike(icons, scenes[:1], words, num_regions=20, indexes=Indexes())
    assert places[0].similarity > places[-1].similarity


def test_a_model_is_read_once_and_proposals_can_be_chosen(models: Models) -> None:
    own = models.open(Choice("icons"))
    grid = models.open(Choice("icons", "grid"))
    assert models.open(Choice("icons")) is own
    assert grid is not own
    assert grid.parts.encoder is own.parts.encoder
    assert grid.parts.proposer is not own.parts.proposer


def test_what_is_not_offered_is_refused(models: Models) -> None:
    with pytest.raises(ValueError, match="does not offer the model '/etc/passwd'; choose one of"):
        models.open(Choice("/etc/passwd"))
    with pytest.raises(ValueError, match="does not offer the proposals 'torchvision'"):
        models.open(Choice("icons", "torchvision"))
    with pytest.raises(ValueError, match="needs a model"):
        Models(())


def test_a_model_without_proposals_takes_the_first_source(tiny_model: str) -> None:
    detector = Models([tiny_model]).open(Choice(tiny_model))
    assert type(detector.parts.proposer).__name__ == "SlidingGrid"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A detector of a few thousand random weights, without proposals of its own."""
    from regionclip.methods.regionclip import Config, build
    from regionclip.methods.regionclip.reading import ReadModel, save_model
    from tests.tiny_clip import TINY, tiny_clip

    path: Path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    model = build(Config(encoder=TINY, shortest_side=64, longest_side=96))
    model.encoder.load_state_dict(tiny_clip().state_dict())
    save_model(path, ReadModel(model, has_text_tower=True, reports=()))
    return str(path)
