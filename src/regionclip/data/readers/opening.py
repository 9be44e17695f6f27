"""A data set from whatever the user names."""

from pathlib import Path

from regionclip.data.datasets import Dataset

from .coco import read_coco


def open_dataset(
    source: str | Path, *, image_root: str | Path | None = None, split: str | None = None
) -> Dataset:
    """Read a data set; its content tells its format.

    Args:
        source: A COCO json.
        image_root: Folder of the images; by default that of the annotation file.
        split: Part of a folder, such as ``test``; a json has none.

    Raises:
        ValueError: There is no such file, it is of no known format, or a json's split is asked for.
    """
    path = Path(source)
    if not path.exists():
        raise ValueError(f"{path} does not exist; give a COCO json")
    if split is not None:
        raise ValueError(f"{path} is a file, of which there is no split {split!r}; leave it out")
    return read_coco(path, image_root=image_root)
