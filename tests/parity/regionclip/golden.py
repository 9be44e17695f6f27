"""RegionCLIP's numbers, and the weights and images that they were made with."""

from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from regionclip.structures import Detections
from tests.parity import comparing
from tests.parity.comparing import module_at, parity_folder, remembering, seed

SYSTEM = "regionclip"
SHARED = ("backbone.", "lang_encoder.")
golden = partial(comparing.golden, SYSTEM)
"""See :func:`tests.parity.comparing.golden`."""
check = partial(comparing.check, SYSTEM)
"""See :func:`tests.parity.comparing.check`."""


@cache
def inputs() -> ModuleType:
    """The folder's ``golden_inputs.py``: builds checkpoints, boxes and embeddings."""
    module = module_at("golden_inputs", parity_folder() / "regionclip" / "golden_inputs.py")
    # every pretrained or fine-tuned file of an architecture has the same
    module.sc.values_for = remembering(
        module.sc.values_for, lambda name, shape: name.startswith(SHARED)
    )
    return module


def image(height: int, width: int, *, seed_offset: int = 0) -> np.ndarray:
    """The deterministic ``uint8`` RGB picture of a case."""
    return inputs().sc.image(height, width, seed() + seed_offset)


def pixels(height: int, width: int, *, seed_offset: int = 0) -> torch.Tensor:
    """The same as ``(3, H, W)`` in [0, 1]."""
    array = image(height, width, seed_offset=seed_offset)
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


def checkpoint(name: str, **kwargs: Any) -> dict[str, torch.Tensor]:
    """Stand-in weights in the layout of an original file; see ``golden_inputs.checkpoint``."""
    return inputs().checkpoint(name, seed(), **kwargs)


def stats(tensor: torch.Tensor) -> np.ndarray:
    """``*_stats`` arrays: mean, unbiased standard deviation, L2 norm, smallest, largest."""
    flat = tensor.detach().double().flatten()
    return np.array([flat.mean(), flat.std(), flat.norm(), flat.min(), flat.max()])


def check_detections(
    case: str, ours: Detections, golden: dict[str, np.ndarray], *, max_score_error: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """Compare as matched sets: equal class, equal box, scores close.

    Boxes are equal when their IoU is above 0.99 or no corner is off by 0.02 px: a proposal that
    clipping left 0.004 px high has no IoU to speak of.

    Scores nearer to each other than float32's noise may be cut differently at the end of the
    list, so rows within ``max_score_error`` of the lowest score may lack a partner.

    Returns:
        Rows of the golden detections, and the rows of ours that they are; in most runs the same.
    """
    boxes, scores = torch.from_numpy(golden["boxes"]), torch.from_numpy(golden["scores"])
    labels = torch.from_numpy(golden["classes"])
    assert len(ours) == len(boxes), f"{case}: {len(ours)} detections, expected {len(boxes)}"
    same_class = labels[:, None] == ours.labels[None]
    close = (scores[:, None] - ours.scores[None]).abs() < max_score_error
    same_corners = (boxes[:, None] - ours.boxes[None]).abs().amax(dim=2) < 0.02
    possible = same_class & close & (same_corners | (box_iou(boxes, ours.boxes) > 0.99))
    rows, partners = linear_sum_assignment(-possible.numpy().astype(int))
    paired = possible[rows, partners].numpy()
    at_the_cut = (scores < scores.min() + max_score_error).numpy()
    assert (paired | at_the_cut[rows]).all(), f"{case}: {(~paired).sum()} without partner"
    rows, partners = rows[paired], partners[paired]
    check(case, "classes", ours.labels[partners], labels[rows], rtol=0.0)
    check(case, "scores", ours.scores[partners], scores[rows], rtol=0.0, atol=max_score_error)
    check(case, "boxes", ours.boxes[partners], boxes[rows], rtol=0.0, atol=0.02)
    return rows, partners
