"""What the documentation takes for granted, made small: data sets, models, photographs."""

import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from regionclip.concepts.class_names import builtin_names
from regionclip.evaluation.diverse_weather import CLASSES, DOMAINS
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, save_model
from regionclip.proposals.rpn import RegionProposalNetwork, RpnConfig, RpnSelection
from regionclip.proposals.rpn_files import save_rpn
from tests.data.splitting.test_benchmarks import official
from tests.tiny_clim_recipes import write_tower
from tests.tiny_recipe import TINY

MODEL = "tiny.safetensors"
RPN = "rpn.safetensors"
TOWER = "tower.safetensors"
PRETRAINED = "regionclip_pretrained-cc_rn50.pth"
SIDE = 64
CAPTION = "a small dog and a cat on a table"
BOXES = ((4, 6, 28, 30), (30, 20, 60, 56), (10, 34, 34, 60), (2, 2, 62, 62))
"""``xyxy`` in pixels; each image has all."""


def write_world(folder: Path) -> None:
    """Everything, under the names that the pages use."""
    _write_models(folder)
    own = ("cell", "platelet", "kite", "umbrella")
    blood = ("Platelets", "RBC", "WBC")
    for name, classes in (("cells", own), ("my_data", own), ("bccd", blood)):
        for split in ("train", "val"):
            images = folder / name / split
            content = _annotated(_categories(classes), _write_images(images, 4))
            (folder / name / f"instances_{split}.json").write_text(json.dumps(content))
    for name in ("new_photos", "photos"):
        _write_images(folder / name, 2)
    _write_shard(folder / "my_captions" / "00000.tar", folder / "captioned")
    for split in ("train", "val"):
        name = f"{split}2017"
        content = _coco(_write_images(folder / "coco" / name, 4))
        path = folder / "coco" / "annotations" / f"instances_{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    (folder / "val.json").write_text(json.dumps(_coco(_write_images(folder / "val", 2))))
    for domain in DOMAINS:
        write_voc(folder / "diverse_weather" / domain)


def _write_models(folder: Path) -> None:
    """A detector, by a released file's name too, a proposal network, and a ViT; all random."""
    write_tower(folder / TOWER)
    torch.manual_seed(0)
    rpn = replace(TINY.rpn or RpnConfig(), selection=RpnSelection(post_nms_topk=20))
    model = RegionClip(replace(TINY, rpn=rpn, templates="photo"))
    for name in (MODEL, PRETRAINED):
        save_model(folder / name, ReadModel(model, has_text_tower=True, reports=()))
    save_rpn(folder / RPN, RegionProposalNetwork(rpn))


def _write_images(folder: Path, count: int) -> list[dict[str, Any]]:
    """Noise, named and numbered from 1."""
    folder.mkdir(parents=True)
    images = []
    for number in range(1, count + 1):
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
        named = {"id": number, "file_name": f"{number}.jpg", "width": SIDE, "height": SIDE}
        images.append(named)
    return images


def _write_shard(path: Path, images: Path) -> None:
    """Six images with the same caption, which is enough to make its nouns concepts."""
    path.parent.mkdir()
    with tarfile.open(path, "w") as shard:
        for each in _write_images(images, 6):
            text = images / f"{each['id']}.txt"
            text.write_text(CAPTION)
            for file in (images / each["file_name"], text):
                shard.add(file, file.name)


def _coco(images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """COCO's 80 classes, with persons, cars (base), cats and dogs (novel)."""
    chosen = (1, 3, 17, 18)
    categories = official("coco80")["categories"]
    return _annotated(sorted(categories, key=lambda each: each["id"] not in chosen), images)


def _categories(names: Sequence[str]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in enumerate(names, start=1)]


def _annotated(
    categories: Sequence[dict[str, Any]], images: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Each image with one object of each of the first classes."""
    annotations = []
    for image in images:
        for (x0, y0, x1, y1), category in zip(BOXES, categories, strict=False):
            width, height = x1 - x0, y1 - y0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category["id"],
                    "bbox": [x0, y0, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    categories = sorted(categories, key=lambda each: each["id"])
    return {"images": images, "annotations": annotations, "categories": categories}


def write_voc(folder: Path) -> None:
    """A weather's classes as a VOC folder, two images in each of its lists."""
    images = _write_images(folder / "JPEGImages", 4)
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split, chosen in (("train", images[:2]), ("test", images[2:])):
        names = [str(each["id"]) for each in chosen]
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for (x0, y0, x1, y1), name in zip(BOXES, builtin_names(CLASSES), strict=False)
    )
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
    for image in images:
        path = folder / "Annotations" / f"{image['id']}.xml"
        path.write_text(f"<annotation>{size}{objects}</annotation>")
