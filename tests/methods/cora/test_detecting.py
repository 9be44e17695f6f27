from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert

from regionclip.detect import DetectOptions, Detector
from regionclip.detections.select import SelectionOptions, select_detections
from regionclip.loading import cora_detector_of, load
from regionclip.methods.cora.detecting import CoraLocalizer, CoraRegions
from regionclip.methods.cora.pre_matching import novel_factors
from regionclip.proposals.grid import SlidingGrid
from regionclip.proposals.proposer import Localizer, NovelClasses
from regionclip.regions.embedder import RegionEmbedder
from regionclip.scoring.objectness import fuse_objectness
from regionclip.scoring.regions import score_classes
from regionclip.structures import Detections, PreparedImage
from regionclip.vocabulary import Vocabulary
from tests.cora_files import (
    class_rows,
    original_state,
    picture,
    save_original,
    telling_rows,
    tiny_cora,
)

NAMES = ("cat", "unicycle", "dog", "small red umbrella")


@pytest.fixture
def detector() -> Detector:
    return cora_detector_of(tiny_cora())


def as_bytes(height: int, width: int) -> Tensor:
    return (picture(height, width) * 255).byte()


def vocabulary(detector: Detector, num_classes: int = 4) -> Vocabulary:
    names = tuple(f"class {n}" for n in range(num_classes))
    return Vocabulary(names, class_rows(num_classes), (), detector.encoder_id)


def test_names_are_found_in_images_of_any_size(detector: Detector) -> None:
    found = detector.detect([as_bytes(60, 90), as_bytes(200, 120)], NAMES)
    assert isinstance(found, list)
    for each, (height, width) in zip(found, [(60, 90), (200, 120)], strict=True):
        assert 0 < len(each) <= 20
        assert each.class_names == NAMES
        assert (each.scores.diff() <= 0).all()
        assert (each.boxes >= 0).all()
        assert (each.boxes <= torch.tensor([width, height, width, height])).all()


@pytest.mark.parametrize("names", [("cat",), tuple(f"thing {n}" for n in range(90))])
def test_one_name_will_do_and_so_will_many(detector: Detector, names: tuple[str, ...]) -> None:
    found = detector.detect(as_bytes(60, 90), names)
    assert isinstance(found, Detections)
    assert len(found) > 0


def test_detections_are_those_of_scoring_every_box(detector: Detector) -> None:
    """Worked out without rounds, bounds or the detector: all boxes, all classes."""
    model, words = tiny_cora(), vocabulary(detector)
    image = PreparedImage(picture(96, 128), (96, 128), "picture")
    (found,) = detector.detect_prepared([image], words, detector.defaults)
    factors = novel_factors(words.names, factor=8.0, base={"cat", "dog"})
    with torch.inference_mode():
        located = model([image.pixels], words.embeddings, class_factors=factors)
        features = model.region_features(model.maps([image.pixels]), located.boxes[-1])[0]
    scores = fuse_objectness(
        score_classes(features, words.embeddings), located.objectness[-1, 0], "product"
    )
    boxes = box_convert(located.boxes[-1, 0], "cxcywh", "xyxy") * torch.tensor([128, 96, 128, 96])
    expected = select_detections(
        boxes, scores, class_scores=scores, size_hw=(96, 128), options=detector.defaults.selection
    )
    assert found.labels.tolist() == expected.labels.tolist()
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-6)
    clipped = expected.boxes.clamp(min=0).minimum(torch.tensor([128, 96, 128, 96]))
    torch.testing.assert_close(found.boxes, clipped, rtol=0.0, atol=1e-2)


def test_not_every_box_is_named_where_a_few_are_sure(detector: Detector) -> None:
    asked: list[int] = []
    localizer = detector.parts.localizer
    assert isinstance(localizer, CoraLocalizer)
    image = PreparedImage(picture(96, 128), (96, 128), "picture")
    (proposals,), view = localizer.localize([image], vocabulary(detector), NovelClasses())
    assert (proposals.objectness.diff() <= 0).all()  # type: ignore[union-attr]
    own = view.of(0)

    class Counting:
        """The view, which notes how many regions it is asked for."""

        def of(self, _: int) -> "Counting":
            return self

        def features(self, boxes: Tensor, *, masks: Tensor | None = None) -> Tensor:
            asked.append(len(boxes))
            return own.features(boxes, masks=masks)

        def last_stage_cells(self, boxes: Tensor) -> Tensor:
            return own.last_stage_cells(boxes)

    class Scripted:
        def localize(self, *_: object) -> object:
            return [proposals], Counting()

    parts = replace(detector.parts, localizer=Scripted())  # type: ignore[arg-type]
    sure = Detector(parts, detector.defaults)
    most = float(proposals.objectness.sigmoid()[10])  # type: ignore[union-attr]
    selection = SelectionOptions(min_score=most, nms_boxes="whole")
    options = DetectOptions(selection=selection, objectness_fusion="product")
    sure.detect_prepared([image], vocabulary(detector), options)
    assert sum(asked) == 10


