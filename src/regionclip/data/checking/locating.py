"""List a data set of any format."""

from pathlib import Path

from regionclip.data.readers.caption_tables import read_caption_table
from regionclip.data.readers.opening import locate
from regionclip.data.readers.webdataset import read_webdataset

from .coco_listing import list_coco
from .folder_listings import list_captions, list_voc, list_yolo
from .listing import Listing


def list_dataset(
    source: str | Path, *, split: str | None = None, image_root: str | Path | None = None
) -> Listing:
    """List what a data set's files say, sound or not.

    Args:
        source: As ``open_dataset`` takes it, and ``split`` and ``image_root`` too.
        split: Part of a folder.
        image_root: Folder of the images.

    Raises:
        ValueError: It cannot be read at all; of captions: as the readers say.
    """
    location = locate(Path(source), split)
    root = None if image_root is None else Path(image_root)
    if location.format == "coco":
        return list_coco(location.path, root)
    if location.format == "voc":
        return list_voc(location.path, location.split, root)
    if location.format == "yolo":
        return list_yolo(location.path, location.split, root)
    if location.format == "table":
        return list_captions(read_caption_table(location.path, image_root=root), "table")
    return list_captions(read_webdataset(location.shards), "webdataset")
