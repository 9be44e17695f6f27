"""What the cases of training share: the batch, its targets, and a look inside the layers."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from regionclip.structures import Targets

from .golden import image_a, pixels


def batch2() -> tuple[Tensor, Tensor]:
    """Images A and B."""
    return image_a(), pixels(288, 352, seed_offset=100)


def normalized_targets(expected: dict[str, np.ndarray], count: int) -> list[Targets]:
    """The targets of the first images: ``cxcywh``, shares of the image's sides."""
    return [
        Targets(
            torch.from_numpy(expected[f"target{row}_boxes"]),
            torch.from_numpy(expected[f"target{row}_labels"]),
        )
        for row in range(count)
    ]


def targets_in_pixels(expected: dict[str, np.ndarray], row: int, image: Tensor) -> Targets:
    """The targets of an image as learners take them."""
    own = normalized_targets(expected, row + 1)[row]
    height, width = image.shape[1:]
    sides = torch.tensor([width, height, width, height], dtype=torch.float64)
    boxes = box_convert(own.boxes.double(), "cxcywh", "xyxy") * sides
    return Targets(boxes.float(), own.labels)


@contextmanager
def outputs_of(layers: nn.ModuleList) -> Iterator[list[Tensor]]:
    """What each of some layers gives while they run."""
    outputs: list[Tensor] = []

    def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        outputs.append(output)

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
