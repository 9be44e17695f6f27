"""Every kind of file that ``load`` reads, as its original: told apart, opened, and described."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from regionclip.checkpoints import CheckpointError, read_checkpoint
from regionclip.cli import main
from regionclip.detect import Detector
from regionclip.encoders.mean_clip import MEAN_SPECS
from regionclip.encoders.vit import VIT_SPECS
from regionclip.loading import KINDS, load
from regionclip.loading.cora import CORA, REGION_PROMPT
from regionclip.loading.dense import CLIM, CLIPSELF
from regionclip.loading.detic import DETIC
from regionclip.loading.detic_cascade import CASCADE
from regionclip.loading.fvit import FVIT
from regionclip.loading.mean_clip import MEAN_CLIP
from regionclip.loading.open_clip import OPEN_CLIP
from regionclip.loading.regionclip import REGIONCLIP
from regionclip.loading.request import FileKind, OpenFile
from regionclip.methods.cora.reading import save_region_prompt
from regionclip.methods.detic import cascade_model
from regionclip.methods.detic.cascade_model import CascadeDetic
from regionclip.methods.detic.model import Detic, carry_classes
from regionclip.methods.fvit.config import FvitConfig
from regionclip.methods.fvit.model import carry_classes as carry_fvit_classes
from tests import cora_files, detic_files, fvit_files
from tests.cascade_files import original_cascade_state, tiny_cascade
from tests.load_requests import request_for
from tests.loading.test_mean_clip import written
from tests.tiny_clip import TINY, tiny_clip
from tests.tiny_dense import PLAIN, tiny_dense
from tests.tiny_eva import TINY_EVA, eva_file, tiny_eva
from tests.tiny_mean import tiny_mean
from tests.tiny_open_clip import write_convnext

NAMES = ("a", "b", "c")
ROWS = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
EVA = replace(TINY_EVA, width=64, head_width=64)
FVLM = replace(
    fvit_files.TINY_FVIT,
    projection=True,
    background="learned",
    head_width=20,
    rpn_norm=False,
    mask_head=False,
)


@dataclass(frozen=True, slots=True)
class Example:
    """A file of a kind.

    Attributes:
        kind: Which.
        write: Makes it.
        shown: What ``models show`` says of it.
    """

    kind: FileKind
    write: Callable[[Path], object]
    shown: tuple[str, ...]


def write_fvit(path: Path, config: FvitConfig) -> None:
    model = fvit_files.tiny_fvit(config)
    carry_fvit_classes(model, NAMES, ROWS)
    torch.save({"state_dict": fvit_files.original_state(model)}, path)


def detic() -> Detic:
    model = detic_files.tiny_detic()
    carry_classes(model, NAMES, ROWS)
    return model


def cascade() -> CascadeDetic:
    model = tiny_cascade()
    cascade_model.carry_classes(model, NAMES, ROWS)
    return model


EXAMPLES = {
    "open_clip": Example(OPEN_CLIP, write_convnext, ("method open_clip",)),
    "region prompt": Example(
        REGION_PROMPT,
        lambda path: save_region_prompt(path, cora_files.tiny_cora().region_prompt),
        ("a region prompt (CORA's)",),
    ),
    "cora": Example(
        CORA,
        lambda path: cora_files.save_original(
            path, cora_files.original_state(cora_files.tiny_cora())
        ),
        ("a CORA detector", "architecture RN-1-1-1-2-w8"),
    ),
    "fvit": Example(
        FVIT,
        lambda path: write_fvit(path, fvit_files.TINY_FVIT),
        (
            "a detector on a frozen CLIP: F-ViT (CLIPSelf's)",
            "architecture tiny-vit",
            "text tower no",
            "masks yes",
            "classes 3",
            "trained on boxes of coco48",
            "of no use here 2: 2 of roi_head",
        ),
    ),
    "fvlm": Example(
        FVIT,
        lambda path: write_fvit(path, FVLM),
        ("F-VLM (CLIM's)", "masks no", "of no use here 0"),
    ),
    "detic": Example(
        DETIC,
        lambda path: torch.save(detic_files.original_state(detic()), path),
        ("a Detic detector (CLIM's)", "classes 3"),
    ),
    "detic with a cascade": Example(
        CASCADE,
        lambda path: torch.save(original_cascade_state(cascade()), path),
        ("a Detic detector with a cascade", "classes 3"),
    ),
    "mean clip": Example(
        MEAN_CLIP,
        lambda path: torch.save(written(tiny_mean("swin"), "detector"), path),
        ("an encoder of RegionCLIP's zero-shot branch", "architecture tiny-swin"),
    ),
    "clipself": Example(
        CLIPSELF,
        lambda path: torch.save({"module": eva_file(tiny_eva(spec=EVA))}, path),
        ("kind clip", "architecture EVA02-3x64-8"),
    ),
    "clim": Example(
        CLIM,
        lambda path: torch.save({"state_dict": tiny_dense(PLAIN).clip.state_dict()}, path),
        ("kind clip", "architecture ViT-2x64-8", "activation not told"),
    ),
    "regionclip": Example(
        REGIONCLIP,
        lambda path: torch.save(
            tiny_clip(spec=replace(TINY, text_width=64, text_heads=1)).clip.state_dict(), path
        ),
        ("kind clip", "text tower yes"),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("kinds")
    with pytest.MonkeyPatch.context() as patch:
        # as if the tiny towers were released ones: shapes tell no number of attention heads
        patch.setitem(VIT_SPECS, fvit_files.TINY_VIT.name, fvit_files.TINY_VIT)
        patch.setitem(MEAN_SPECS, "UniCL-Swin-B", tiny_mean("swin").spec)
        yield folder


def test_there_is_an_example_of_every_kind() -> None:
    assert {example.kind for example in EXAMPLES.values()} == set(KINDS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_file_is_of_its_kind_and_models_show_says_so(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example, path = EXAMPLES[name], folder / f"{name}.any"
    example.write(path)
    file, request = OpenFile(path, read_checkpoint(path)), request_for(path)
    assert next(kind for kind in KINDS if kind.claims(file, request)) is example.kind
    if example.kind is REGION_PROMPT:
        with pytest.raises(CheckpointError, match="is a region prompt, which goes with a model"):
            load(path)
    else:
        assert isinstance(load(path), Detector)
    monkeypatch.setattr("regionclip.cli.console.console.width", 240)
    assert main(["models", "show", str(path)]) == 0
    printed = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for words in example.shown:
        assert words in printed
