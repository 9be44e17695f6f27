"""Dense CLIPs of the originals' files, and the images, boxes and masks of their numbers."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regionclip.data.letterbox import letterbox
from regionclip.data.transforms import pixels_of, resize_shortest_edge
from regionclip.methods.clim.model import Clim
from regionclip.methods.clim.reading import read_model
from regionclip.methods.clipself.model import ClipSelf
from regionclip.regions.dense_regions import network_input
from tests.parity.comparing import seed

from .training_numbers import check, golden, manifest, normalized, picture, stand_ins, stats

RTOL = 2e-5
"""Of the largest value: other kernels of attention sum in another order."""
SIZES = ((480, 640, 7), (333, 250, 8))
"""Height, width and number of the two images of every case."""
SENTENCES = (
    "a photo of a cat.",
    "a photo of a dog.",
    "There is a traffic light in the scene.",
    "two people riding bicycles on a busy street",
    "a plate of food with broccoli and carrots",
    "This is a photo of the aerosol can.",
    "itap of my umbrella.",
    "A red double-decker bus!",
    "interior design of modern living room with fireplace in a new house",
    "x",
)


def write_checkpoint(path: Path, name: str, *, wrapped: bool, zeros: str | None = None) -> None:
    """A file in the original's form, as a training run or a release leaves it.

    Args:
        path: To write.
        name: Of the manifest.
        wrapped: Whether the weights are beside optimizer and counters.
        zeros: Beginning of the names of tensors that no number depends on.
    """
    tensors = manifest(name)
    drawn = {key: own for key, own in tensors.items() if zeros is None or not key.startswith(zeros)}
    state: dict[str, Any] = stand_ins().build(drawn, seed())
    for key in tensors.keys() - drawn.keys():
        shape, dtype = tensors[key]
        state[key] = torch.zeros(shape, dtype=getattr(torch, dtype))
    if wrapped:
        state = {
            "epoch": 100,
            "name": "clim_coco_100e_openai_vitb16_4x",
            "state_dict": state,
            "optimizer": {"state": {}, "param_groups": [{"lr": 1e-5, "params": [0]}]},
            "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0},
        }
    torch.save(state, path)


def dense_clip(name: str) -> Clim:
    """The model of a file in the original's form, as users get it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        write_checkpoint(path, name, wrapped=False)
        return read_model(path).model.requires_grad_(False)


def images(model: Clim | ClipSelf, side: int) -> Tensor:
    """Both images in squares, at the upper left, as the tower takes them."""
    squares = []
    for height, width, number in SIZES:
        own = picture(height, width, number + 1000 * seed())
        pixels = resize_shortest_edge(
            own, shortest=side, longest=side, interpolation="bicubic", rule="longest"
        )
        squares.append(network_input(model.encoder, pixels, padding="square"))
    return torch.cat(squares)


@cache
def crops(side: int) -> Tensor:
    """Both images in squares, in the middle."""
    squares = [
        pixels_of(letterbox(picture(height, width, number + 1000 * seed()), side))
        for height, width, number in SIZES
    ]
    return normalized(torch.stack(squares))


def boxes(case: str, side: int, *, prefix: str = "") -> list[Tensor]:
    """Per image, in pixels of the squares."""
    every = torch.from_numpy(golden(case)[f"{prefix}boxes"]) * side
    return [every, every[:7]]


def masks(case: str) -> list[Tensor]:
    """Per image, over the map's cells."""
    expected = golden(case)
    number, height, width = expected["masks_shape"].tolist()
    bits = np.unpackbits(expected["masks"])[: number * height * width]
    every = torch.from_numpy(bits.reshape(number, height, width)).bool()
    return [every, every[:2]]


def check_images(case: str, model: Clim | ClipSelf, inputs: Tensor) -> None:
    """Compare both preprocessings."""
    expected, squares = golden(case), crops(model.encoder.image_size)
    for name, own, step in (
        ("det_input", inputs, (17, 19)),
        ("crop_input", squares, (9, 11)),
    ):
        sub = own[:, :, :: step[0], :: step[1]]
        check(case, f"{name}_sub", sub, expected[f"{name}_sub"], rtol=1e-6)
        check(case, f"{name}_stats", stats(own), expected[f"{name}_stats"], rtol=1e-6)


def check_dense(case: str, dense: Tensor, *, prefix: str = "") -> None:
    """Compare a map."""
    expected = golden(case)
    for name, own in (
        ("dense_shape", np.array(dense.shape)),
        ("dense_sub", dense[:, :, ::4, ::4]),
        ("dense_stats", stats(dense)),
        ("dense_row", dense[0, :, 5]),
    ):
        if prefix + name in expected:
            check(case, prefix + name, own, expected[prefix + name], rtol=RTOL)


def check_unit(case: str, name: str, own: Tensor) -> None:
    """Compare vectors, and, where the case has them, the same of length one."""
    expected = golden(case)
    check(case, name, own, expected[name], rtol=RTOL)
    if f"{name}_norm" in expected:
        unit = torch.nn.functional.normalize(own, dim=1)
        check(case, f"{name}_norm", unit, expected[f"{name}_norm"], rtol=RTOL)
