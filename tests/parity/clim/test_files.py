"""The originals' files by names and shapes of their tensors: each is read to the last one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from regionclip.encoders.clip_resnet import SPECS
from regionclip.loading import KINDS
from regionclip.loading.dense import CLIM, CLIPSELF
from regionclip.loading.detic import DETIC
from regionclip.loading.detic_cascade import CASCADE
from regionclip.loading.fvit import FVIT
from regionclip.loading.request import FileKind, OpenFile
from regionclip.methods import clim, clipself, detic, fvit
from regionclip.methods.clim.reading import read_model as read_clim
from regionclip.methods.clipself.reading import read_model as read_clipself
from regionclip.methods.detic.cascade_config import CascadeConfig
from regionclip.methods.detic.cascade_reading import read_cascade
from regionclip.methods.detic.reading import read_model as read_detic
from regionclip.methods.fvit.reading import read_model as read_fvit
from tests.load_requests import request_for
from tests.parity.comparing import parity_folder

from .training_numbers import SYSTEM, manifest

TAGS = "roi_head.detic_tags.tag_embeddings"
UNUSED = ("roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.fc_cls.bias")
OTHERS = {"fvit_kept_keys"}
"""Lists of other things than a file's tensors."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file gives.

    Attributes:
        kind: Whose it is.
        read: Reads it.
        config: What the model is built from.
        left_over: Tensors that no model has a use for, beside tables of rotations.
    """

    kind: FileKind
    read: Callable[..., Any] = field(repr=False)
    config: Any
    left_over: tuple[str, ...] = ()


_RN50 = clim.Config(vit=None, resnet=SPECS["RN50"], pooling="attention")
EXPECTED = {
    "openai_rn50": Expected(CLIM, read_clim, _RN50),
    "openai_rn50x64_cc3m_clim": Expected(CLIM, read_clim, clim.VARIANTS["openai-rn50x64-cc3m"]),
    "openai_vitb16": Expected(CLIM, read_clim, clim.VARIANTS["openai-vitb16-coco"]),
    "openai_vitb16_coco_clim": Expected(CLIM, read_clim, clim.VARIANTS["openai-vitb16-coco"]),
    **{
        name: Expected(CLIPSELF, read_clipself, clipself.VARIANTS[variant])
        for name, variant in (
            ("eva02_clip_b_psz16_s8b", "eva-vitb16-coco"),
            ("eva_vitb16_coco_clipself", "eva-vitb16-coco"),
            ("eva02_clip_l_336_psz14_s6b", "eva-vitl14-coco"),
            ("eva_vitl14_coco_clipself", "eva-vitl14-coco"),
        )
    },
    **{
        name: Expected(FVIT, read_fvit, fvit.VARIANTS[variant], left_over)
        for name, variant, left_over in (
            ("fvit_eva_vitb16_ovcoco", "fvit-ov-coco-vitb16", UNUSED),
            ("fvit_eva_vitb16_ovlvis", "fvit-ov-lvis-vitb16", UNUSED),
            ("ovdet_openai_vitb16_ov_coco_clim", "fvlm-ov-coco-vitb16", ()),
        )
    },
    "detic_coco_cap_w_tags_clim": Expected(
        DETIC, read_detic, detic.VARIANTS["detic-ov-coco-r50"], (TAGS,)
    ),
    "detic_lvis_clim_centernet2": Expected(
        CASCADE,
        read_cascade,
        CascadeConfig(class_names="lvis1203", num_classes=1203),
        (*(f"roi_head.bbox_head.{stage}.freq_weight" for stage in range(3)), TAGS),
    ),
}
"""By the names of the lists."""


def test_no_list_is_forgotten() -> None:
    folder = parity_folder() / SYSTEM / "manifests"
    if not folder.is_dir():
        pytest.skip(f"no manifests: {folder} is not there")
    assert {path.stem for path in folder.glob("*.json")} == set(EXPECTED) | OTHERS


# a model on this device has shapes and no numbers
@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
@pytest.mark.parametrize("name", EXPECTED)
def test_every_tensor_of_a_file_has_its_place(name: str, tmp_path: Path) -> None:
    path = tmp_path / "original.pth"
    path.write_text("none of our own format")
    # zeros that take no memory
    state = {
        key: torch.zeros((), dtype=getattr(torch, dtype)).expand(shape)
        for key, (shape, dtype) in manifest(name).items()
    }
    # CLIM's ResNets are told from RegionCLIP's by the regions that are asked for
    expected, file, request = (
        EXPECTED[name],
        OpenFile(path, state),
        request_for(path, regions="layer4"),
    )
    assert next(kind for kind in KINDS if kind.claims(file, request)) is expected.kind
    with torch.device("meta"):
        read = expected.read(path, state)
    assert read.model.config == expected.config
    report = read.report
    assert report.left_over == expected.left_over
    own = set(read.model.state_dict())
    text = {key for key in own if key.startswith("encoder.") and ".visual." not in key}
    # detectors on a frozen CLIP carry its image tower alone
    assert set(report.missing) == (text if expected.kind is FVIT else set())
    assert set(report.loaded) == own - set(report.missing)
