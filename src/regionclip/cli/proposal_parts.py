"""Images in portions, and the Parquet file that the boxes of each are written to."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from pyarrow import parquet
from torch import Tensor
from torch.nn import functional as F

from regionclip.cli.console import UsageError
from regionclip.data.readers.webdataset import entries_of, sound_members
from regionclip.data.shards import are_shards, expand_braces, find_shards, is_address
from regionclip.data.sources import NamedSource, find_images
from regionclip.detections.box_coder import clip_boxes
from regionclip.proposals.box_files import CORNERS, FEATURE, OBJECTNESS
from regionclip.proposals.box_folder import IMAGES, PART, WITHOUT_BOXES
from regionclip.proposals.stored_features import ENCODER_ID, FeatureSpace
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
    """The rows of one file, which is complete when this is closed; a context manager.

    Boxes alone are written all at once. With vectors, images are row groups, each written when it
    comes: those of a whole file would fill the memory, and so they can be read one by one.
    """

    def __init__(self, path: Path, space: FeatureSpace | None = None) -> None:
        """Begin a file.

        Args:
            path: Where to.
            space: Of the vectors that all proposals come with; ``None`` writes none.
        """
        fields = [("image", pa.dictionary(pa.int32(), pa.string()))]
        fields += [(name, pa.float32()) for name in (*CORNERS, OBJECTNESS)]
        metadata = {}
        if space is not None:
            fields.append((FEATURE, space.column_type))
            metadata[ENCODER_ID] = space.encoder_id
        self._schema = pa.schema(fields, metadata)
        self._has_features = space is not None
        # vectors hardly repeat a number, nor do the few rows of one image
        self._writer = parquet.ParquetWriter(path, self._schema, use_dictionary=space is None)
        self._pending: list[tuple[str, Proposals]] = []
        self._without: list[str] = []
        self._count = 0

    def __enter__(self) -> "BoxRows":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._write()
            # in the end, when all names are known
            self._writer.add_key_value_metadata({WITHOUT_BOXES: json.dumps(self._without)})
        self._writer.close()

    def __len__(self) -> int:
        return self._count

    def add(self, name: str, image: PreparedImage, proposals: Proposals) -> None:
        """Take the boxes of one image, in its pixels as it was given."""
        if len(proposals) == 0:
            self._without.append(name)
            return
        proposals = proposals.to(torch.device("cpu"))
        boxes = clip_boxes(proposals.boxes.float() * image.scale_xyxy, image.original_size_hw)
        self._pending.append((name, replace(proposals, boxes=boxes)))
        self._count += len(proposals)
        if self._has_features:
            self._write()

    def _write(self) -> None:
        """Write what has come as one row group."""
        if not self._pending:
            return
        names, found = zip(*self._pending, strict=True)
        self._pending = []
        index = np.repeat(np.arange(len(names), dtype=np.int32), [len(own) for own in found])
        columns = [pa.DictionaryArray.from_arrays(pa.array(index), pa.array(names, pa.string()))]
        columns += map(pa.array, torch.cat([own.boxes for own in found]).numpy().T)
        objectness = np.concatenate([_probabilities(own) for own in found])
        columns.append(pa.array(objectness, from_pandas=True))  # NaN is null
        if self._has_features:
            columns += [_column(own.features) for own in found if own.features is not None]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))


def _probabilities(proposals: Proposals) -> np.ndarray:
    if proposals.objectness is None:
        return np.full(len(proposals), np.nan, np.float32)
    return proposals.objectness.float().sigmoid().numpy()


def _column(features: Float[Tensor, "R D"]) -> pa.FixedSizeListArray:
    """Vectors of length 1, which no model's can overflow in float16; their length means nothing."""
    values = F.normalize(features.float(), dim=1).half().numpy()
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), features.shape[1])


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
