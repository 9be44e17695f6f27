"""Images in portions, and the Parquet file that the boxes of each are written to."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from regionclip.cli.console import UsageError
from regionclip.cli.files import replacing
from regionclip.data.readers.webdataset import entries_of, sound_members
from regionclip.data.shards import are_shards, expand_braces, find_shards, is_address
from regionclip.data.sources import NamedSource, find_images
from regionclip.detections.box_coder import clip_boxes
from regionclip.proposals.box_files import CORNERS, OBJECTNESS
from regionclip.proposals.box_folder import IMAGES, PART, WITHOUT_BOXES
from regionclip.structures import PreparedImage, Proposals


@dataclass(frozen=True, slots=True)
class Part:
    """Images whose boxes are in one file.

    Attributes:
        file: Its name.
        images: None if their shard cannot be read at all; those of a shard are called
            ``<shard>.tar/<file>``, as in training.
        damage: What is wrong with the shard that they are in.
    """

    file: str
    images: Sequence[NamedSource]
    damage: str | None = None

    def as_source(self, folder: Path) -> NamedSource:
        """How the journal lists it: the file, for just these images as they are now."""
        digest = blake2b(digest_size=8)
        stamps: dict[Path, str] = {}
        for image in self.images:
            stamp = stamps.get(image.file)
            if stamp is None:
                stamp = stamps[image.file] = _stamp(image.file)
            digest.update(f"{image.name} {stamp}\n".encode())
        path = folder / self.file
        return NamedSource(f"{self.file} {digest.hexdigest()}", path, path, self.file)


class BoxRows:
    """The rows of one file."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._counts: list[int] = []
        self._boxes: list[np.ndarray] = []
        self._objectness: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(self._counts)

    def add(self, name: str, image: PreparedImage, proposals: Proposals) -> None:
        """Take the boxes of one image, in its pixels as it was given."""
        boxes = proposals.boxes.float().cpu() * image.scale_xyxy
        count = len(proposals)
        scores = np.full(count, np.nan, np.float32)
        if proposals.objectness is not None:
            scores = proposals.objectness.float().sigmoid().cpu().numpy()
        self._names.append(name)
        self._counts.append(count)
        self._boxes.append(clip_boxes(boxes, image.original_size_hw).numpy())
        self._objectness.append(scores)

    def write(self, path: Path) -> None:
        """Write them whole or not at all; images without boxes are noted in the metadata."""
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *self._boxes])
        objectness = np.concatenate([np.zeros(0, np.float32), *self._objectness])
        index = np.repeat(np.arange(len(self._names), dtype=np.int32), self._counts)
        names = pa.array(self._names, pa.string())
        columns = {"image": pa.DictionaryArray.from_arrays(pa.array(index), names)}
        columns |= {name: pa.array(boxes[:, row]) for row, name in enumerate(CORNERS)}
        columns[OBJECTNESS] = pa.array(objectness, from_pandas=True)  # NaN is null
        without = [
            name for name, count in zip(self._names, self._counts, strict=True) if count == 0
        ]
        table = pa.table(columns).replace_schema_metadata({WITHOUT_BOXES: json.dumps(without)})
        with replacing(path) as partial:
            parquet.write_table(table, partial)


def find_parts(
    inputs: Sequence[str],
    *,
    images_per_part: int,
    image_root: Path | None,
    exclude: Path,
) -> Iterator[Part]:
    """Images in portions, shard by shard, then those that are in none.

    Args:
        inputs: Shards as :func:`~regionclip.data.shards.find_shards` takes them, and whatever
            :func:`~regionclip.data.sources.find_images` does.
        images_per_part: Most images of a portion.
        image_root: Folder of the images of COCO jsons.
        exclude: Folder that is not searched.

    Raises:
        ValueError: An input gives nothing, or shards are not on this machine or share a name.
    """
    shards = find_shards([each for each in inputs if are_shards(expand_braces(each))])
    for each in shards:
        if is_address(each):
            raise UsageError(
                f"{each} lies elsewhere; get the shards onto this machine first (training finds "
                "their boxes wherever the shards are)"
            )
    others = [each for each in inputs if not are_shards(expand_braces(each))]
    images = find_images(others, image_root=image_root, exclude=exclude) if others else []
    stems = [Path(each).stem for each in shards] + [IMAGES] * bool(images)
    if len(set(stems)) < len(stems):
        name = next(each for each in stems if stems.count(each) > 1)
        raise UsageError(f"two sources would be called {name}; give each an --output of its own")
    return _parts(shards, images, images_per_part)


def remove_parts(folder: Path, journal: Path) -> None:
    """Delete those files of boxes in a folder that a journal lists; other files stay."""
    if not journal.exists():
        return
    for line in journal.read_bytes().splitlines():
        try:
            part = json.loads(line)["part"]
        except (ValueError, KeyError, TypeError):  # the settings, or a line that was cut off
            continue
        if isinstance(part, str) and PART.fullmatch(part) and Path(part).name == part:
            (folder / part).unlink(missing_ok=True)


def _parts(
    shards: Sequence[str], images: Sequence[NamedSource], images_per_part: int
) -> Iterator[Part]:
    for shard in map(Path, shards):
        members, damage = sound_members(shard)
        sources = [
            NamedSource(f"{shard.name}/{entry.image.name}", shard, entry.image, entry.image.name)
            for entry in entries_of(members, keep_first=True)
        ]
        if not sources:
            damage = damage or f"{shard} has no image"
        # one file at least: training asks that there is one for each of its shards
        for number, own in enumerate(_portions(sources, images_per_part) if sources else [()]):
            yield Part(f"{shard.stem}-{number:05d}.parquet", own, damage)
    for number, own in enumerate(_portions(images, images_per_part)):
        yield Part(f"{IMAGES}-{number:05d}.parquet", own)


def _portions(sources: Sequence[NamedSource], size: int) -> Iterator[Sequence[NamedSource]]:
    for start in range(0, len(sources), size):
        yield sources[start : start + size]


def _stamp(file: Path) -> str:
    try:
        state = file.stat()
    except OSError:
        return "missing"
    return f"{state.st_size} {state.st_mtime_ns}"
