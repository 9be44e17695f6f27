"""Base and novel classes of your own data."""

from collections.abc import Collection, Sequence
from typing import Any

from .choosing import chosen
from .restricting import Content, with_categories


def choose_novel(class_names: Sequence[str], share: float, *, seed: int = 0) -> tuple[str, ...]:
    """Choose classes to be novel, by a hash of name and seed: the same in every file.

    Args:
        class_names: To choose from.
        share: Of them, in (0, 1); at least one is novel and one base.
        seed: Another one chooses others.

    Returns:
        In the order of ``class_names``.

    Raises:
        ValueError: There are less than two classes, or the share is not in (0, 1).
    """
    if len(class_names) < 2:
        raise ValueError(f"{len(class_names)} classes cannot be parted into base and novel")
    rows = chosen(class_names, share, seed=seed)
    return tuple(name for row, name in enumerate(class_names) if row in rows)


def class_parts(
    content: Content, class_ids: dict[str, int], novel: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Make ``base``, ``novel`` and ``all`` of a COCO dictionary.

    ``base`` is to train on: it lacks images that have novel objects only, for training would take
    these for background. ``novel`` and ``all`` are to evaluate on and have all images: those
    without boxes hold false detections.

    Args:
        content: COCO's dictionary; nothing in it is changed.
        class_ids: Its category ids by name.
        novel: Names of novel classes.

    Raises:
        ValueError: A novel name does not occur, or all or none of the classes are novel.
    """
    unknown = [name for name in novel if name not in class_ids]
    if unknown:
        raise ValueError(
            f"there is no class {unknown[0]!r} to be novel; the classes are "
            f"{', '.join(class_ids)[:1000]}"
        )
    if not 0 < len(novel) < len(class_ids):
        raise ValueError(
            f"{len(novel)} of {len(class_ids)} classes are novel; at least one must be novel and "
            "one base"
        )
    splits = {
        class_id: "novel" if name in novel else "base" for name, class_id in class_ids.items()
    }
    with_base, with_novel = (
        {
            each["image_id"]
            for each in content["annotations"]
            if splits[each["category_id"]] == split
        }
        for split in ("base", "novel")
    )
    images = content["images"]
    to_train_on = [each for each in images if each["id"] not in with_novel - with_base]
    names = ", ".join(name for name in class_ids if name in novel)
    left_out = f"{len(images) - len(to_train_on)} images with novel objects only are left out."
    kept = "Images without boxes stay: what is found in them is false."
    parts = {}
    for part, own_images, note in (
        ("base", to_train_on, left_out),
        ("novel", images, kept),
        ("all", images, kept),
    ):
        own = {key: split for key, split in splits.items() if part in (split, "all")}
        text = f"{part} classes ({len(own)} of {len(splits)}); novel are: {names}. {note}"
        parts[part] = with_categories(content, own, images=own_images, note=text)
    return parts
