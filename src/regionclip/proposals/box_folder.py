"""Boxes of many images in a folder of Parquet files, of which few are read at a time."""

import json
import re
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import torch
from pyarrow import parquet

from regionclip.structures import PreparedImage, Proposals

from .box_files import ImageBoxes, read_columns_file
from .stored_features import StoredFeatures
from .table import BoxTable

SHARD = ".tar"
IMAGES = "images"
"""How files of images begin that are in no shard."""
SHARDS_KEPT = 2
"""Shards whose boxes are held: 10 000 images with 300 boxes each are 60 MB."""
PART = re.compile(r"(.+)-(\d{5,})\.parquet")
"""Names of files: the shard's, without its ending, and the number of the portion."""

WITHOUT_BOXES = b"images_without_boxes"
"""Key of a Parquet file's metadata: a json list of images in which nothing was found."""
NO_BOXES = ImageBoxes(torch.zeros(0, 4), None)


class BoxFolder:
    """A proposer that looks images up in what ``regionclip propose`` wrote.

    An image of a shard (its name has the part ``00012.tar``) is looked for in that shard's files
    (``00012-00000.parquet``, ``00012-00001.parquet``, ...), which are read when the first of its
    images comes up. Other images are looked for in ``images-*.parquet``, which are read at once:
    processes that are forked later share them. For
    how an image is found there, and what becomes of images without boxes, see
    :class:`~regionclip.proposals.table.BoxTable`.

    Attributes:
        source: How messages call the folder.
    """

    def __init__(self, folder: str | Path, *, features_of: str | None = None) -> None:
        """List the files, and read those of images in no shard.

        Args:
            folder: Where they are.
            features_of: Also give the boxes' vectors, which must be of this ``encoder_id``'s joint
                space; they are read image by image. ``None`` leaves them where they are.

        Raises:
            ValueError: There is no file of that form, one is damaged, or the vectors that are
                wanted are missing or another encoder's.
        """
        self.source = str(folder)
        self._files: defaultdict[str, list[Path]] = defaultdict(list)
        for path in sorted(Path(folder).glob("*.parquet")):
            match = PART.fullmatch(path.name)
            if match is not None:
                self._files[match[1]].append(path)
        if not self._files:
            raise ValueError(
                f"{folder} has no files of boxes ({IMAGES}-00000.parquet, <shard>-00000.parquet); "
                "'regionclip propose' writes such a folder"
            )
        self._features: StoredFeatures | None = None
        if features_of is not None:
            first = next(iter(self._files.values()))[0]
            self._features = StoredFeatures(first, encoder_id=features_of)
        self._tables: OrderedDict[str, BoxTable] = OrderedDict()
        self._of_images = self._read(IMAGES)

    def check_shards(self, names: Sequence[str]) -> None:
        """Refuse shards of which no image has boxes.

        Args:
            names: File names, such as ``00012.tar``.

        Raises:
            ValueError: Some have none.
        """
        missing = [name for name in names if name.removesuffix(SHARD) not in self._files]
        if missing:
            raise ValueError(
                f"{self.source} has boxes for {len(names) - len(missing)} of {len(names)} shards "
                f"(none for {missing[0]}); run 'regionclip propose' for all of them"
            )

    def lists(self, name: str) -> bool:
        """As :meth:`BoxTable.lists <regionclip.proposals.table.BoxTable.lists>`."""
        return self._table(_group_of(name)).lists(name)

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """The boxes of each image, best first where they have objectness.

        Raises:
            ValueError: A file is damaged, several entries fit an image equally well, or a file
                lacks the vectors that are wanted.
        """
        found = [self._table(_group_of(image.name)).propose([image])[0] for image in images]
        if self._features is None:
            return found
        nothing = torch.zeros(0, self._features.space.width, dtype=torch.float16)
        return [own if len(own) else replace(own, features=nothing) for own in found]

    def _table(self, group: str) -> BoxTable:
        if group == IMAGES:
            return self._of_images
        if group not in self._tables:
            self._tables[group] = self._read(group)
            if len(self._tables) > SHARDS_KEPT:
                self._tables.popitem(last=False)
        self._tables.move_to_end(group)
        return self._tables[group]

    def _read(self, group: str) -> BoxTable:
        found: dict[str, ImageBoxes] = {}
        for path in self._files.get(group, ()):
            boxes = read_columns_file(path)
            if self._features is not None:
                boxes = self._features.of_boxes(path, boxes)
            found.update(boxes)
            found.update(dict.fromkeys(_images_without_boxes(path), NO_BOXES))
        return BoxTable(found, source=self.source)


def _group_of(name: str) -> str:
    """How the files begin that an image's boxes are in."""
    shards = [part for part in PurePosixPath(name).parts[:-1] if part.endswith(SHARD)]
    return shards[-1].removesuffix(SHARD) if shards else IMAGES


def _images_without_boxes(path: Path) -> list[str]:
    return json.loads((parquet.read_metadata(path).metadata or {}).get(WITHOUT_BOXES, b"[]"))
