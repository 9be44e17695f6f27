"""The numbers of CLIM, CLIPSelf and F-ViT, and the pictures and data that they were made on."""

import json
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import resize

from regionclip.data.transforms import pixels_of
from regionclip.evaluation import naming_regions
from tests.parity import comparing
from tests.parity.comparing import module_at, parity_folder, remembering, seed

SYSTEM = "clim"
golden = partial(comparing.golden, SYSTEM)
"""See :func:`tests.parity.comparing.golden`."""
check = partial(comparing.check, SYSTEM)
"""See :func:`tests.parity.comparing.check`."""
manifest = partial(comparing.manifest, SYSTEM)
"""See :func:`tests.parity.comparing.manifest`."""
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's."""
SHARED = ("eva02_clip_b_psz16_s8b.json", "openai_vitb16.json")
"""Files whose tensors trained CLIPs and detectors have too."""
TOY_SIZES = ((120, 160), (150, 100), (96, 128))


@cache
def stand_ins() -> ModuleType:
    """The folder's ``synthetic_checkpoint.py``."""
    module: Any = module_at(
        "clim_synthetic_checkpoint", parity_folder() / "synthetic_checkpoint.py"
    )
    folder = parity_folder() / SYSTEM / "manifests"
    files = [path for path in map(folder.joinpath, SHARED) if path.is_file()]
    tensors = {
        (name, tuple(shape))
        for path in files
        for name, (shape, _) in json.loads(path.read_text()).items()
    }
    module.values_for = remembering(module.values_for, lambda name, shape: (name, shape) in tensors)
    return module


def embedding_file(name: str) -> Path:
    """A file of text vectors; skips the test where it is not there."""
    path = parity_folder() / SYSTEM / "embeddings" / name
    if not path.is_file():
        pytest.skip(f"no text vectors: {path} is not there")
    return path


def picture(height: int, width: int, number: int) -> Image.Image:
    """A deterministic picture, RGB."""
    return Image.fromarray(stand_ins().image(height, width, number))


def pixels(height: int, width: int, number: int) -> Tensor:
    """The same as a tensor in [0, 1]."""
    return pixels_of(picture(height, width, number))


def normalized(images: Tensor) -> Tensor:
    """By CLIP's mean and deviation."""
    mean, std = (images.new_tensor(each)[:, None, None] for each in (MEAN, STD))
    return (images - mean) / std


def smooth_masks(patch: pytest.MonkeyPatch) -> None:
    """Have masks smoothed before they are looked up on a grid.

    So does the newer torchvision that the numbers were made with.
    """

    def smoothly(masks: Tensor, size: list[int], **given: Any) -> Tensor:
        given["antialias"] = True
        return resize(masks, size, **given)

    patch.setattr(naming_regions, "resize", smoothly)


def toy_folder() -> Path:
    """The files of the small data set; skips the test where they are not there."""
    path = parity_folder() / SYSTEM / "goldens" / "toy"
    if not path.is_dir():
        pytest.skip(f"no small data set: {path} is not there")
    return path


def toy_pictures() -> list[Image.Image]:
    """The three images of the small data set."""
    first = 800_000 * (seed() + 1)
    return [picture(*size, first + number) for number, size in enumerate(TOY_SIZES)]


def write_toy_images(folder: Path) -> None:
    """As the data set names them."""
    for number, each in enumerate(toy_pictures()):
        each.save(folder / f"{number:012d}.jpg", format="PNG")


def stats(tensor: Tensor) -> np.ndarray:
    """``*_stats`` arrays: mean, unbiased deviation, smallest, largest, sum of sizes."""
    flat = tensor.detach().double().flatten()
    # a single number has no deviation; the originals' file says NaN
    deviation = flat.std() if len(flat) > 1 else flat.new_tensor(torch.nan)
    numbers = (flat.mean(), deviation, flat.min(), flat.max(), flat.abs().sum())
    return torch.stack(numbers).numpy()


def sampled_stats(tensor: Tensor, count: int) -> np.ndarray:
    """One row per tensor, and rows of zeros up to ``count``."""
    rows = [stats(each) for each in tensor]
    return np.stack(rows + [np.zeros(5)] * (count - len(rows)))
