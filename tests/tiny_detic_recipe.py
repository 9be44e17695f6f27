"""A recipe on which training a Detic takes seconds."""

import json
from pathlib import Path

from regionclip.methods.detic.reading import save_model
from tests.detic_files import tiny_detic
from tests.tiny_transfer import write_data

RECIPE = """
task = "detic"
start = {start}

[data]
train = {data}
val = {data}

[captions]
train = {captions}

[images]
per_step = 2
layout = {{ augmentation = {{ shortest_sides = [48], longest_side = 64 }} }}

[mosaics]
per_step = 2
layout = {{ sides = [2], cell = 48, pixels = 64 }}

[learner]
regions_per_image = 16
proposals = {{ pre_nms_topk = 100, post_nms_topk = 20 }}

[learner.captions]
weight = 1.0

[learner.tags]
weight = 1.0

[augmentation]
shortest_sides = [64]
longest_side = 96

[optimization]
optimizer = "adamw"
steps = 4
batch_size = 2
learning_rate = 0.001
max_gradient_norm = 35.0

[measuring]
every = 4
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
    save_model(start, tiny_detic())
    paths = {"data": data, "captions": folder / "data" / "captions.json", "start": start}
    path = folder / "detic.toml"
    path.write_text(RECIPE.format(**{name: json.dumps(str(own)) for name, own in paths.items()}))
    return path
