import math
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torchvision.ops import box_iou

from regionclip.data.icons import CLASS_NAMES, draw_scene
from regionclip.demo.actions import (
    DrawnRegion,
    Indexes,
    Place,
    Request,
    best_of,
    detect,
    elsewhere,
    find_alike,
    look_into,
    name_region,
    only_names_found,
)
from regionclip.demo.models import PHOTO_NAMES, Choice, Models
from regionclip.demo.pictures import Picture
from regionclip.demo.sessions import EXAMPLE_SEED, EXAMPLE_SIDE
from regionclip.detect import Detector
from regionclip.structures import Detections, PreparedImage, Proposals
from regionclip.visualize import class_color


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


def test_names_that_are_found_together_have_colours_of_their_own() -> None:
    """Of all names, some have all but the same one."""
    pairs = combinations(range(len(CLASS_NAMES)), 2)
    one, other = min(pairs, key=lambda pair: distance(*pair))
    assert distance(one, other) < 40
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0]]).expand(3, 4)
    asked = Detections(boxes, torch.ones(3), torch.tensor([other, one, other]), CLASS_NAMES)
    found = only_names_found(asked)
    assert found.names == asked.names
    first, second, third = found.labels.tolist()
    assert first == third
    assert distance(first, second) > 100


def distance(one: int, other: int) -> float:
    """Between the colours of two labels, in 256 steps of each of RGB."""
    return math.dist(class_color(one), class_color(other))


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


def test_the_most_boxes_are_taken_after_places_are_settled(
    icons: Detector, scenes: list[Picture]
) -> None:
    """Twenty names of one place must not leave other places without."""
    request = Request(names=CLASS_NAMES, min_score=0.0)
    all_places = detect(icons, scenes[0], request).detections
    few = detect(icons, scenes[0], replace(request, max_detections=6)).detections
    assert few.boxes.tolist() == all_places.boxes[:6].tolist()
    assert len(few) == 6


def test_a_drawn_box_is_named(icons: Detector, scenes: list[Picture]) -> None:
    boxes, names = truth(0)
    region = look_into(icons, scenes, 0, boxes[0])
    scores = name_region(icons, region, CLASS_NAMES, ["a photo of a {}."])
    assert scores[0][0] == names[0]
    values = [score for _, score in scores]
    assert values == sorted(values, reverse=True)
    assert sum(values) <= 1.0001
    vocabulary = icons.vocabulary(CLASS_NAMES, templates=["a photo of a {}."])
    whole_way = icons.classify_regions(scenes[0].path, torch.tensor([boxes[0]]), vocabulary)[0]
    assert values == pytest.approx(whole_way.sort(descending=True).values.tolist(), abs=1e-5)


def test_the_nearest_region_of_a_box_is_itself_and_elsewhere_leaves_it_out(
    icons: Detector, scenes: list[Picture]
) -> None:
    index = Indexes().of(icons, scenes[0], 50)
    box = index.boxes[0].tolist()
    region = look_into(icons, scenes, 0, box)
    steps: list[tuple[float, str]] = []
    places = find_alike(
        icons,
        scenes,
        region,
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
    others = elsewhere(places, region)
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
    prepared = PreparedImage(torch.zeros(3, 20, 20), (20, 20), "a")
    region = DrawnRegion(0, list(at), prepared, torch.zeros(8))
    assert elsewhere(places, region) == [places[1], places[3]]
    assert elsewhere([], region) == []


def test_regions_are_computed_once_and_the_longest_unused_go(
    icons: Detector, scenes: list[Picture]
) -> None:
    first = Indexes().of(icons, scenes[0], 5)
    assert torch.allclose(first.vectors.norm(dim=1), torch.ones(5))
    assert first.num_bytes == 4 * 5 * (4 + first.vectors.shape[1])
    indexes = Indexes(most_bytes=2 * first.num_bytes)
    first, second = (indexes.of(icons, scenes[place], 5) for place in (0, 1))
    assert indexes.of(icons, scenes[0], 5) is first
    indexes.of(icons, scenes[2], 5)
    assert indexes.of(icons, scenes[0], 5) is first
    assert indexes.of(icons, scenes[1], 5) is not second


def test_one_picture_is_remembered_however_much_it_takes(
    icons: Detector, scenes: list[Picture]
) -> None:
    indexes = Indexes(most_bytes=1)
    first = indexes.of(icons, scenes[0], 5)
    assert indexes.of(icons, scenes[0], 5) is first


def test_regions_of_a_deleted_picture_are_forgotten(
    icons: Detector, scenes: list[Picture], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(scenes[0].path.read_bytes())
    mine = replace(scenes[0], path=tmp_path / "a.png")
    indexes = Indexes()
    indexes.of(icons, mine, 5)
    mine.path.unlink()
    indexes.of(icons, scenes[0], 5)
    assert len(indexes) == 1


def test_of_regions_that_nothing_orders_some_are_taken_evenly() -> None:
    boxes = torch.arange(9.0)[:, None].expand(9, 4)
    assert best_of(Proposals(boxes), 3).boxes[:, 0].tolist() == [0, 4, 8]
    ordered = Proposals(boxes, torch.arange(9.0).flip(0))
    assert best_of(ordered, 3).boxes[:, 0].tolist() == [0, 1, 2]
    assert len(best_of(Proposals(boxes), 20)) == 9
    assert len(best_of(Proposals(torch.zeros(0, 4)), 3)) == 0


def test_a_text_finds_its_region(icons: Detector, scenes: list[Picture]) -> None:
    """Regions and texts live in one space."""
    boxes, names = truth(0)
    words = icons.encode_text([f"a {names[0]}"])[0]
    region = replace(look_into(icons, scenes, 0, boxes[0]), vector=words)
    places = find_alike(icons, scenes[:1], region, num_regions=20, indexes=Indexes())
    found = torch.tensor([places[0].box])
    assert float(box_iou(found, torch.tensor([boxes[0]]))) > 0.5


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


def test_what_is_wrong_with_another_model_or_proposals_shows_at_the_start(tmp_path: Path) -> None:
    notes = tmp_path / "notes.pth"
    notes.write_text("no weights at all")
    for names, proposals, message in (
        (["icons", "icns"], (), "no file and no known weights are called 'icns'; did you mean"),
        (["icons", "openai:RN5"], (), "unknown open_clip architecture 'RN5'"),
        (["icons", "mine:ViT-B-32"], (), "open_clip has no weights 'mine' for ViT-B-32"),
        (["icons", str(notes)], (), "notes.pth is of no known format"),
        (["icons"], ("yolo",), "unknown proposals 'yolo'"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            Models(names, proposals=proposals).open_at_start()


def test_fields_begin_with_what_suits_the_model(models: Models, tiny_model: str) -> None:
    icons = models.beginning("icons")
    assert (icons.names, icons.num_regions, icons.min_score) == (CLASS_NAMES, 100, 0.9)
    tiny = Models([tiny_model]).beginning(tiny_model)
    assert (tiny.names, tiny.num_regions, tiny.min_score) == (PHOTO_NAMES, 300, 0.3)
    assert tiny.nms_iou == Models([tiny_model]).open(Choice(tiny_model)).defaults.selection.nms_iou
