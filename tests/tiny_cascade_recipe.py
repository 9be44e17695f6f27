"""A recipe on which training a Detic with a cascade takes seconds."""

import json
from pathlib import Path

from regionclip.methods.detic.cascade_reading import save_cascade
from tests.cascade_files import tiny_cascade
from tests.tiny_transfer import write_data

RECIPE = """
task = "detic-cascade"
start = {start}

[data]
train = {data}
val = {data}
keep_empty = false

[captions]
train = {captions}

[mosaics]
per_step = 2
layout = {{ sides = [2], cell = 48, pixels = 64 }}

[learner]
regions_per_image = 16
classes_per_step = 3
proposals = {{ pre_nms_topk = 60, post_nms_topk = 20 }}

[learner.captions]
regions_per_picture = "none"

[learner.tags]
weight = 0.1

[augmentation]
shortest_sides = [96]
longest_side = 96
factors = [1.0, 1.0]

[optimization]
optimizer = "adamw"
steps = 2
batch_size = 2
learning_rate = 0.001
max_gradient_norm = 35.0

[measuring]
every = 2
metric = "ap50"

[run]
precision = "fp32"
num_workers = 0
checkpoint_every = 2
log_every = 1
"""


def write_recipe(folder: Path) -> Path:
    """Data, captions, start model and recipe in one folder; the recipe's file."""
    data, start = write_data(folder / "data"), folder / "start.safetensors"
    save_cascade(start, tiny_cascade())
    paths = {"data": data, "captions": folder / "data" / "captions.json", "start": start}
    path = folder / "cascade.toml"
    path.write_text(RECIPE.format(**{name: json.dumps(str(own)) for name, own in paths.items()}))
    return path