def test_boxes_follow_the_names(detector: Detector) -> None:
    localizer = detector.parts.localizer
    assert isinstance(localizer, Localizer)
    image = PreparedImage(picture(96, 128), (96, 128), "picture")
    first, _ = localizer.localize([image], detector.vocabulary(NAMES[:2]), NovelClasses())
    second, _ = localizer.localize([image], detector.vocabulary(NAMES[2:]), NovelClasses())
    assert not torch.allclose(first[0].boxes, second[0].boxes, rtol=0.0, atol=1e-3)


def test_the_users_own_list_of_novel_names_is_favoured_by_the_users_factor(
    detector: Detector,
) -> None:
    rows = telling_rows(tiny_cora(), 4)
    words = Vocabulary(("cat", "dog", "Traffic_Light", "d"), rows, (), detector.encoder_id)
    image = PreparedImage(picture(96, 128), (96, 128), "picture")

    def objectness(*names: str, factor: float | None = 1e6) -> list[float]:
        novel = NovelClasses(names=names, factor=factor)
        options = replace(detector.defaults, novel=novel)
        found = detector.detect_prepared([image], words, options)[0].objectness
        assert found is not None
        return found.tolist()

    none = objectness()
    assert objectness("dog") != none
    assert objectness("traffic light") != objectness("dog")
    assert objectness("traffic light") == objectness("Traffic Light")
    assert objectness("dog", factor=1.0) == none

    # left to the model, they are those that it has seen no box of, and its own factor
    (found,) = detector.detect_prepared([image], words, detector.defaults)
    assert found.objectness is not None
    assert found.objectness.tolist() == objectness("Traffic_Light", "d", factor=None)
    assert found.objectness.tolist() == objectness("Traffic_Light", "d", factor=8.0)

    # misspelt, they would favour nothing
    message = (
        r"'tarffic light' is none of the 4 classes .*\(cat, dog, Traffic_Light, d\), and 1 oth"
    )
    with pytest.raises(ValueError, match=message):
        objectness("tarffic light", "dog", "dgo")


def test_novel_classes_are_for_models_whose_boxes_follow_the_classes(detector: Detector) -> None:
    with pytest.raises(ValueError, match="factor of novel classes must be positive, got 0"):
        NovelClasses(factor=0.0)
    with pytest.raises(ValueError, match=r"got the text 'cat'; write \('cat',\)"):
        NovelClasses(names="cat")
    options = replace(detector.defaults, novel=NovelClasses(names=("cat",)))
    with_grid = cora_detector_of(tiny_cora(), proposer=SlidingGrid())
    with pytest.raises(ValueError, match="novel ones cannot be favoured, as CORA can: leave out"):
        with_grid.detect(as_bytes(60, 90), NAMES, options=options)


def test_boxes_of_the_user_and_other_proposals_are_named_too() -> None:
    detector = cora_detector_of(tiny_cora(), proposer=SlidingGrid())
    found = detector.detect(as_bytes(60, 90), NAMES)
    assert isinstance(found, Detections)
    assert len(found) > 0
    own = detector.detect(as_bytes(60, 90), NAMES, boxes=torch.tensor([[5.0, 5.0, 40.0, 50.0]]))
    assert isinstance(own, Detections)
    assert own.objectness is None


def test_without_names_there_are_no_proposals(detector: Detector) -> None:
    with pytest.raises(
        ValueError, match="CORA's follow class names: it has proposals in detect alone"
    ):
        detector.propose([detector.prepare(as_bytes(60, 90))])


def test_regions_are_scaled_by_their_share_of_the_image() -> None:
    model = tiny_cora()
    # 104 pixels are 6.5 cells; the map has 6
    image = PreparedImage(picture(96, 104), (96, 104), "picture")
    regions = CoraRegions(model)
    assert isinstance(regions, RegionEmbedder)
    boxes = torch.tensor([[0.0, 0.0, 104.0, 96.0], [10.0, 20.0, 90.0, 70.0]])
    view = regions.view([image]).of(0)
    found = view.features(boxes)
    normalized = box_convert(boxes / torch.tensor([104, 96, 104, 96]), "xyxy", "cxcywh")
    expected = model.region_features(model.maps([image.pixels]), normalized[None])[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert view.features(torch.zeros(0, 4)).shape == (0, 12)
    assert view.last_stage_cells(boxes).shape == (2, 256, 2, 2)


def test_an_original_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = save_original(tmp_path / "some name.pth", original_state(tiny_cora()))
    detector = load(path)
    words = detector.vocabulary(NAMES)
    assert words.encoder_id == tiny_cora().encoder.encoder_id
    vectors = detector.encode_text(["a cat", "a very long text of many more words than eight"])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    found = detector.detect(as_bytes(60, 90), words)
    assert isinstance(found, Detections)
    assert len(found) > 0
    with pytest.raises(ValueError, match="CORA detector, which has a text tower of its own"):
        load(path, regions="crops")
    with pytest.raises(ValueError, match="leave out text_weights"):
        load(path, text_weights="openai:RN50")


def test_half_precision_changes_little(tmp_path: Path) -> None:
    path = save_original(tmp_path / "a.pth", original_state(tiny_cora()))
    boxes = torch.tensor([[5.0, 5.0, 60.0, 50.0]])
    full = load(path).encode_regions(as_bytes(60, 90), boxes)
    half = load(path, precision="bf16").encode_regions(as_bytes(60, 90), boxes)
    assert F.cosine_similarity(full, half).item() > 0.99
    assert not torch.equal(full, half)
