"""A recipe on which training a detector on a frozen CLIP takes seconds and teaches nothing."""

import json
from pathlib import Path

from tests.tiny_transfer import write_data, write_start

RECIPE = """
task = "fvit"
start = {start}

[data]
train = {data}
val = {data}

[model]
channels = 8
head_width = 16
projection = true
background = "learned"
image_size = 96
templates = "photo"
selection = {{ min_score = 0.0 }}
proposals = {{ pre_nms_topk = 60, post_nms_topk = 30 }}

[learner]
regions_per_image = 16

[augmentation]
shortest_sides = [96]
longest_side = 96
factors = [0.5, 1.5]

[optimization]
optimizer = "adamw"
steps = 4
batch_size = 2
learning_rate = 0.001
max_gradient_norm = 1.0

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
    """Data, start model and recipe in one folder; the recipe's file."""
    quoted = {
        "data": json.dumps(str(write_data(folder / "data"))),
        "start": json.dumps(str(write_start(folder / "start.safetensors"))),
    }
    path = folder / "fvit.toml"
    path.write_text(RECIPE.format(**quoted))
    return path
