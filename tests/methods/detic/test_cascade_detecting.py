from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import regionclip
from regionclip.checkpoints import CheckpointError
from regionclip.cli import main
from regionclip.cli.running import LoadingCommand
from regionclip.detect import Detector
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.loading.detic_cascade import cascade_detector_of
from regionclip.methods.detic.cascade_detecting import class_scores, fused_scores
from regionclip.methods.detic.cascade_model import CascadeDetic, carry_classes, move_boxes
from regionclip.methods.detic.cascade_reading import read_cascade, save_cascade
from regionclip.methods.detic.cascade_weights import ROWS
from regionclip.proposals.proposer import NovelClasses
from regionclip.structures import Detections, PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary
from tests.cascade_files import TINY_CASCADE, original_cascade_state, tiny_cascade
from tests.tiny_open_clip import TINY_CONVNEXT, tiny_named

BOXES = torch.tensor([[10.0, 5, 60, 50], [0, 0, 120, 90], [70, 20, 110, 85]])


@pytest.fixture(scope="module")
def model() -> CascadeDetic:
    own = tiny_cascade()
    carry_classes(own, ("cat", "dog"), torch.randn(2, 12))
    return own


@pytest.fixture(scope="module")
def detector(model: CascadeDetic) -> Detector:
    return cascade_detector_of(model, model.encoder)


@pytest.fixture(scope="module")
def state(model: CascadeDetic) -> dict[str, Tensor]:
    return original_cascade_state(model)


def image(height: int = 90, width: int = 120) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))


def found_in(detector: Detector, classes: object = None, **given: object) -> Detections:
    found = detector.detect(image(), classes, **given)  # type: ignore[arg-type]
    assert isinstance(found, Detections)
    return found


def write(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"meta": {"iter": 45000}, "state_dict": state}, path)
    return path


def test_an_original_file_detects_its_own_classes_and_any_other(
    model: CascadeDetic, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = write(tmp_path / "any_name.pth", state)
    read = read_cascade(path)
    assert read.has_text_tower
    for name, tensor in model.state_dict().items():
        if name != "encoder.clip.logit_scale":  # of no use, and not in the file
            torch.testing.assert_close(read.model.state_dict()[name], tensor, msg=name)
    assert len(read.report.left_over) == 4
    loaded = regionclip.load(path)
    assert found_in(loaded).class_names == ("class 0", "class 1")
    options = replace(loaded.defaults, with_masks=True, with_features=True)
    other = found_in(loaded, ["an umbrella"], options=options)
    assert other.class_names == ("an umbrella",)
    assert other.masks is not None
    assert other.features is not None
    assert other.masks.shape == (len(other), 90, 120)
    assert other.features.shape == (len(other), 12)
    assert ((other.scores >= 0) & (other.scores <= 1)).all()


def test_a_model_goes_into_a_file_of_our_own_and_back(model: CascadeDetic, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.safetensors", tmp_path / "part.safetensors"
    save_cascade(whole, model)
    save_cascade(part, model, has_text_tower=False)
    assert read_cascade(whole).model.config == model.config
    assert regionclip.load(whole).encoder_id == model.encoder.encoder_id
    assert not read_cascade(part).has_text_tower
    alone = regionclip.load(part)
    assert found_in(alone).class_names == ("cat", "dog")
    with pytest.raises(ValueError, match="carries no text tower"):
        found_in(alone, ["umbrella"])
    lent = regionclip.load(part, text_weights=whole)
    assert found_in(lent, ["umbrella"]).class_names == ("umbrella",)
    with pytest.raises(ValueError, match="runs with its own text tower; leave out text_weights"):
        regionclip.load(whole, text_weights=whole)
    with pytest.raises(ValueError, match="an image tower of its own; leave out regions"):
        regionclip.load(whole, regions="crops")


def test_wrong_files_are_refused_in_a_sentence(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with pytest.raises(CheckpointError, match="no Detic detector with a cascade"):
        read_cascade(write(path, {"a": torch.zeros(1)}))
    name = "roi_head.bbox_head.1.fc_reg.2.weight"
    less = {key: own for key, own in state.items() if key != name}
    with pytest.raises(CheckpointError, match=r"lacks 1 of .*stages.1.box_layers.2.weight"):
        read_cascade(write(path, less))
    with pytest.raises(CheckpointError, match=r"has unknown 1 of .*neck.more"):
        read_cascade(write(path, state | {"neck.more": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"has other classes in .*1.fc_cls.zs_weight"):
        read_cascade(write(path, state | {ROWS[1]: state[ROWS[1]] + 1}))
    learned = dict.fromkeys(ROWS, state[ROWS[0]] + 1)
    with pytest.raises(CheckpointError, match="is not the background's zeros"):
        read_cascade(write(path, state | learned))


def test_given_boxes_are_moved_only_if_asked(detector: Detector) -> None:
    still = replace(detector.defaults, use_box_deltas=False)
    found = found_in(detector, boxes=BOXES, options=still)
    assert (torch.cdist(found.boxes, BOXES).amin(dim=1) < 1e-3).all()
    moved = found_in(detector, boxes=BOXES)
    assert (torch.cdist(moved.boxes, BOXES).amin(dim=1) > 1e-3).any()
    assert len(found_in(detector, boxes=BOXES[:0])) == 0


def test_scores_are_means_of_sigmoids_times_the_roots_of_heat() -> None:
    rows = torch.eye(2)
    stages = [torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])]
    scores = class_scores(stages, rows, scale=1.0)
    high, low = torch.tensor(1.0).sigmoid(), 0.5
    torch.testing.assert_close(scores, torch.full((1, 2), float((high + low) / 2)))
    fused = fused_scores(torch.tensor([[0.25]]), torch.logit(torch.tensor([0.0625])))
    torch.testing.assert_close(fused, torch.tensor([[0.25]]))  # sqrt(1/4 * sqrt(1/16))


def test_a_stage_moves_boxes_inside_their_image() -> None:
    deltas = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 100.0]])
    first, second = move_boxes(
        0,
        [torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[4.0, 4, 6, 6]])],
        deltas,
        [(20, 20)] * 2,
    )
    torch.testing.assert_close(first, torch.tensor([[1.0, 0, 11, 10]]))
    torch.testing.assert_close(second, torch.tensor([[4.0, 0, 6, 20]]))
    assert move_boxes(2, [BOXES[:0]], deltas[:0], [(20, 20)])[0].shape == (0, 4)


