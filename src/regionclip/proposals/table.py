"""Boxes computed beforehand, read from a COCO json, a Parquet file or a CSV file."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

import torch

from regionclip.detections.box_coder import clip_boxes, nonempty
from regionclip.structures import PreparedImage, Proposals

from .box_files import ImageBoxes, read_coco_file, read_columns_file

logger = logging.getLogger(__name__)

PROBABILITY_MARGIN = 1e-6
"""Objectness of 0 and 1 is moved this far inside, so that its logit is finite."""


class BoxTable:
    """A proposer that looks images up in a table by their file names.

    An image is found by its path as written in the table; else by the entry whose path shares the
    most trailing parts with it (so ``val/1.jpg`` is found for ``/data/val/1.jpg``), or, in a table
    of COCO results, by the number that its file name is (``000000000285.jpg`` is image 285).

    Images that the table does not list get zero proposals and a logged warning: result files list
    no image in which nothing was found.

    Attributes:
        source: How messages call the table.
        images: Boxes by image, as written in the table.
    """

    def __init__(self, images: Mapping[str, ImageBoxes], *, source: str) -> None:
        self.source = source
        self.images = images
        self._by_file_name: defaultdict[str, list[str]] = defaultdict(list)
        for key in images:
            self._by_file_name[_parts(key)[-1]].append(key)

    def lists(self, name: str) -> bool:
        """Whether there is an entry for an image, be it one without boxes.

        Args:
            name: Of the image.

        Raises:
            ValueError: Several entries fit equally well.
        """
        return self._key_of(name) is not None

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """The boxes of each image, best first where the table has objectness.

        Boxes are cut at the image's border; those without area inside it are left out.

        Raises:
            ValueError: Several entries fit an image equally well.
        """
        return [self._propose(image) for image in images]

    def _propose(self, image: PreparedImage) -> Proposals:
        key = self._key_of(image.name)
        if key is None:
            logger.warning("%s lists no boxes for %s: zero proposals", self.source, image.name)
            return Proposals(torch.zeros(0, 4))
        found = self.images[key]
        inside = clip_boxes(found.boxes, image.original_size_hw)
        is_kept = nonempty(inside)
        if not is_kept.all():
            logger.warning(
                "%s: %d boxes of %s have no area inside the image and are left out",
                self.source,
                int((~is_kept).sum()),
                key,
            )
        objectness = found.objectness
        if objectness is not None:
            objectness = torch.logit(objectness, eps=PROBABILITY_MARGIN)
        features = None if found.read_features is None else found.read_features()
        boxes = clip_boxes(inside / image.scale_xyxy, image.size_hw)
        return _sorted(Proposals(boxes, objectness, features).select(is_kept))

    def _key_of(self, name: str) -> str | None:
        """The entry for an image's name."""
        if name in self.images:
            return name
        parts = _parts(name)
        candidates = self._by_file_name.get(parts[-1], [])
        if not candidates:
            return _first_key(self.images, (PurePath(name).stem, _number(name)))
        shared = [_num_shared_parts(parts, _parts(key)) for key in candidates]
        if shared.count(max(shared)) > 1:
            raise ValueError(
                f"{self.source} lists several images that may be {name} (such as "
                f"{' and '.join(candidates[:2])}); give the images with the folders that the "
                "table has"
            )
        return candidates[shared.index(max(shared))]


def read_box_table(path: str | Path, *, images: str | Path | None = None) -> BoxTable:
    """Read boxes from a file; its content tells its kind, not its name.

    Args:
        path: One of

            - a COCO json with ``images`` and ``annotations`` (those with ``iscrowd`` are left out);
            - COCO results, a json list of ``{"image_id", "bbox", "score"}``;
            - Parquet or CSV with the columns ``image, x0, y0, x1, y1`` in pixels of the original
              image and optionally ``objectness``.

            Scores and ``objectness`` are probabilities in [0, 1].
        images: A COCO json whose ``images`` say which file an ``image_id`` of COCO results is;
            without it, ids are compared with the file names' stems.

    Raises:
        ValueError: The file is none of these or holds wrong values; the message names both.
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    is_json = start[:1] in (b"{", b"[")
    if images is not None and not is_json:
        raise ValueError(f"{path} is a table, which names its images; leave out images={images}")
    found = read_coco_file(path, images=images) if is_json else read_columns_file(path)
    return BoxTable(found, source=str(path))


def _sorted(proposals: Proposals) -> Proposals:
    """Best first, where that is known."""
    if proposals.objectness is None:
        return proposals
    return proposals.select(proposals.objectness.argsort(descending=True, stable=True))


def _parts(name: str) -> tuple[str, ...]:
    return PurePath(name.replace("\\", "/")).parts or ("",)


def _num_shared_parts(name: tuple[str, ...], key: tuple[str, ...]) -> int:
    """How many trailing parts of two paths agree."""
    count = 0
    for own, other in zip(reversed(name), reversed(key), strict=False):
        if own != other:
            break
        count += 1
    return count


def _number(name: str) -> str:
    """The file name's stem without leading zeros, as COCO's ids are written."""
    stem = PurePath(name).stem
    return (stem.lstrip("0") or "0") if stem.isdecimal() else stem


def _first_key(images: Mapping[str, ImageBoxes], keys: Sequence[str]) -> str | None:
    return next((key for key in keys if key in images), None)
