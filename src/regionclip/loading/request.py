"""What :func:`regionclip.load` was asked for, on its way to what reads the file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from regionclip.data.transforms import Padding
from regionclip.detect import Detector
from regionclip.encoders.crop_encoder import check_released
from regionclip.encoders.vit_weights import Activation
from regionclip.methods import known_entry
from regionclip.methods.fvit.config import Benchmark
from regionclip.proposals.proposer import Proposer
from regionclip.regions.embedder import RegionSource
from regionclip.regions.region_head import DEFAULT_MEMORY_BUDGET
from regionclip.weights import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadOptions:
    """What few callers of :func:`regionclip.load` set."""

    memory_budget: int = DEFAULT_MEMORY_BUDGET
    """Bytes of intermediate results in the region head, or in the image tower of ``crops``; more
    regions than fit come in chunks."""
    progress: Progress | None = None
    """Called while weights are downloaded, with the file's name, the bytes that have arrived, and
    how many there will be, if that is known. open_clip's other architectures show a bar of their
    own."""
    transfer_to: Benchmark | None = None
    """``coco``, ``voc`` or ``objects365``: let an F-ViT or F-VLM that was trained on LVIS name
    boxes as published on a benchmark that it was not trained for: with fixed temperatures (50 and
    120), one exponent for all classes (0.2, 0.3, 0.3), and without masks."""
    activation: Activation | None = None
    """What the towers of a file of a CLIP with a vision transformer compute with, ``quick_gelu`` or
    ``gelu``; ``None`` takes what the file says. One that says nothing is read with QuickGELU, as
    OpenAI's and CLIM's, and a warning is logged."""
    padding: Padding | None = None
    """How images are filled up with black for regions of a dense map: ``square``, or ``cells``, to
    no more than whole cells, which is faster; ``None``: what the file says, else a square, as CLIM
    and CLIPSelf train."""

    def __post_init__(self) -> None:
        for name, words in (
            ("activation", get_args(Activation)),
            ("padding", get_args(Padding)),
            ("transfer_to", get_args(Benchmark)),
        ):
            word = getattr(self, name)
            if word is not None and word not in words:
                raise ValueError(f"unknown {name} {word!r}; expected one of {', '.join(words)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadRequest:
    """The arguments of :func:`regionclip.load`, checked; see there.

    Attributes:
        name: As it was given.
        device: As PyTorch names it.
        dtype: What image towers compute in.
        proposer: Where boxes come from, if not from the model.
        regions: How regions become vectors.
        region_prompt: The file of a region prompt to pool regions with.
        text_weights: A model to take the text tower from.
        memory_budget: Bytes of intermediate results.
        progress: Called while weights are downloaded.
        activation: What a vision transformer's towers compute with, whatever its file says.
        transfer_to: The benchmark that an F-ViT is measured on and was not trained for.
        padding: How images are filled up for a dense map, whatever the model's file says.
    """

    name: str
    device: str
    dtype: torch.dtype
    proposer: Proposer | None
    regions: RegionSource
    region_prompt: str | Path | None
    text_weights: str | Path | None
    memory_budget: int
    progress: Progress | None
    activation: Activation | None = None
    transfer_to: Benchmark | None = None
    padding: Padding | None = None

    def refuse_transfer(self) -> None:
        """Raise for a model that names boxes in one way whatever the benchmark.

        Raises:
            ValueError: A benchmark was given.
        """
        if self.transfer_to is not None:
            raise ValueError(
                f"transfer_to {self.transfer_to!r} is for F-ViT's and F-VLM's detectors; "
                f"{self.name} is none, so leave it out"
            )

    def refuse_activation(self) -> None:
        """Raise for a model whose activation is known.

        Raises:
            ValueError: One was given.
        """
        if self.activation is not None:
            raise ValueError(
                f"activation {self.activation!r} is for files of CLIPs with OpenAI's vision "
                f"transformer; {self.name} is none, so leave it out"
            )

    def refuse_padding(self) -> None:
        """Raise for regions that come from no dense map.

        Raises:
            ValueError: A padding was given.
        """
        if self.padding is not None:
            raise ValueError(
                f"padding {self.padding!r} is for regions of a dense map, and those of {self.name} "
                "are none, or are whole crops; leave it out"
            )

    def refuse_text_weights(self, whose: str) -> None:
        """Raise for a model that has a text tower of its own.

        Raises:
            ValueError: Text weights were asked for.
        """
        if self.text_weights is not None:
            raise ValueError(f"{self.name} {whose}; leave out text_weights")

    def refuse_region_prompt(self) -> None:
        """Raise for a model that pools regions without an attention pool.

        Raises:
            ValueError: A region prompt was given.
        """
        if self.region_prompt is not None:
            raise ValueError(f"{self.name} has no attention pool that a region prompt would suit")


def is_open_clip_name(name: str | Path) -> bool:
    """``tag:architecture`` of an open_clip model whose file is not known here."""
    if Path(name).exists() or known_entry(name) is not None:
        return False
    return ":" in str(name)


def check_named(name: str) -> None:
    """Refuse a ``tag:architecture`` that open_clip does not know; nothing is downloaded.

    Raises:
        ValueError: It knows no such architecture, or not with such weights.
    """
    tag, _, architecture = name.partition(":")
    check_released(architecture, tag)


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A checkpoint that is read but not understood yet.

    Attributes:
        path: Where it is.
        state: Its tensors by their names.
    """

    path: Path
    state: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class FileKind:
    """One kind of checkpoint.

    Attributes:
        claims: Whether a file is of this kind, by its tensors' names and by what was asked for.
        open: Makes the detector, or says why the file gives none.
    """

    claims: Callable[[OpenFile, LoadRequest], bool]
    open: Callable[[OpenFile, LoadRequest], Detector]