def test_an_image_is_detected_alike_beside_others(detector: Detector, model: CascadeDetic) -> None:
    images = [
        PreparedImage(image(64, 96), (64, 96), "a"),
        PreparedImage(image(96, 80), (96, 80), "b"),
    ]
    localizer = detector.parts.localizer
    assert localizer is not None
    words = Vocabulary(("cat",), torch.ones(1, 12), (), model.encoder.encoder_id)
    both, view = localizer.localize(images, words, NovelClasses())
    alone, _ = localizer.localize(images[1:], words, NovelClasses())
    torch.testing.assert_close(both[1].boxes, alone[0].boxes)
    assert view.of(1).last_stage_cells(both[1].boxes[:2]).shape == (2, 64, 14, 14)
    with pytest.raises(ValueError, match="looks for all classes alike: leave out novel"):
        localizer.localize(images, words, NovelClasses(names=("cat",)))


def test_masks_and_foreign_views_are_refused(detector: Detector) -> None:
    assert detector.encode_regions(image(), BOXES).shape == (3, 12)
    assert detector.encode_regions(image(), BOXES[:0]).shape == (0, 12)
    with pytest.raises(ValueError, match="names boxes, not masks"):
        detector.encode_regions(image(), torch.ones(1, 90, 120, dtype=torch.bool))

    class OtherView:
        def features(self, boxes, *, masks=None):
            return boxes

        def last_stage_cells(self, boxes):
            return boxes

    assert detector.parts.scorer is not None
    words = detector.parts.class_vocabulary
    assert words is not None
    with pytest.raises(TypeError, match="expected a view of CascadeRegions, got OtherView"):
        detector.parts.scorer.score(OtherView(), Proposals(BOXES), words)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="channels must be a multiple of 64, got 96"):
        replace(TINY_CASCADE, channels=96)
    with pytest.raises(ValueError, match="similarity_scale must be positive"):
        replace(TINY_CASCADE, similarity_scale=0.0)
    with pytest.raises(ValueError, match="own_class_names are 1, num_classes 0"):
        replace(TINY_CASCADE, own_class_names=("cat",))
    with pytest.raises(ValueError, match="not both"):
        replace(TINY_CASCADE, own_class_names=("cat",), num_classes=1, class_names="coco80")
    with pytest.raises(ValueError, match="head_width must be at least 1, got 0"):
        replace(TINY_CASCADE, head_width=0)


def test_a_model_of_open_clips_lends_words_by_its_name(
    model: CascadeDetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "part.safetensors"
    save_cascade(part, model, has_text_tower=False)
    words = tiny_named(TINY_CONVNEXT, tmp_path)
    monkeypatch.setattr(OpenClipEncoder, "create", lambda *_: words)
    name = f"nowhere:{TINY_CONVNEXT}"
    lent = regionclip.load(part, text_weights=name)
    assert lent.encoder_id == words.encoder_id
    assert found_in(lent, ["umbrella"]).class_names == ("umbrella",)
    # the journal of a command that goes on notes the name: open_clip keeps the file
    command = LoadingCommand(model=str(part), text_weights=name)
    assert command.model_settings(None)["text_weights"] == name


def test_files_are_described_and_converted(
    state: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = write(tmp_path / "a.pth", state), tmp_path / "b.safetensors"
    assert main(["models", "show", str(path)]) == 0
    shown = capsys.readouterr().out
    for words in ("a Detic detector with a cascade", "1-1-1-1 blocks, 4 wide", "text-2x64"):
        assert words in shown
    assert main(["models", "convert", str(path), str(output)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "has vectors of 2 classes and does not say which: no list known here" in told
    assert not read_cascade(output).report.notes
    assert read_cascade(output).model.config == read_cascade(path).model.config
