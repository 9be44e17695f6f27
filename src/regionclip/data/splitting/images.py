"""A validation set, split off by image."""

from collections.abc import Collection, Sequence
from typing import Any

from .choosing import chosen
from .restricting import Content, info_with


def choose_images(names: Sequence[str], share: float, *, seed: int = 0) -> set[int]:
    """Choose images to validate on, by a hash of name and seed.

    Args:
        names: Of the images.
        share: Of them, in (0, 1); at least one, and never all.
        seed: Another one chooses others.

    Returns:
        Their indices.

    Raises:
        ValueError: There are less than two images, or the share is not in (0, 1).
    """
    return chosen(names, share, seed=seed)


def image_parts(content: Content, validation: Collection[int]) -> dict[str, dict[str, Any]]:
    """Make ``train`` and ``val`` of a COCO dictionary; both list all categories.

    Args:
        content: COCO's dictionary; nothing in it is changed.
        validation: Indices of the images to validate on.
    """
    parts = {}
    num_images = len(content["images"])
    for part, is_part in (("train", False), ("val", True)):
        images = [
            each for row, each in enumerate(content["images"]) if (row in validation) == is_part
        ]
        ids = {each["id"] for each in images}
        annotations = [each for each in content["annotations"] if each["image_id"] in ids]
        note = f"{part}: {len(images)} of {num_images} images, chosen by name."
        parts[part] = dict(content) | {
            "info": info_with(content, note),
            "images": images,
            "annotations": annotations,
        }
    return parts
