"""Region vectors to Parquet or to the files that RegionCLIP's own export makes."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from pyarrow import compute, parquet
from torch import Tensor

from regionclip.cli.console import UsageError
from regionclip.cli.journal import Journal
from regionclip.data.sources import NamedSource
from regionclip.whole_files import replacing

CORNERS = ("x0", "y0", "x1", "y1")
PARTS = "parts"
MERGED = "regions.parquet"
LAST_PART = b"last_part"
ROWS_PER_PART = 1 << 14
SECONDS_PER_PART = 30.0
"""What a crash may cost; a command that is interrupted writes its last part first."""


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of one image and their vectors.

    Attributes:
        boxes: ``xyxy`` in pixels of the original image.
        features: Not normalised.
        objectness: In [0, 1], if the proposals have one.
        labels: Class of each region, if they are detections; the best first.
        scores: What the detections are ordered by.
        probs: Softmax over all classes and, last, the background.
    """

    boxes: Float[Tensor, "R 4"]
    features: Float[Tensor, "R D"]
    objectness: Float[Tensor, " R"] | None = None
    labels: Int[Tensor, " R"] | None = None
    scores: Float[Tensor, " R"] | None = None
    probs: Float[Tensor, "R C_out"] | None = None


def remove_table(folder: Path) -> None:
    """Delete what a :class:`RegionTable` has written into ``folder``."""
    (folder / MERGED).unlink(missing_ok=True)
    shutil.rmtree(folder / PARTS, ignore_errors=True)


def write_original(path: Path, regions: Regions) -> None:
    """Write one image's regions as RegionCLIP does.

    Proposals become ``{"boxes", "feats"}``, detections ``{"boxes", "classes", "probs", "feats"}``,
    float32 but for ``classes``, int64.

    Source:
        microsoft/RegionCLIP@4b8513b ``tools/extract_region_features.py``.
    """
    content = {"boxes": regions.boxes.float()}
    if regions.labels is not None and regions.probs is not None:
        content |= {"classes": regions.labels.long(), "probs": regions.probs.float()}
    # a copy each: a view would drag the whole batch into the file
    content = {key: value.contiguous().clone() for key, value in content.items()}
    content["feats"] = regions.features.float().contiguous().clone()
    with replacing(path) as partial:
        torch.save(content, partial)


