"""CORA's numbers, and the weights and images that they were made with."""

import tempfile
from argparse import Namespace
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from regionclip.methods.cora.model import Cora, ImageMaps
from regionclip.methods.cora.reading import read_model
from tests.parity import comparing
from tests.parity.comparing import module_at, parity_folder, seed

SYSTEM = "cora"
golden = partial(comparing.golden, SYSTEM)
"""See :func:`tests.parity.comparing.golden`."""
check = partial(comparing.check, SYSTEM)
"""See :func:`tests.parity.comparing.check`."""
manifest = partial(comparing.manifest, SYSTEM)
"""See :func:`tests.parity.comparing.manifest`."""
ARCHITECTURES = ("RN50", "RN50x4")


@cache
def stand_ins() -> ModuleType:
    """The folder's ``synthetic_checkpoint.py``."""
    return module_at("cora_synthetic_checkpoint", parity_folder() / "synthetic_checkpoint.py")


def canonical(key: str) -> str:
    """The name whose values a tensor has that is in the file twice."""
    for twice, once in (
        ("transformer.decoder.bbox_embed.", "bbox_embed."),
        ("backbone.0.layer4.", "backbone.0.body.layer4."),
    ):
        if key.startswith(twice):
            return once + key.removeprefix(twice)
    return key


def detector_state(
    architecture: str, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, Tensor]:
    """Stand-in weights under the original's names; twins share their storage, as they do there.

    Args:
        architecture: ``RN50`` or ``RN50x4``.
        shapes: Of tensors that are not as the manifest has them.
    """
    factors = {"query_embed.weight": 20.0, "backbone.0.attn_pool.positional_embedding": 4.0}
    factors |= {f"bbox_embed.{layer}.layers.2.weight": 0.2 for layer in range(6)}
    state: dict[str, Tensor] = {}
    for key, (shape, dtype) in manifest(f"detector_{architecture}").items():
        name = canonical(key)
        if name not in state:
            wanted = tuple((shapes or {}).get(name, shape))
            values = np.array(stand_ins().values_for(name, wanted, seed()), dtype=np.float32)
            if name.endswith(".activation.weight"):
                values = np.full(wanted, 0.25, np.float32)
            tensor = torch.from_numpy(values * np.float32(factors.get(name, 1.0)))
            state[name] = tensor.to(getattr(torch, dtype))
        state[key] = state[name]
    return state


def checkpoint(architecture: str) -> dict[str, object]:
    """All that an original file holds; what it was not averaged to has other anchors."""
    averaged = detector_state(architecture)
    return {
        "model": averaged
        | {"query_embed.weight": torch.zeros_like(averaged["query_embed.weight"])},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
        "lr_scheduler": {"step_size": 35, "last_epoch": 35},
        "epoch": 34,
        "args": Namespace(backbone=f"clip_{architecture}", device="cuda", resume="", lr=1e-4),
        "best_performance": 35.1,
        "model_ema": averaged,
    }


@cache
def detector(architecture: str) -> Cora:
    """The model of a file in the original's form, as users get it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pth"
        torch.save(checkpoint(architecture), path)
        return read_model(path).model.requires_grad_(False)


def pixels(height: int, width: int, *, seed_offset: int = 0) -> Tensor:
    """The deterministic picture of a case, ``(3, H, W)`` in [0, 1]."""
    array = stand_ins().image(height, width, seed() + seed_offset)
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


def image_a() -> Tensor:
    """The image that single-image cases are of."""
    return pixels(320, 416)


@cache
def maps_of_a(architecture: str) -> ImageMaps:
    """Its maps."""
    return detector(architecture).maps([image_a()])


@cache
def maps_of_two(architecture: str) -> ImageMaps:
    """Maps of the batch of two, padded to the first."""
    return detector(architecture).maps([image_a(), pixels(288, 352, seed_offset=100)])


def stats(tensor: Tensor) -> np.ndarray:
    """``*_stats`` arrays: mean, unbiased deviation, mean size, smallest, largest, L2 norm."""
    flat = tensor.detach().double().flatten()
    numbers = (flat.mean(), flat.std(), flat.abs().mean(), flat.min(), flat.max(), flat.norm())
    return np.array([float(each) for each in numbers])


def sampled(tensor: Tensor, count: int) -> np.ndarray:
    """``*_sub`` arrays: ``count`` elements, evenly spread over the flattened tensor."""
    flat = tensor.detach().flatten().numpy()
    return flat[np.linspace(0, len(flat) - 1, min(count, len(flat))).astype(np.int64)]


def check_sampled(case: str, name: str, ours: Tensor, *, rtol: float = 1e-4) -> None:
    """Compare with ``<name>_sub`` and, where the case has them, ``<name>_stats``."""
    expected = golden(case)
    sub = expected[f"{name}_sub"]
    check(case, f"{name}_sub", sampled(ours, len(sub)), sub, rtol=rtol)
    if f"{name}_stats" in expected:
        check(case, f"{name}_stats", stats(ours), expected[f"{name}_stats"], rtol=rtol)
