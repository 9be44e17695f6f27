from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import regionclip
from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.detections.nms import batched_nms
from regionclip.detections.select import NmsMethod, SelectionOptions
from regionclip.encoders.text import MissingTextTower
from regionclip.loading import LoadOptions, load
from regionclip.methods.regionclip.config import RegionClipConfig
from regionclip.methods.regionclip.reading import ReadModel, save_model
from regionclip.proposals.grid import SlidingGrid
from regionclip.regions.inputs import boxes_input
from regionclip.scoring.objectness import ObjectnessFusion
from regionclip.structures import Detections, PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary

from .tiny import TINY_CONFIG, tiny_model

NAMES = ("a cat", "a dog", "a red bus")


def detector_of(
    folder: Path, config: RegionClipConfig = TINY_CONFIG, **options: object
) -> Detector:
    path = folder / "tiny.safetensors"
    save_model(path, ReadModel(tiny_model(config), has_text_tower=True, reports=()))
    return load(path, **options)  # type: ignore[arg-type]


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    return detector_of(tmp_path)


@pytest.fixture
def picture() -> Image.Image:
    rows, columns = np.mgrid[0:120, 0:200]
    circle = (rows - 50) ** 2 + (columns - 60) ** 2 < 900
    layers = [rows * 2, columns, np.where(circle, 255, 40)]
    return Image.fromarray(np.stack(layers, axis=-1).astype(np.uint8))


def with_all_scores(detector: Detector) -> DetectOptions:
    """Options under which every name of every region counts, however low its score."""
    selection = replace(detector.defaults.selection, min_score=0.0)
    return replace(detector.defaults, selection=selection)


def one(found: Detections | list[Detections]) -> Detections:
    assert isinstance(found, Detections)
    return found


def test_detections_name_what_was_asked_for_inside_the_image(
    detector: Detector, picture: Image.Image
) -> None:
    found = one(detector.detect(picture, NAMES))
    assert 0 < len(found) <= 20
    assert set(found.names) <= set(NAMES)
    assert found.scores.diff().max() <= 0
    assert 0 <= found.scores.min() <= found.scores.max() <= 1
    assert found.boxes.min() >= 0
    assert found.boxes[:, 2].max() <= 200
    assert found.boxes[:, 3].max() <= 120


def test_many_images_give_a_list_and_each_the_result_it_gets_alone(
    detector: Detector, picture: Image.Image
) -> None:
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    both = detector.detect([picture, turned], NAMES)
    assert isinstance(both, list)
    for source, found in zip([picture, turned], both, strict=True):
        alone = one(detector.detect(source, NAMES))
        torch.testing.assert_close(found.boxes, alone.boxes)
        torch.testing.assert_close(found.scores, alone.scores)


