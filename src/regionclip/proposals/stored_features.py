"""What a teacher made of stored boxes: a column of their Parquet files, read image by image."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from pyarrow import parquet
from torch import Tensor

from .box_files import FEATURE, ImageBoxes

ENCODER_ID = b"encoder_id"
"""Key of a Parquet file's metadata: the encoder in whose joint space the vectors are."""
FILES_KEPT = 20
"""Files whose layout is remembered: those of two shards of 10 000 images. With 1000 images, one
takes 6 MB of memory, and 20 ms to read."""


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """Where vectors are from.

    Attributes:
        encoder_id: Names the joint space.
        width: Numbers in a vector.
    """

    encoder_id: str
    width: int

    @property
    def column_type(self) -> pa.DataType:
        """Of the column :data:`~regionclip.proposals.box_files.FEATURE`."""
        return pa.list_(pa.float16(), self.width)


class StoredFeatures:
    """Reads the vectors of boxes from Parquet files in which each image is a row group.

    300 vectors of 1024 numbers are 0.6 MB per image: too much to hold those of all images of a
    shard. So they stay in the file, and those of an image are read when they are needed.

    Attributes:
        space: Of all vectors.
    """

    def __init__(self, first: Path, *, encoder_id: str) -> None:
        """Take one of the files as an example of all.

        Args:
            first: Must have vectors.
            encoder_id: Of whose space all files must be.

        Raises:
            ValueError: The file has no vectors, or those of another encoder.
        """
        self._layouts: OrderedDict[Path, parquet.FileMetaData] = OrderedDict()
        self._encoder_id = encoder_id
        self.space = self._checked(first)

    def of_boxes(self, path: Path, boxes: Mapping[str, ImageBoxes]) -> dict[str, ImageBoxes]:
        """The boxes of a file with the means to read their vectors; nothing is read yet.

        Args:
            path: The file.
            boxes: All that it holds, in its order.

        Raises:
            ValueError: The file has no vectors, those of another encoder than the first, or not one
                row group per image.
        """
        if self._checked(path) != self.space:
            raise ValueError(f"{path} has vectors of another length than the files beside it")
        layout = self._layout(path)
        rows = [layout.row_group(group).num_rows for group in range(layout.num_row_groups)]
        if rows != [len(own.boxes) for own in boxes.values()]:
            raise ValueError(
                f"{path} has not one row group per image, so that vectors cannot be read one image "
                "at a time; 'regionclip propose --teacher' writes it so"
            )
        return {
            name: replace(own, read_features=partial(self._read, path, group))
            for group, (name, own) in enumerate(boxes.items())
        }

    def _read(self, path: Path, group: int) -> Float[Tensor, "R D"]:
        """The vectors of one image, float16."""
        try:
            with parquet.ParquetFile(path, metadata=self._layout(path)) as file:
                table = file.read_row_group(group, columns=[FEATURE], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"the vectors in {path} cannot be read ({error})") from error
        values = np.concatenate([chunk.flatten().to_numpy() for chunk in table[FEATURE].chunks])
        return torch.from_numpy(values).reshape(-1, self.space.width)

    def _checked(self, path: Path) -> FeatureSpace:
        """What a file says of its vectors."""
        layout = self._layout(path)
        schema = layout.schema.to_arrow_schema()
        encoder_id = (layout.metadata or {}).get(ENCODER_ID, b"").decode()
        if FEATURE not in schema.names or not encoder_id:
            raise ValueError(
                f"{path} has boxes without a teacher's vectors; 'regionclip propose ... --teacher "
                "MODEL' writes both"
            )
        if encoder_id != self._encoder_id:
            raise ValueError(
                f"{path} has vectors of encoder {encoder_id}, and the teacher's is "
                f"{self._encoder_id}; run 'regionclip propose ... --teacher MODEL' with the model "
                "that is the concept pool's teacher"
            )
        return FeatureSpace(encoder_id, schema.field(FEATURE).type.list_size)

    def _layout(self, path: Path) -> parquet.FileMetaData:
        if path not in self._layouts:
            try:
                self._layouts[path] = parquet.read_metadata(path)
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{path} cannot be read as a Parquet file ({error})") from error
            if len(self._layouts) > FILES_KEPT:
                self._layouts.popitem(last=False)
        self._layouts.move_to_end(path)
        return self._layouts[path]
