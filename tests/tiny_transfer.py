"""A data set and a recipe on which fine-tuning takes seconds and teaches nothing of use."""

import json
from pathlib import Path

import torch

from regionclip.data.icons.coco import write_coco
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, save_model
from tests.tiny_recipe import TINY

RECIPE = """
task = "transfer"
start = {start}
templates = "photo"
shortest_side = 96
longest_side = 128
min_score = 0.0

[data]
train = {train}
val = {val}

[learner]
regions_per_image = 16
background_weight = 0.5

[augmentation]
shortest_sides = [80, 96]
longest_side = 128

[proposal_training.optimization]
steps = 2
batch_size = 4
learning_rate = 0.01

[optimization]
steps = 6
batch_size = 4
learning_rate = 0.01

[measuring]
every = 3
metric = "ap50"

[run]
precision = "fp32"
num_workers = 0
checkpoint_every = 2
log_every = 1
"""


def write_data(folder: Path, *, num_scenes: int = 6) -> Path:
    """Icon scenes with five of the classes: four to train on, and one novel one in ``val``."""
    write_coco(folder, num_scenes=num_scenes, seed=3, size=96)
    content = json.loads((folder / "instances.json").read_text())
    used = sorted({each["category_id"] for each in content["annotations"]})[:5]
    rows = [each for each in content["annotations"] if each["category_id"] in used]
    for name, ids in (("train", used[:4]), ("val", used)):
        categories = [
            {"id": each["id"], "name": each["name"]}
            for each in content["categories"]
            if each["id"] in ids
        ]
        own = [each for each in rows if each["category_id"] in ids]
        split = {"images": content["images"], "annotations": own, "categories": categories}
        (folder / "images" / f"instances_{name}.json").write_text(json.dumps(split))
    return folder / "images"


def write_start(path: Path, *, seed: int = 0) -> Path:
    """A tiny model with random weights."""
    torch.manual_seed(seed)
    save_model(path, ReadModel(RegionClip(TINY), has_text_tower=True, reports=()))
    return path


def write_recipe(folder: Path) -> Path:
    """Data, start model and recipe in one folder; the recipe's file."""
    data = write_data(folder / "data")
    start = write_start(folder / "start.safetensors")
    path = folder / "tiny.toml"
    quoted = {"start": json.dumps(str(start)), "train": json.dumps(str(data))}
    path.write_text(RECIPE.format(**quoted, val=quoted["train"]))
    return path
