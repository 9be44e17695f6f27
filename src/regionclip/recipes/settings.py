"""Settings that recipes of all kinds share: data, measuring, and how a run is kept."""

from dataclasses import dataclass
from typing import Literal

NovelBoxes = Literal["refused", "pseudo"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """Where the images are, in any format that ``regionclip data check`` reads."""

    train: str = ""
    """A folder, or an annotation file. Its classes are those that are learned."""
    val: str = ""
    """What is measured on while training; empty measures nothing. Classes that ``train`` lacks
    are novel ones."""
    train_split: str = "train"
    """For folders that hold several splits."""
    val_split: str = "val"
    image_root: str | None = None
    """Folder of the training images; ``None`` finds them beside the annotations."""
    val_image_root: str | None = None
    keep_empty: bool = True
    """Train on images without objects too, which teach what background looks like; the originals
    leave them out."""
    novel_boxes: NovelBoxes = "refused"
    """Boxes of classes that ``train`` marks novel: ``refused``, or ``pseudo``: trained on, if all
    are marked as a model's, as 'regionclip data pseudo-label' does; people's must never be seen.
    The classes are measured as novel ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measuring:
    """How a run is measured while it learns."""

    every: int = 1000
    """Steps; also before the first and after the last."""
    metric: str = "ap50"
    """Figure that decides which weights are kept as the best: ``ap``, ``ap50``, ..., on LVIS also
    ``ap_rare``, and where the data has novel classes ``ap50_novel`` and ``ap50_base``; ``ar_100``
    for proposals."""
    max_images: int | None = None
    """Measure on the first so many images only; ``None`` takes all."""
    batch_size: int = 1

    def __post_init__(self) -> None:
        for name in ("every", "batch_size", "max_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """What every kind of run has."""

    seed: int = 0
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """What networks compute in; weights and losses stay in float32."""
    num_workers: int = 2
    """Processes that read images ahead, per process that trains."""
    checkpoint_every: int = 500
    """Steps between checkpoints that a run can be resumed from."""
    log_every: int = 20
    """Steps between entries in metrics.jsonl."""

    def __post_init__(self) -> None:
        for name, least in (("num_workers", 0), ("checkpoint_every", 1), ("log_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


def check_weight_ensemble(share: float | None) -> None:
    """Refuse weights beyond those that they are to lie between.

    Raises:
        ValueError: It is not in [0, 1].
    """
    if share is not None and not 0 <= share <= 1:
        raise ValueError(f"weight_ensemble must be in [0, 1], got {share}")
