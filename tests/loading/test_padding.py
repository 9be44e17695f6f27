"""How images are filled up for a dense map: as a file says, or as the caller does."""

import json
from collections.abc import Callable
from pathlib import Path

import jaxtyping
import pytest
import torch
from PIL import Image
from torch import Tensor

from regionclip.checkpoints import read_native_metadata
from regionclip.cli import main
from regionclip.data.transforms import Padding
from regionclip.detect import Detector
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.loading import LoadOptions, load
from regionclip.methods.clim import reading as clim
from regionclip.methods.clim.config import ClimConfig
from regionclip.methods.clim.model import Clim
from regionclip.methods.clipself import reading as clipself
from regionclip.methods.clipself.config import ClipSelfConfig
from regionclip.methods.clipself.model import ClipSelf
from regionclip.regions.embedder import RegionSource
from tests.tiny_clip import TINY, tiny_clip, tiny_vit
from tests.tiny_dense import PLAIN, TINY_VIT, tiny_dense
from tests.tiny_eva import TINY_EVA
from tests.tiny_open_clip import TINY_RESNET, tiny_named

BOXES = torch.tensor([[5.0, 5.0, 60.0, 80.0], [0.0, 0.0, 70.0, 90.0]])
PICTURE = torch.rand(3, 90, 70, generator=torch.Generator().manual_seed(0))
CELLS = {"square": 8 * 8, "cells": 8 * 7}
"""Patches of the picture, which becomes 64 pixels high and 50 wide."""


def write_clim(path: Path, padding: Padding = "square") -> Path:
    torch.manual_seed(0)
    config = ClimConfig(vit=TINY_VIT, longest_side=64, padding=padding, templates="photo")
    clim.save_model(path, Clim(config))
    return path


def write_clipself(path: Path, padding: Padding = "square") -> Path:
    torch.manual_seed(0)
    config = ClipSelfConfig(encoder=TINY_EVA, longest_side=64, padding=padding)
    clipself.save_model(path, ClipSelf(config))
    return path


def cells_seen(detector: Detector) -> tuple[int, Tensor]:
    """How many patches the tower is given of the picture, and the vectors of boxes."""
    seen: list[int] = []
    tower = detector.parts.dense_tower
    assert isinstance(tower, torch.nn.Module)
    patches = next(each for each in tower.modules() if isinstance(each, torch.nn.Conv2d))
    handle = patches.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.shape[2] * output.shape[3])
    )
    vectors = detector.encode_regions(PICTURE, BOXES)
    handle.remove()
    assert len(set(seen)) == 1
    return seen[0], vectors


@pytest.mark.parametrize(
    ("write", "regions"),
    [(write_clim, "map"), (write_clim, "mask-attention"), (write_clipself, "map")],
)
def test_a_file_says_it_and_a_caller_may_say_otherwise(
    write: Callable[..., Path], regions: RegionSource, tmp_path: Path
) -> None:
    found = {}
    for written in ("square", "cells"):
        path = write(tmp_path / f"{written}.safetensors", written)
        for told in (None, "square", "cells"):
            detector = load(path, regions=regions, options=LoadOptions(padding=told))
            found[written, told] = cells_seen(detector)
            assert found[written, told][0] == CELLS[told or written]
    for written, told in found:
        first, second = found[written, told][1], found[told or written, None][1]
        assert torch.equal(first, second)
    assert not torch.allclose(found["square", None][1], found["cells", None][1], atol=1e-4)


@pytest.mark.parametrize("regions", ["map", "mask-attention"])
def test_a_tower_of_open_clips_is_told_too(
    regions: RegionSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenClipEncoder, "create", lambda *_: tiny_vit())
    monkeypatch.setattr("regionclip.loading.open_clip.usual_longest_side", lambda _: 64)
    for told in (None, "square", "cells"):
        options = LoadOptions(padding=told)
        detector = load("nowhere:tiny-vit", regions=regions, options=options)
        assert cells_seen(detector)[0] == CELLS[told or "square"]


def test_regions_without_a_dense_map_refuse_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, path = LoadOptions(padding="cells"), write_clim(tmp_path / "clim.safetensors")
    message = "padding 'cells' is for regions of a dense map.*; leave it out"
    torch.save(tiny_clip(spec=TINY).clip.state_dict(), tmp_path / "resnet.pt")
    refused: tuple[tuple[str | Path, RegionSource], ...] = (
        ("icons", "map"),
        (tmp_path / "resnet.pt", "map"),
        (path, "crops"),
    )
    for name, regions in refused:
        with pytest.raises(ValueError, match=message):
            load(name, regions=regions, options=options)
    resnet = tiny_named(TINY_RESNET, tmp_path / "architectures")
    monkeypatch.setattr(OpenClipEncoder, "create", lambda *_: resnet)
    with pytest.raises(ValueError, match=message):
        load("nowhere:tiny-resnet", options=options)
    monkeypatch.setattr(OpenClipEncoder, "create", lambda *_: tiny_vit())
    monkeypatch.setattr("regionclip.loading.open_clip.dense_form_of", lambda _: None)
    with pytest.raises(ValueError, match=message):
        load("nowhere:tiny-vit", options=options)


def test_words_that_are_none_of_an_options_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # the test run's type checker would refuse them before our own check does
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="unknown padding 'cell'; expected one of square, cells"):
        LoadOptions(padding="cell")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown activation 'relu'; expected one of quick_gelu"):
        LoadOptions(activation="relu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown transfer_to 'lvis'; expected one of coco"):
        LoadOptions(transfer_to="lvis")  # type: ignore[arg-type]


def test_results_tell_it_only_if_it_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, picture = write_clim(tmp_path / "clim.safetensors"), tmp_path / "a.png"
    Image.effect_noise((70, 90), 80).convert("RGB").save(picture)
    words = ["detect", str(picture), "--model", str(path), "--proposals", "grid"]
    words += ["--classes", "cat, dog", "--output", str(tmp_path / "found")]
    journal = tmp_path / "found" / "detections.jsonl"
    assert main(words) == 0
    assert "padding" not in json.loads(journal.read_text().splitlines()[0])["settings"]
    assert main([*words, "--padding", "cells"]) == 2
    assert 'padding was null, now "cells"' in " ".join(capsys.readouterr().err.split())
    assert main([*words, "--padding", "cells", "--no-resume"]) == 0
    settings = json.loads(journal.read_text().splitlines()[0])["settings"]
    assert settings["padding"] == "cells"


def test_convert_writes_a_file_that_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.safetensors"
    released = tmp_path / "epoch_3.pt"
    torch.save({"state_dict": tiny_dense(PLAIN).clip.state_dict()}, released)
    for source in (released, write_clipself(tmp_path / "eva.safetensors")):
        for options, expected in ((["--padding", "cells"], "cells"), ([], "square")):
            assert main(["models", "convert", str(source), str(own), *options]) == 0
            assert read_native_metadata(own).config["padding"] == expected
    torch.save(tiny_clip(spec=TINY).clip.state_dict(), tmp_path / "resnet.pt")
    resnet = str(tmp_path / "resnet.pt")
    assert main(["models", "convert", resnet, str(own), "--padding", "cells"]) == 2
    assert "--padding is about towers with a dense map" in capsys.readouterr().err
