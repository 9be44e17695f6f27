"""Original files: their names, and what is read from shapes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import regionclip
from regionclip.checkpoints import CheckpointError
from regionclip.encoders.clip_resnet import OPENAI_MEAN
from regionclip.encoders.vit import VIT_SPECS
from regionclip.methods.clim import reading as clim
from regionclip.methods.clim.config import ClimConfig
from regionclip.methods.clim.model import Clim
from regionclip.methods.clipself import reading as clipself
from regionclip.methods.clipself.config import ClipSelfConfig
from regionclip.methods.clipself.model import ClipSelf
from regionclip.methods.fvit.config import FvitConfig
from regionclip.methods.fvit.model import Fvit, carry_classes
from regionclip.methods.fvit.reading import read_model, save_model, text_names
from regionclip.methods.fvit.weights import is_original
from tests.fvit_files import (
    TINY_EVA,
    TINY_FVIT,
    TINY_FVLM,
    TINY_VIT,
    detect_one,
    original_state,
    tiny_fvit,
)

HEAD = "roi_head.bbox_head."
FVLM = replace(
    TINY_FVIT, projection=True, background="learned", head_width=20, rpn_norm=False, mask_head=False
)


@pytest.fixture(autouse=True)
def known_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the tiny tower were a released one: shapes tell no number of attention heads."""
    monkeypatch.setitem(VIT_SPECS, TINY_VIT.name, TINY_VIT)


def model_of(num_classes: int, config: FvitConfig = FVLM) -> Fvit:
    model = tiny_fvit(config)
    carry_classes(model, [f"c{n}" for n in range(num_classes)], torch.randn(num_classes, 12))
    return model


def write(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"meta": {"epoch": 3}, "state_dict": state, "optimizer": {"lr": 0.1}}, path)
    return path


def test_an_fvlm_file_comes_back_whole_but_for_its_text_tower(tmp_path: Path) -> None:
    model = model_of(80)
    read = read_model(write(tmp_path / "any_name.pth", original_state(model)))
    assert set(read.report.missing) == set(text_names(read.model))
    assert not read.has_text_tower
    own = read.model.state_dict()
    for name, tensor in model.state_dict().items():
        if name not in read.report.missing:
            torch.testing.assert_close(own[name], tensor, msg=name)
    config = read.model.config
    assert (config.channels, config.head_width, config.projection) == (8, 20, True)
    assert (config.class_names, config.base_classes) == ("coco80", "coco48")
    assert (config.mean, config.background) == (OPENAI_MEAN, "learned")
    assert not config.rpn_norm
    assert not config.mask_head
    # the published detectors run GELU
    assert config.vit == replace(TINY_VIT, quick_gelu=False)


def test_the_tower_of_a_file_computes_with_gelu(tmp_path: Path) -> None:
    model = model_of(80, replace(FVLM, vit=replace(TINY_VIT, quick_gelu=False)))
    quick = model_of(80)
    read = read_model(write(tmp_path / "a.pth", original_state(model))).model
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(read.maps(image).clip, model.maps(image).clip)
    assert not torch.allclose(read.maps(image).clip, quick.maps(image).clip, atol=1e-4)


@pytest.mark.parametrize(
    ("num_classes", "names", "base", "image_size", "novel_exponent"),
    [
        (80, "coco80", "coco48", 640, 0.8),
        (1203, "lvis1203", "lvis866", 640, 0.65),
        (7, "", "", 640, 0.8),
    ],
)
def test_the_number_of_classes_tells_the_benchmark(
    tmp_path: Path, num_classes: int, names: str, base: str, image_size: int, novel_exponent: float
) -> None:
    path = write(tmp_path / "a.pth", original_state(model_of(num_classes)))
    read = read_model(path)
    config = read.model.config
    assert (config.class_names, config.num_classes) == (names, num_classes)
    told = f"the names of {names}, in its order" if names else "they are called 'class 0' and on"
    [note] = read.report.notes
    assert f"vectors of {num_classes} classes and does not say which" in note
    assert told in note
    assert config.base_classes == (base or "coco48")
    assert (config.image_size, config.novel_exponent) == (image_size, novel_exponent)
    assert config.selection.max_detections == (300 if num_classes == 1203 else 100)


def test_a_file_detects_its_own_classes_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", original_state(model_of(80)))
    detector = regionclip.load(path)
    found = detect_one(detector, torch.rand(3, 40, 60))
    assert len(found.class_names) == 80
    with pytest.raises(ValueError, match="carries no text tower"):
        detector.detect(torch.rand(3, 40, 60), ["umbrella"])


def test_wrong_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    state = original_state(model_of(80))
    assert is_original(state)
    assert not is_original({"backbone.visual.proj": torch.zeros(1)})
    part = {name: each for name, each in state.items() if name != HEAD + "fc_reg.weight"}
    with pytest.raises(CheckpointError, match=r"lacks 1 of .*box_head.box_offsets.weight"):
        read_model(write(tmp_path / "part.pth", part))
    with pytest.raises(CheckpointError, match=r"has unknown 1 of .*neck.more"):
        read_model(write(tmp_path / "more.pth", state | {"neck.more": torch.zeros(1)}))
    fixed = {name: each for name, each in state.items() if "bg_embedding" not in name}
    with pytest.raises(CheckpointError, match="whose background was not learned"):
        read_model(write(tmp_path / "fixed.pth", fixed))
    other = {name: each for name, each in state.items() if "class_embedding" not in name}
    with pytest.raises(CheckpointError, match="a frozen image tower"):
        read_model(write(tmp_path / "other.pth", other))
    resnet = original_state(model_of(80, TINY_FVLM))
    with pytest.raises(CheckpointError, match="ResNet RN50x64 can be trained, its file not"):
        read_model(write(tmp_path / "resnet.pth", resnet))
    big = state | {"backbone.visual.positional_embedding": torch.zeros(50, 16)}
    with pytest.raises(CheckpointError, match="of a size that was never released"):
        read_model(write(tmp_path / "big.pth", big))


@pytest.mark.parametrize("kind", ["vit", "eva"])
def test_the_clip_that_was_frozen_lends_its_text_tower(tmp_path: Path, kind: str) -> None:
    model = model_of(80, FVLM if kind == "vit" else replace(FVLM, vit=None, eva=TINY_EVA))
    path, whole = tmp_path / "own.safetensors", tmp_path / "clip.safetensors"
    save_model(path, model, has_text_tower=False)
    if kind == "vit":
        frozen = Clim(ClimConfig(vit=TINY_VIT))
        clim.save_model(whole, frozen)
    else:
        frozen = ClipSelf(ClipSelfConfig(encoder=TINY_EVA))
        clipself.save_model(whole, frozen)
    detector = regionclip.load(path, text_weights=whole)
    words, its = (
        each.vocabulary(["umbrella", "cat"], templates="photo").embeddings
        for each in (detector, regionclip.load(whole))
    )
    torch.testing.assert_close(words, its)
    assert detect_one(detector, torch.rand(3, 40, 60), ["umbrella"]).class_names == ("umbrella",)
