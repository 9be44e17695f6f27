"""Icon scenes as a COCO data set: pictures, boxes, masks and captions on disk."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .backgrounds import Domain
from .glyphs import CLASS_NAMES, NOVEL_NAMES
from .scenes import SCENE_SIZE, Scene, Split, draw_close_up, draw_scene

PANOPTIC = "panoptic.json"
"""Name of a file with segments, beside whose stem's folder of PNG files it lies."""


def coco_annotations(scenes: Iterable[Scene]) -> dict[str, Any]:
    """Boxes of scenes as a COCO ``instances`` dictionary.

    Image ids count from 1 in the order of ``scenes``; category ids are ``label + 1`` and every
    category says whether it is ``base`` or ``novel``.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, start=1):
        height, width = scene.pixels.shape[:2]
        name = f"{image_id - 1:06d}.png"
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
            x0, y0, x1, y1 = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    return {"images": images, "annotations": annotations, "categories": _categories()}


def write_coco(
    folder: Path,
    *,
    num_scenes: int,
    seed: int,
    size: int = SCENE_SIZE,
    domain: Domain = "day",
    progress: Callable[[int], None] | None = None,
) -> None:
    """Draw test scenes into a folder.

    Writes ``images/000000.png`` and so on, ``instances.json`` and ``captions.json`` in COCO's
    formats. Scenes that were there are overwritten.

    Args:
        folder: Made if it is not there.
        num_scenes: How many, zero included.
        seed: See :func:`draw_scene`.
        size: Pixels a side.
        domain: Light and weather.
        progress: Called after each scene with 1.

    Raises:
        ValueError: ``num_scenes`` is negative.
    """
    if num_scenes < 0:
        raise ValueError(f"num_scenes must not be negative, got {num_scenes}")
    scenes = []
    for index in range(num_scenes):
        scene = draw_scene(seed, index, size=size, domain=domain)
        _save_pixels(folder, index, scene)
        scenes.append(scene)
        if progress is not None:
            progress(1)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "instances.json").write_text(json.dumps(coco_annotations(scenes)))
    _write_captions(folder, scenes)


def write_close_ups(folder: Path, *, num_images: int, seed: int, size: int, split: Split) -> None:
    """Draw icons that fill an image each into a folder, with a caption each and without boxes.

    Writes ``images/000000.png`` and so on, and ``captions.json`` in COCO's format.

    Args:
        folder: Made if it is not there.
        num_images: How many.
        seed: See :func:`draw_close_up`.
        size: Pixels a side.
        split: See :func:`draw_close_up`.
    """
    scenes = []
    for index in range(num_images):
        scenes.append(draw_close_up(seed, index, size=size, split=split))
        _save_pixels(folder, index, scenes[-1])
    _write_captions(folder, scenes)


def write_panoptic(folder: Path, *, num_scenes: int, seed: int, size: int = SCENE_SIZE) -> None:
    """Write the masks of scenes that :func:`write_coco` draws by day, in COCO's panoptic format.

    Beside what that writes, ``panoptic.json`` and ``panoptic/000000.png`` and so on. Every icon is
    a thing, its mask what shows of it.

    Args:
        folder: Made if it is not there.
        num_scenes: How many.
        seed: As :func:`write_coco` was given.
        size: Likewise.
    """
    masks = folder / Path(PANOPTIC).stem
    masks.mkdir(parents=True, exist_ok=True)
    scenes = [draw_scene(seed, index, size=size) for index in range(num_scenes)]
    content = coco_annotations(scenes)
    rows = []
    for index, scene in enumerate(scenes):
        # ids count from 1 within an image, and 0 is what belongs to none
        ids = np.zeros((*scene.owner.shape, 3), np.uint8)
        ids[..., 0] = scene.owner + 1
        Image.fromarray(ids).save(masks / f"{index:06d}.png")
        own = [each for each in content["annotations"] if each["image_id"] == index + 1]
        areas = np.bincount(scene.owner.ravel() + 1, minlength=len(own) + 1)[1:].tolist()
        segments = [
            {**each, "id": number, "area": area}
            for number, (each, area) in enumerate(zip(own, areas, strict=True), start=1)
        ]
        name = f"{index:06d}.png"
        rows.append({"image_id": index + 1, "file_name": name, "segments_info": segments})
    categories = [each | {"isthing": 1} for each in content["categories"]]
    content |= {"annotations": rows, "categories": categories}
    (folder / PANOPTIC).write_text(json.dumps(content))


def _categories() -> list[dict[str, Any]]:
    return [
        {"id": label + 1, "name": name, "split": "novel" if name in NOVEL_NAMES else "base"}
        for label, name in enumerate(CLASS_NAMES)
    ]


def _save_pixels(folder: Path, index: int, scene: Scene) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.pixels).save(folder / "images" / f"{index:06d}.png")


def _write_captions(folder: Path, scenes: Sequence[Scene]) -> None:
    captions = [
        {"id": image_id, "image_id": image_id, "caption": scene.caption}
        for image_id, scene in enumerate(scenes, start=1)
    ]
    images = coco_annotations(scenes)["images"]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