def test_a_path_an_array_and_a_tensor_of_one_picture_give_the_same(
    detector: Detector, picture: Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    picture.save(path)
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    expected = one(detector.detect(picture, NAMES))
    for source in (path, str(path), array, tensor):
        torch.testing.assert_close(one(detector.detect(source, NAMES)).boxes, expected.boxes)


def test_your_own_boxes_come_back_with_names(detector: Detector, picture: Image.Image) -> None:
    boxes = torch.tensor([[10.0, 20.0, 90.0, 100.0]])
    found = one(detector.detect(picture, NAMES, boxes=boxes, options=with_all_scores(detector)))
    assert len(found) == len(NAMES)
    torch.testing.assert_close(found.boxes, boxes.expand(len(NAMES), 4), rtol=0, atol=1e-4)
    assert found.objectness is None


def test_no_boxes_give_no_detections(detector: Detector, picture: Image.Image) -> None:
    found = one(detector.detect(picture, NAMES, boxes=torch.zeros(0, 4)))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_regions_that_cannot_appear_are_left_out_without_a_trace(
    detector: Detector, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(
        detector.defaults, selection=replace(detector.defaults.selection, max_detections=3)
    )
    expected = one(detector.detect(picture, NAMES, options=few))
    monkeypatch.setattr("regionclip.scoring.regions.REGIONS_PER_ROUND", 4)
    found = one(detector.detect(picture, NAMES, options=few))
    torch.testing.assert_close(found.scores, expected.scores)
    assert torch.equal(found.labels, expected.labels)


class CountedRegions:
    """Regions whose vectors are given, in the order they are asked for; a view of itself."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.num_embedded = 0

    def view(self, images: Sequence[PreparedImage]) -> "CountedRegions":
        self.num_embedded = 0
        return self

    def of(self, index: int) -> "CountedRegions":
        return self

    def features(self, boxes: Tensor, *, masks: Tensor | None = None) -> Tensor:
        first, self.num_embedded = self.num_embedded, self.num_embedded + len(boxes)
        return self.rows[first : self.num_embedded]

    def last_stage_cells(self, boxes: Tensor) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("fusion", ["geometric", "raw"])
@pytest.mark.parametrize("nms", ["hard", "soft_gaussian", "soft_linear", "soft_hard"])
def test_scoring_stops_early_with_the_result_of_all_regions(
    nms: NmsMethod, fusion: ObjectnessFusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = 150 * torch.rand(400, 2, generator=generator)
    boxes = torch.cat([corners, corners + 40], dim=1)
    regions = CountedRegions(
        torch.eye(3).repeat(134, 1)[:400] + 0.3 * torch.randn(400, 3, generator=generator)
    )
    detector = Detector(DetectorParts(encoder=MissingTextTower("tiny"), regions=regions))
    vocabulary = Vocabulary(NAMES, torch.eye(3), (), detector.encoder_id)
    selection = SelectionOptions(nms=nms, max_detections=10)
    options = DetectOptions(selection=selection, objectness_fusion=fusion)
    image = PreparedImage(torch.zeros(3, 190, 190), (190, 190), "x")
    proposals = [Proposals(boxes, torch.linspace(4.0, -4.0, 400))]
    found = []
    for num_per_round in (1000, 16):
        monkeypatch.setattr("regionclip.scoring.regions.REGIONS_PER_ROUND", num_per_round)
        found += detector.detect_prepared([image], vocabulary, options, proposals=proposals)
    assert regions.num_embedded <= 100
    assert len(found[0]) == 10
    assert torch.equal(found[0].scores, found[1].scores)
    assert torch.equal(found[0].boxes, found[1].boxes)
    assert torch.equal(found[0].labels, found[1].labels)


def test_features_are_those_of_encode_regions(detector: Detector, picture: Image.Image) -> None:
    options = replace(detector.defaults, with_features=True)
    boxes = torch.tensor([[10.0, 20.0, 90.0, 100.0], [0.0, 0.0, 200.0, 120.0]])
    found = one(detector.detect(picture, NAMES[:1], boxes=boxes, options=options))
    vectors = detector.encode_regions(picture, found.boxes)
    assert found.features is not None
    torch.testing.assert_close(found.features, vectors, rtol=1e-3, atol=1e-4)


def test_region_scores_and_text_vectors_agree(detector: Detector, picture: Image.Image) -> None:
    boxes = torch.tensor([[10.0, 20.0, 90.0, 100.0]])
    scores = detector.classify_regions(picture, boxes, NAMES)
    assert scores.shape == (1, 3)
    assert 0 < scores.sum() <= 1 + 1e-6
    assert detector.encode_text(["a cup", "a mug"]).shape == (2, 12)
    assert detector.encode_text([]).shape[0] == 0


def test_masks_of_the_whole_box_give_the_boxes_vectors(
    detector: Detector, picture: Image.Image
) -> None:
    mask = torch.zeros(1, 120, 200, dtype=torch.bool)
    mask[:, 20:100, 10:90] = True
    box = torch.tensor([[10.0, 20.0, 90.0, 100.0]])
    of_mask, of_box = (detector.encode_regions(picture, each) for each in (mask, box))
    torch.testing.assert_close(of_mask, of_box, rtol=1e-4, atol=1e-5)
    mask[:, 60:, :] = False
    assert (detector.encode_regions(picture, mask) - of_box).abs().max() > 1e-4


def test_a_vocabulary_is_encoded_once(
    detector: Detector, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.detect(picture, NAMES)
    monkeypatch.setattr(detector.parts.encoder, "encode_tokens", None)
    detector.detect(picture, list(NAMES))


def test_a_vocabulary_of_another_encoder_is_refused(
    detector: Detector, picture: Image.Image
) -> None:
    vocabulary = replace(detector.vocabulary(NAMES), encoder_id="RN50:0123456789ab")
    with pytest.raises(ValueError, match="RN50:0123456789ab"):
        detector.detect(picture, vocabulary)


def test_a_model_without_classes_of_its_own_asks_for_names(
    detector: Detector, picture: Image.Image
) -> None:
    with pytest.raises(ValueError, match="carries no classes of its own; name some"):
        detector.detect(picture)


def test_a_model_without_proposals_says_how_to_get_some(
    tmp_path: Path, picture: Image.Image
) -> None:
    config = replace(TINY_CONFIG, rpn=None)
    detector = detector_of(tmp_path, config)
    with pytest.raises(ValueError, match=r"no proposals of its own; give boxes=\.\.\."):
        detector.detect(picture, NAMES)
    with_grid = detector_of(tmp_path, config, proposals="grid")
    assert isinstance(with_grid.parts.proposer, SlidingGrid)
    found = one(with_grid.detect(picture, NAMES, options=with_all_scores(with_grid)))
    assert len(found) > 0


def test_options_that_the_model_cannot_serve_are_refused(
    detector: Detector, picture: Image.Image
) -> None:
    with pytest.raises(ValueError, match="no box regressor"):
        detector.detect(picture, NAMES, options=replace(detector.defaults, use_box_deltas=True))
    with pytest.raises(ValueError, match="no mask head"):
        detector.detect(picture, NAMES, options=replace(detector.defaults, with_masks=True))


def test_numbers_of_images_and_box_sets_must_agree(
    detector: Detector, picture: Image.Image
) -> None:
    with pytest.raises(ValueError, match="got 1 sets of boxes for 2 images"):
        detector.detect([picture, picture], NAMES, boxes=[torch.zeros(0, 4)])


def test_masks_cover_their_boxes_in_original_pixels(tmp_path: Path, picture: Image.Image) -> None:
    config = replace(TINY_CONFIG, mask_head=True, box_regression=True)
    detector = detector_of(tmp_path, config)
    options = replace(detector.defaults, with_masks=True, use_box_deltas=True)
    found = one(detector.detect(picture, NAMES, options=options))
    assert found.masks is not None
    assert found.masks.shape == (len(found), 120, 200)


def test_crops_work_where_maps_do(tmp_path: Path, picture: Image.Image) -> None:
    detector = detector_of(tmp_path, regions="crops", proposals="grid")
    found = one(detector.detect(picture, NAMES, options=with_all_scores(detector)))
    assert len(found) > 0


def test_half_precision_gives_nearly_the_same_vectors(
    detector: Detector, tmp_path: Path, picture: Image.Image
) -> None:
    boxes = torch.tensor([[10.0, 20.0, 90.0, 100.0], [0.0, 0.0, 200.0, 120.0]])
    half = detector_of(tmp_path, precision="bf16").encode_regions(picture, boxes)
    whole = detector.encode_regions(picture, boxes)
    assert torch.cosine_similarity(half, whole).min() > 0.99


def test_a_small_memory_budget_changes_nothing_but_the_chunks(
    detector: Detector, tmp_path: Path, picture: Image.Image
) -> None:
    boxes = torch.rand(30, 4).sort(dim=1).values * 100
    boxes = boxes[:, [0, 1, 2, 3]] + torch.tensor([0.0, 0.0, 5.0, 5.0])
    chunked = detector_of(tmp_path, options=LoadOptions(memory_budget=1)).encode_regions(
        picture, boxes
    )
    torch.testing.assert_close(chunked, detector.encode_regions(picture, boxes))


class Float64Finder(TorchDispatchMode):
    """Notes operations that make float64, which not every device has, outside of NMS."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.found: list[str] = []
        self.num_nms = 0
        self._in_nms = False
        monkeypatch.setattr("regionclip.detections.select.batched_nms", self._nms)

    def _nms(self, *args: Any, **options: Any) -> Tensor:
        self._in_nms = True
        kept = batched_nms(*args, **options)
        self._in_nms = False
        self.num_nms += 1
        return kept

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(result, "dtype", None) == torch.float64 and not self._in_nms:
            self.found.append(str(func))
        return result


@pytest.mark.parametrize("nms", ["hard", "soft_gaussian"])
def test_nothing_but_nms_which_knows_where_computes_in_float64(
    nms: str, tmp_path: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a device without float64 (MPS) can run everything; NMS leaves it for the CPU."""
    detector = detector_of(tmp_path, replace(TINY_CONFIG, mask_head=True, box_regression=True))
    options = replace(detector.defaults, with_masks=True, use_box_deltas=True)
    options = replace(options, selection=replace(options.selection, nms=nms))
    boxes = torch.tensor([[10.0, 20.0, 90.0, 100.0]])
    with Float64Finder(monkeypatch) as finder:
        prepared = detector.prepare(picture)
        vocabulary = detector.vocabulary(NAMES)
        detector.detect_prepared([prepared], vocabulary, options)
        detector.parts.regions.view([prepared]).of(0).features(boxes_input(boxes, prepared))
        detector.propose_and_embed([prepared])
    assert finder.found == []
    assert (finder.num_nms > 0) == (nms == "hard")


def test_the_public_names_are_importable() -> None:
    assert all(hasattr(regionclip, name) for name in regionclip.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = regionclip.nothing
