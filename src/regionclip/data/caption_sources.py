"""From what a recipe says about captioned images to a source that a training stream reads."""

from dataclasses import dataclass
from pathlib import Path

from regionclip.proposals.box_folder import BoxFolder
from regionclip.proposals.proposer import Proposer

from .caption_shards import CaptionShards
from .captions import CaptionedDataset, CaptionedImages
from .readers import open_dataset
from .shard_cache import DEFAULT_GIGABYTES, shared_cache
from .shards import are_shards, expand_braces, shards_named
from .stored_boxes import open_stored_boxes

COUNTS = "shard_counts.json"
"""Beside a run: how many images its shards have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionSource:
    """Where images with captions are."""

    train: str = ""
    """Webdataset shards: a folder, a pattern (``cc3m/*.tar``), or addresses in object storage
    (``s3://bucket/cc3m/{00000..00331}.tar``). Or any data set with captions that ``regionclip data
    check`` reads."""
    split: str | None = None
    """Which part of a folder that holds several, as ``train-00000.tar`` and ``val-00000.tar``; a
    pattern takes all."""
    image_root: str | None = None
    """Folder of the images of a json or table; ``None`` finds them beside it."""
    proposals: str | None = None
    """Boxes computed ahead: the folder that ``regionclip propose`` wrote, or a file of boxes.
    ``None`` leaves it to the run to propose some."""
    cache: str | None = None
    """Folder for shards from object storage; ``None`` is one in the home folder."""
    cache_gb: float = DEFAULT_GIGABYTES
    """Most gigabytes (1e9 bytes) kept in it; room for four shards at least."""

    def __post_init__(self) -> None:
        if self.cache_gb <= 0:
            raise ValueError(f"cache_gb must be positive, got {self.cache_gb}")


def open_captions(
    source: CaptionSource, *, run_folder: Path | None = None, resume: bool, is_main: bool
) -> CaptionedImages:
    """Open what a run learns from; of shards, nothing is read yet.

    Args:
        source: Says where it is.
        run_folder: Remembers how many images shards have, so that a resumed run need not count
            anew what it is beyond; ``None`` does not remember.
        resume: Go on with what the folder remembers; else that is begun anew.
        is_main: Whether this process writes into the folder; of several, one should.

    Raises:
        ValueError: There is no such source, it has no captions, or the folder is of another one.
    """
    if not source.train:
        raise ValueError("the recipe names no captions to learn from; set data.train")
    if not are_shards(expand_braces(source.train)):
        return CaptionedDataset(
            open_dataset(source.train, image_root=source.image_root, split=source.split)
        )
    cache = shared_cache(source.cache, gigabytes=source.cache_gb)
    shards = CaptionShards(shards_named(source.train, source.split), cache)
    if run_folder is not None:
        shards.remember(run_folder / COUNTS, resume=resume, is_writer=is_main)
    return shards


def stored_boxes(
    source: CaptionSource, images: CaptionedImages, *, features_of: str | None = None
) -> Proposer | None:
    """Open the boxes that were computed ahead; a training stream looks them up by image.

    Args:
        source: Names them.
        images: What they must be of.
        features_of: The ``encoder_id`` of a teacher whose vectors must come with them; ``None``
            leaves out whatever vectors they have.

    Returns:
        ``None`` if the source names none.

    Raises:
        ValueError: They cannot be read, a shard has none, or they come without the teacher's
            vectors.
    """
    if source.proposals is None:
        return None
    boxes = open_stored_boxes(source.proposals, features_of=features_of)
    if isinstance(boxes, BoxFolder):
        boxes.check_shards(images.shard_names)
    return boxes
