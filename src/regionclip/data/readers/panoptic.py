"""COCO's panoptic annotations: what they add to those with boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from regionclip.data.datasets import Kind, Objects

Entry = Mapping[str, Any]


def segment_rows(annotation: Entry) -> list[Entry]:
    """The segments of an image, as annotations of objects with the segments' ids.

    Raises:
        KeyError, TypeError: A segment lacks a field, or it is of another type.
    """
    return [{**each, "image_id": annotation["image_id"]} for each in annotation["segments_info"]]


def with_stuff(objects: Sequence[Objects], kinds: Sequence[Kind]) -> list[Objects]:
    """The objects of each image, told which of them are stuff, where classes say so."""
    if not any(kinds):
        return list(objects)
    is_stuff = torch.tensor([kind == "stuff" for kind in kinds])
    return [replace(own, is_stuff=is_stuff[own.labels]) for own in objects]


def segment_maps(annotations: Sequence[Entry], path: Path) -> dict[Any, Path]:
    """The PNG of each image that has one, by the image's id.

    They are in a folder of the json's name, beside the json or above it, as COCO's archive unpacks;
    else beside the json itself.
    """
    named = [each for each in annotations if "segments_info" in each]
    if not named:
        return {}
    first = str(named[0]["file_name"])
    folders = (path.parent / path.stem, path.parent.parent / path.stem, path.parent)
    folder = next((each for each in folders if (each / first).is_file()), folders[0])
    return {each["image_id"]: folder / str(each["file_name"]) for each in named}
