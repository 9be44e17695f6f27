"""What a CLIP ResNet's tensors tell about it, in files that do not say."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypedDict

import torch
from torch import Tensor

from regionclip.checkpoints import CheckpointError

from .clip_resnet import SPECS, ClipResNetSpec


def complete_clip(tower: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add what trained files leave out and open_clip's modules have.

    Frozen batch norms do not count batches, and RegionCLIP and CORA divide by a constant
    temperature of 0.01 where CLIP has a learned scale, which ended at its limit of 100.

    Args:
        tower: Tensors by open_clip's names.
    """
    completed = dict(tower)
    for name in tower:
        if name.endswith(".running_var"):
            counter = name.removesuffix("running_var") + "num_batches_tracked"
            completed.setdefault(counter, torch.tensor(0))
    if "text_projection" in tower:
        completed.setdefault("logit_scale", torch.tensor(math.log(100.0)))
    return completed


def clip_spec_of(encoder: Mapping[str, Tensor], source: str) -> ClipResNetSpec:
    """Read the architecture from shapes; sizes that nobody released are fine with a text tower.

    Shapes do not tell the activation: every released CLIP with a ModifiedResNet has QuickGELU
    (open_clip ``pretrained.py``), which is the specification's default.

    Args:
        encoder: Tensors by open_clip's names, with or without a text tower.
        source: How errors call the file.

    Raises:
        CheckpointError: A tensor that tells is missing, or there is no text tower and the image
            tower is none of the released ones.
    """
    try:
        embed_dim, channels = encoder["visual.attnpool.c_proj.weight"].shape
        image_size = 32 * math.isqrt(len(encoder["visual.attnpool.positional_embedding"]) - 1)
        text = text_shapes_of(encoder) if "text_projection" in encoder else None
    except (KeyError, ValueError) as error:
        raise untold(error, f"{source} has a CLIP encoder") from error
    stages = [num_blocks(encoder, rf"visual\.layer{stage}\.") for stage in range(1, 5)]
    layers = (stages[0], stages[1], stages[2], stages[3])
    width = channels // 32
    if text is None:
        for spec in SPECS.values():
            sizes = (spec.embed_dim, spec.image_size, spec.layers, spec.width)
            if sizes == (embed_dim, image_size, layers, width):
                return spec
        raise CheckpointError(
            f"{source} has an image tower of no released size ({layers} blocks, {width} wide, "
            f"{embed_dim} numbers per region) and no text tower to read the rest from; expected "
            f"one of {', '.join(SPECS)}"
        )
    seen = ClipResNetSpec(
        name="RN-" + "-".join(map(str, layers)) + f"-w{width}",
        embed_dim=embed_dim,
        image_size=image_size,
        layers=layers,
        width=width,
        **text,
    )
    return next((spec for spec in SPECS.values() if spec == replace(seen, name=spec.name)), seen)


def untold(error: Exception, what: str) -> CheckpointError:
    """What to say where tensors do not tell an architecture.

    Args:
        error: A ``KeyError`` for a tensor that is missing, or why shapes fit none.
        what: What the tensors are of, and where: ``own.pt has a CLIP``.
    """
    if isinstance(error, KeyError):
        return CheckpointError(f"{what} without {error}; is the file complete?")
    return CheckpointError(f"{what} of shapes that fit no architecture: {error}")


class TextShapes(TypedDict):
    """A text tower, by the names that specifications of all kinds have for it."""

    text_width: int
    text_heads: int
    text_layers: int
    context_length: int
    vocab_size: int


def text_shapes_of(tower: Mapping[str, Tensor]) -> TextShapes:
    """What the text tower's shapes tell.

    Args:
        tower: Tensors by open_clip's names.

    Raises:
        KeyError: One that tells is missing.
    """
    width = len(tower["text_projection"])
    return {
        "text_width": width,
        "text_heads": width // 64,  # CLIP's heads are 64 wide
        "text_layers": num_blocks(tower, r"transformer\.resblocks\."),
        "context_length": len(tower["positional_embedding"]),
        "vocab_size": len(tower["token_embedding.weight"]),
    }


def num_blocks(tower: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbers follow a prefix, a regular expression, in the names of tensors."""
    return len({match[1] for name in tower if (match := re.match(prefix + r"(\d+)\.", name))})
