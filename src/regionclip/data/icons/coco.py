"""Icon scenes as a COCO data set: pictures, boxes and captions on disk."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from .backgrounds import Domain
from .glyphs import CLASS_NAMES, NOVEL_NAMES
from .scenes import SCENE_SIZE, Scene, draw_scene


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
    categories = [
        {"id": label + 1, "name": name, "split": "novel" if name in NOVEL_NAMES else "base"}
        for label, name in enumerate(CLASS_NAMES)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


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
    (folder / "images").mkdir(parents=True, exist_ok=True)
    scenes = []
    for index in range(num_scenes):
        scene = draw_scene(seed, index, size=size, domain=domain)
        Image.fromarray(scene.pixels).save(folder / "images" / f"{index:06d}.png")
        scenes.append(scene)
        if progress is not None:
            progress(1)
    instances = coco_annotations(scenes)
    captions = [
        {"id": image_id, "image_id": image_id, "caption": scene.caption}
        for image_id, scene in enumerate(scenes, start=1)
    ]
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "captions.json").write_text(
        json.dumps({"images": instances["images"], "annotations": captions})
    )
