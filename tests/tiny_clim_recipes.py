"""Recipes on which the runs of dense towers take seconds and teach nothing of use."""

import json
from pathlib import Path

from regionclip.data.icons.coco import write_coco
from regionclip.methods.clim.config import ClimConfig
from regionclip.methods.clim.model import Clim
from regionclip.methods.clim.reading import save_model
from tests.painted_segments import write_segments
from tests.tiny_dense import TINY_VIT, tiny_dense

SHARED = """
[optimization]
optimizer = "adamw"
steps = 4
batch_size = {batch}
learning_rate = 0.01
momentum = 0.9
second_beta = 0.98
epsilon = 1e-6
weight_decay = 0.1
vector_weight_decay = 0.0
schedule = "cosine_after_warmup"
warmup_steps = 2

[measuring]
every = 2
metric = "macc1"

[run]
precision = "fp32"
num_workers = 0
checkpoint_every = 2
log_every = 1
"""
CLIM = """
task = "clim"
start = {start}
val = {val}
val_image_root = {val_images}

[data]
train = {captions}

[learner]
mosaic_sides = [2]
images_per_set = 5
mosaic_pixels = 64
unlocked_groups = 2

[augmentation]
side = 32
"""
CLIPSELF = """
task = "clipself"
start = {start}
image_side = 64

[data]
train = {images}
val = {val}
val_image_root = {val_images}

[grid]
max_split = 3
max_regions = 4

[learner]
unlocked_groups = 2
"""
PSEUDO = """
task = "pseudo-labels"
start = {start}
templates = "photo"

[data]
train = {boxes}
image_root = {images}
val = {val}
val_image_root = {val_images}

[learner]
unlocked_groups = 2
classes_per_step = 6

[augmentation]
side = 64
"""
TEXTS = {"clim": (CLIM, 10), "clipself": (CLIPSELF, 4), "pseudo-labels": (PSEUDO, 4)}


def write_tower(path: Path, *, seed: int = 0) -> Path:
    """A dense CLIP with random weights, as a file of our own."""
    model = Clim(ClimConfig(vit=TINY_VIT, longest_side=64, templates="photo"))
    model.encoder.load_state_dict(tiny_dense(seed=seed).state_dict())
    save_model(path, model)
    return path


def write_clim_recipes(folder: Path) -> dict[str, Path]:
    """Data, start model and the recipes of all three tasks in one folder; the recipes' files."""
    write_coco(folder / "icons", num_scenes=12, seed=5, size=64)
    paths = {
        "start": write_tower(folder / "start.safetensors"),
        "captions": folder / "icons" / "captions.json",
        "images": folder / "icons" / "images",
        "boxes": folder / "icons" / "instances.json",
        "val": write_segments(folder / "val"),
        "val_images": folder / "val" / "images",
    }
    quoted = {name: json.dumps(str(path)) for name, path in paths.items()}
    recipes = {}
    for task, (text, batch) in TEXTS.items():
        recipes[task] = folder / f"{task}.toml"
        recipes[task].write_text((text + SHARED).format(**quoted, batch=batch))
    return recipes
