"""Numbers of F-ViT and F-VLM, and the weights and images that they were made with."""

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from regionclip.concepts.class_names import builtin_names
from regionclip.methods.fvit.model import Fvit
from regionclip.methods.fvit.reading import read_model
from tests.parity.comparing import seed

from .training_numbers import (
    check,
    embedding_file,
    golden,
    manifest,
    normalized,
    pixels,
    stand_ins,
    stats,
)

Case = Literal["fvit_vitb16_ovcoco", "ovdet_fvlm_vitb16_ovcoco"]
FVIT: Case = "fvit_vitb16_ovcoco"
FVLM: Case = "ovdet_fvlm_vitb16_ovcoco"
_FILES = {
    FVIT: ("fvit_eva_vitb16_ovcoco", "eva02_clip_b_psz16_s8b"),
    FVLM: ("ovdet_openai_vitb16_ov_coco_clim", "openai_vitb16_coco_clim"),
}
"""The detector's manifest, and that of the CLIP that is frozen in it."""
_IMAGE_SEEDS = {FVIT: 400_000, FVLM: 500_000}
TOWER = "backbone.visual."


def detector_state(case: Case) -> dict[str, Tensor]:
    """Stand-in weights under the original's names; the frozen tower has those of its own file."""
    detector, clip = _FILES[case]
    state = stand_ins().build(
        {name: each for name, each in manifest(detector).items() if not name.startswith(TOWER)},
        seed(),
    )
    tower = {name: each for name, each in manifest(clip).items() if name.startswith("visual.")}
    for name, tensor in stand_ins().build(tower, seed()).items():
        state["backbone." + name] = tensor.float()
    # rotary tables, which some files have and no loader needs
    for name, (shape, _) in manifest(detector).items():
        if name.startswith(TOWER) and "freqs_" in name:
            state[name] = torch.zeros(shape)
    return state | _class_rows(case)


def _class_rows(case: Case) -> dict[str, Tensor]:
    scale = torch.tensor(50.0)
    head = "roi_head.bbox_head."
    if case == FVLM:
        rows = np.load(embedding_file("coco_openai_vitb16_hand_craft.npy"))
        return {head + "cls_embeddings": torch.from_numpy(rows), head + "cls_temp": scale}
    of_name: Mapping[str, Tensor] = torch.load(
        embedding_file("coco_with_background_evaclip_vitb_16.pt"), weights_only=True
    )
    names = (*builtin_names("coco65"), "background")
    rows = torch.stack([of_name[name].float() for name in names])
    unit = torch.nn.functional.normalize(rows, dim=1)
    return {head + "all_embeddings": unit.T.contiguous(), head + "detect_temperature": scale}


@cache
def detector(case: Case) -> Fvit:
    """The model of a file in the original's form, as users get it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "epoch_3.pth"
        torch.save({"meta": {"epoch": 3}, "state_dict": detector_state(case)}, path)
        return read_model(path).model.requires_grad_(False)


def image(case: Case) -> Tensor:
    """``(1, 3, S, S)``, normalised with CLIP's statistics, also where the detector has others."""
    side = int(golden(case)["size"])
    return normalized(pixels(side, side, _IMAGE_SEEDS[case] * (seed() + 1)))[None]


def check_stats(case: Case, name: str, ours: Tensor, *, rtol: float = 2e-5) -> None:
    """Compare with ``<name>_stats``, numbers of a kind with one another."""
    expected = golden(case)[f"{name}_stats"]
    found = stats(ours)
    scale = float(np.abs(expected[2:4]).max())
    check(case, f"{name}_stats[:4]", found[:4], expected[:4], rtol=0.0, atol=rtol * scale)
    check(case, f"{name}_stats[4]", found[4], expected[4], rtol=rtol)
