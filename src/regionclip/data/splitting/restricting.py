"""A COCO or LVIS json's dictionary with some of its categories or images."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from regionclip.data.readers.coco import CLASS_LISTS

Content = Mapping[str, Any]


def with_categories(
    content: Content, splits: Mapping[int, str], *, images: Sequence[Any], note: str
) -> dict[str, Any]:
    """Keep some categories and the annotations of these.

    Args:
        content: COCO's or LVIS's dictionary; nothing in it is changed.
        splits: ``base`` or ``novel`` by id of the categories to keep, which say so then.
        images: Those of its images to keep. LVIS's lists of categories in them are cut.
        note: Put into ``info`` as ``split``.
    """
    categories = [
        each | {"split": splits[int(each["id"])]}
        for each in content["categories"]
        if int(each["id"]) in splits
    ]
    image_ids = {each["id"] for each in images}
    annotations = [
        each
        for each in content["annotations"]
        if each["category_id"] in splits and each["image_id"] in image_ids
    ]
    return dict(content) | {
        "info": info_with(content, note),
        "images": [_about(image, splits) for image in images],
        "annotations": annotations,
        "categories": categories,
    }


def info_with(content: Content, note: str) -> dict[str, Any]:
    """The ``info`` of a dictionary, with a note about how it was split after those before."""
    info = content.get("info")
    info = dict(info) if isinstance(info, Mapping) else {}
    before = info.get("split")
    return info | {"split": f"{before} {note}" if isinstance(before, str) else note}


def _about(image: Mapping[str, Any], category_ids: Container[int]) -> Mapping[str, Any]:
    lists = {
        key: [each for each in image[key] if each in category_ids]
        for key in CLASS_LISTS
        if key in image
    }
    return {**image, **lists} if lists else image