class RegionTable:
    """One Parquet file of regions that grows in parts, each written whole or not at all.

    Rows are collected per part, and an image is listed in the journal once its part is on disk. A
    part is due after :data:`ROWS_PER_PART` rows or :data:`SECONDS_PER_PART`.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        *,
        dtype: Literal["float32", "float16"],
        probs: Literal["top", "full"],
        class_names: Sequence[str],
        metadata: Mapping[str, str],
    ) -> None:
        """Go on with what ``journal`` lists.

        Args:
            folder: For the parts, and the file when it is finished.
            journal: Entries have ``part``.
            dtype: Of vectors and probabilities.
            probs: ``top`` keeps the named class's probability, ``full`` all of them.
            class_names: By label; none for proposals.
            metadata: Goes into the file's schema.
        """
        self._folder = folder
        self._journal = journal
        self._dtype: Literal["float32", "float16"] = dtype
        self._probs: Literal["top", "full"] = probs
        self._class_names = tuple(class_names)
        self._metadata = {**metadata, "class_names": json.dumps(self._class_names)}
        self._pending: list[tuple[NamedSource, pa.Table]] = []
        self._last_flush = time.monotonic()
        listed = [entry["part"] for entry in journal.entries()]
        self._next_part = max([*listed, *self._part_numbers(), self._last_merged()]) + 1

    def add(self, source: NamedSource, regions: Regions) -> None:
        """Take one image's regions."""
        table = region_rows(
            source.name,
            regions,
            dtype=self._dtype,
            probs=self._probs,
            class_names=self._class_names,
        )
        self._pending.append((source, table))
        num_rows = sum(table.num_rows for _, table in self._pending)
        is_late = time.monotonic() - self._last_flush > SECONDS_PER_PART
        if is_late or num_rows >= ROWS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Write what was taken as one part, then list it in the journal."""
        self._last_flush = time.monotonic()
        if not self._pending:
            return
        with replacing(self._part(self._next_part)) as partial:
            parquet.write_table(pa.concat_tables([table for _, table in self._pending]), partial)
        for source, table in self._pending:
            self._journal.write(source, {"part": self._next_part, "num_regions": table.num_rows})
        self._next_part += 1
        self._pending = []

    def merge(self) -> Path | None:
        """Join the parts into one file beside them and delete them.

        Images that were done again, because their file had changed, appear with their new regions
        only.

        Returns:
            The file; ``None`` if there has never been a region.
        """
        self.flush()
        path = self._folder / MERGED
        numbers = self._part_numbers()
        if not numbers:
            return path if path.exists() else None
        part_of = {entry["image"]: entry["part"] for entry in self._journal.entries()}
        tables = self._current_rows(path, numbers, part_of)
        first = next(tables)
        metadata = {**self._metadata, LAST_PART.decode(): str(max(numbers))}
        schema = first.schema.with_metadata(metadata)
        with replacing(path) as partial, parquet.ParquetWriter(partial, schema) as writer:
            for table in (first, *tables):
                writer.write_table(table.replace_schema_metadata(metadata))
        for number in numbers:
            self._part(number).unlink()
        self._part(0).parent.rmdir()
        return path

    def _current_rows(
        self, merged: Path, numbers: Sequence[int], part_of: Mapping[str, int]
    ) -> Iterator[pa.Table]:
        """Rows of the merged file and of newer parts that no later part replaces."""
        last_merged = self._last_merged()
        if merged.exists():
            with parquet.ParquetFile(merged) as file:
                old = [name for name, part in part_of.items() if part <= last_merged]
                for index in range(file.num_row_groups):
                    yield _of_images(file.read_row_group(index), old)
        for number in numbers:
            if number > last_merged:
                own = [name for name, part in part_of.items() if part == number]
                yield _of_images(parquet.read_table(self._part(number)), own)

    def _last_merged(self) -> int:
        """The last part that is in the merged file."""
        path = self._folder / MERGED
        if not path.exists():
            return -1
        try:
            return int((parquet.read_schema(path).metadata or {})[LAST_PART])
        except (KeyError, ValueError, pa.ArrowException) as error:
            raise UsageError(
                f"{path} is damaged, or of another program; use another --output, or --no-resume "
                "to start over"
            ) from error

    def _part(self, number: int) -> Path:
        return self._folder / PARTS / f"{number:06d}.parquet"

    def _part_numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in (self._folder / PARTS).glob("[0-9]*.parquet"))


def region_rows(
    name: str,
    regions: Regions,
    *,
    dtype: Literal["float32", "float16"],
    probs: Literal["top", "full"],
    class_names: Sequence[str],
) -> pa.Table:
    """One image's regions as rows of a table.

    Args:
        name: Of the image.
        regions: Proposals or detections.
        dtype: Of vectors and probabilities.
        probs: ``top`` keeps the named class's probability, ``full`` all of them.
        class_names: By label; none for proposals.
    """
    columns: dict[str, Any] = {"image": pa.array([name] * len(regions.boxes), pa.string())}
    for index, corner in enumerate(CORNERS):
        columns[corner] = regions.boxes[:, index].float().numpy()
    columns["objectness"] = (
        pa.nulls(len(regions.boxes), pa.float32())
        if regions.objectness is None
        else regions.objectness.float().numpy()
    )
    if regions.labels is not None and regions.scores is not None and regions.probs is not None:
        labels = regions.labels
        columns["class"] = pa.array([class_names[each] for each in labels.tolist()], pa.string())
        columns["label"] = labels.int().numpy()
        columns["score"] = regions.scores.float().numpy()
        if probs == "full":
            columns["probs"] = _vectors(regions.probs, dtype)
        else:
            columns["prob"] = regions.probs.gather(1, labels[:, None])[:, 0].float().numpy()
    columns["feature"] = _vectors(regions.features, dtype)
    return pa.table(columns)


def _vectors(rows: Tensor, dtype: str) -> pa.FixedSizeListArray:
    """A column with one vector per row."""
    values = np.ascontiguousarray(rows.float().numpy().astype(dtype))
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), rows.shape[1])


def _of_images(table: pa.Table, names: list[str]) -> pa.Table:
    return table.filter(compute.field("image").isin(pa.array(names, pa.string())))
