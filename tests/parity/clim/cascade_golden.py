"""Numbers of Detic with a cascade, and the weights and image that they were made with."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.methods.detic.cascade_model import CascadeDetic
from regionclip.methods.detic.cascade_reading import read_cascade
from regionclip.methods.detic.cascade_weights import ROWS
from tests.parity.comparing import seed

from .training_numbers import embedding_file, golden, manifest, pixels, stand_ins

CASE = "detic_clim_centernet2_lvis"
MANIFEST = "detic_lvis_clim_centernet2"


def class_rows() -> Tensor:
    """The original's vectors of LVIS's classes, as its file has them."""
    return torch.from_numpy(np.load(embedding_file("lvis_v1_clip_a+cname.npy"))).float()


def cascade_state() -> dict[str, Tensor]:
    """Stand-in weights under the original's names."""
    state = stand_ins().build(manifest(MANIFEST), seed())
    rows = F.normalize(class_rows(), dim=1)
    columns = torch.cat([rows, rows.new_zeros(1, rows.shape[1])]).T.contiguous()
    tags = {"roi_head.detic_tags.tag_embeddings": rows}
    return state | dict.fromkeys(ROWS, columns) | tags


@cache
def cascade() -> CascadeDetic:
    """The model of a file in the original's form, as users get it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "iter_45000.pth"
        torch.save({"meta": {"iter": 45000}, "state_dict": cascade_state()}, path)
        return read_cascade(path).model.requires_grad_(False)


def image() -> Tensor:
    """``(3, S, S)``, RGB in [0, 1]."""
    side = int(golden(CASE)["size"])
    return pixels(side, side, 700_000 * (seed() + 1))
