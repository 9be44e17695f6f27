"""A COCO panoptic data set made by hand: things and stuff, with masks."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_segments(folder: Path) -> Path:
    """An image of 80x60 pixels with a thing and a stuff, and one without anything; the json.

    The thing is a square at the upper left, the stuff a band from side to side.
    """
    (folder / "images").mkdir(parents=True)
    (folder / "segments").mkdir()
    ids = np.zeros((60, 80), np.int64)
    ids[0:40, 0:40] = 300
    ids[50:60, :] = 70000
    segments = [
        {"id": 300, "category_id": 1, "bbox": [0, 0, 40, 40], "area": 1600, "iscrowd": 0},
        {"id": 70000, "category_id": 3, "bbox": [0, 50, 80, 10], "area": 800, "iscrowd": 0},
    ]
    annotations = []
    for number, own in enumerate([segments, []]):
        drawn = ids if own else np.zeros_like(ids)
        colors = np.stack([drawn % 256, drawn // 256 % 256, drawn // 256**2], axis=2)
        Image.fromarray(colors.astype(np.uint8)).save(folder / "segments" / f"{number}.png")
        pixels = np.random.default_rng(number).integers(0, 255, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": own})
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "height": 60, "width": 80}
            for number in range(2)
        ],
        "annotations": annotations,
        "categories": [
            {"id": 1, "name": "dog", "isthing": 1},
            {"id": 2, "name": "cat", "isthing": 1},
            {"id": 3, "name": "sky-other-merged", "isthing": 0},
        ],
    }
    path = folder / "segments.json"
    path.write_text(json.dumps(content))
    return path
