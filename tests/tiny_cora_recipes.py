"""Recipes on which CORA's two runs take seconds and teach nothing of use."""

import json
from pathlib import Path

from tests.tiny_transfer import write_data, write_start

SHARED = """
[data]
train = {data}
val = {data}

[augmentation]
shortest_sides = [80, 96]
longest_side = 128
crop_from_sides = [96]
crop_sides = [64, 90]

[optimization]
optimizer = "adamw"
steps = 6
batch_size = 4
learning_rate = 0.01
max_gradient_norm = 0.1

[measuring]
every = 3
metric = "ap50"

[run]
precision = "fp32"
num_workers = 0
checkpoint_every = 2
log_every = 1
"""
PROMPT = """
task = "region-prompt"
start = {start}
templates = "photo"
text_length = 20
shortest_side = 96
longest_side = 128
"""
LOCALIZER = """
task = "cora"
start = {start}

[model]
num_queries = 20
width = 16
heads = 2
feedforward = 24
encoder_layers = 1
decoder_layers = 2
dropout = 0.0
text_bottleneck = 8
text_length = 20
templates = "photo"
shortest_side = 96
longest_side = 128

[model.selection]
min_score = 0.0
nms_boxes = "whole"
"""
EQUAL_SIZES = ("augmentation.shortest_sides=[96]", "augmentation.crop_share=0.0")
"""What an image teaches then does not depend on those that it is padded with."""


def write_recipes(folder: Path) -> tuple[Path, Path]:
    """Data, start model and both recipes in one folder; the recipes' files."""
    quoted = {
        "data": json.dumps(str(write_data(folder / "data"))),
        "start": json.dumps(str(write_start(folder / "start.safetensors"))),
    }
    paths = folder / "prompt.toml", folder / "localizer.toml"
    for path, own in zip(paths, (PROMPT, LOCALIZER), strict=True):
        path.write_text((own + SHARED).format(**quoted))
    return paths


def with_changes(recipe: Path, *changes: str) -> Path:
    """A copy of a recipe with other values: ``section.key=value`` as TOML writes it."""
    text = recipe.read_text()
    for change in changes:
        name, _, value = change.partition("=")
        section, _, key = name.partition(".")
        lines = [line for line in text.splitlines() if not line.startswith(f"{key} =")]
        lines.insert(lines.index(f"[{section}]") + 1, f"{key} = {value}")
        text = "\n".join(lines)
    path = recipe.with_name(f"changed_{recipe.name}")
    path.write_text(text)
    return path
