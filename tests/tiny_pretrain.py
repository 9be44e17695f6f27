"""Captioned scenes, a concept pool and a recipe on which pretraining takes seconds."""

import json
from pathlib import Path

from regionclip.concepts.pool import ConceptPool
from regionclip.data.icons.coco import write_coco
from regionclip.data.icons.glyphs import CLASS_NAMES
from regionclip.loading import load
from regionclip.vocabulary import Vocabulary
from tests.tiny_transfer import write_data, write_start

RECIPE = """
task = "pretrain"
start = {start}
concepts = {concepts}

[data]
train = {captions}

[learner]
regions_per_image = 8
min_concept_score = 0.0

[selection]
post_nms_topk = 20

[augmentation]
shortest_sides = [80, 96]
longest_side = 128

[optimization]
steps = 6
batch_size = 4
learning_rate = 0.01
max_gradient_norm = 1.0
gradient_norm_of = "each"

[run]
precision = "fp32"
num_workers = 0
checkpoint_every = 2
log_every = 1
"""


TOWER = (
    "learner.regions_per_image=8",
    "augmentation.shortest_sides=[64]",
    "augmentation.longest_side=64",
    "proposals=grid",
    "optimization.steps=4",
    "optimization.learning_rate=0.01",
)
"""What the recipe needs otherwise for towers with a dense map, beside start and concepts."""


def write_pool(path: Path, start: Path, teacher: Path | None = None) -> Path:
    """Twelve icon names, in the space of a model, and in a teacher's."""
    pool = ConceptPool(
        _names_of(start),
        counts=(1,) * 12,
        teacher=None if teacher is None else _names_of(teacher),
    )
    pool.save(path)
    return path


def _names_of(weights: Path) -> Vocabulary:
    encoder = load(weights).parts.encoder
    return Vocabulary.from_names(CLASS_NAMES[:12], encoder, templates="photo")


def write_pretrain_recipe(folder: Path) -> Path:
    """Captions, start model, pool and recipe in one folder; the recipe's file.

    Scenes with boxes are beside them, in ``boxes/images``, to measure on.
    """
    write_coco(folder / "captioned", num_scenes=9, seed=5, size=96)
    write_data(folder / "boxes")
    start = write_start(folder / "start.safetensors")
    pool = write_pool(folder / "pool.safetensors", start)
    path = folder / "tiny_pretrain.toml"
    values = {"start": start, "concepts": pool, "captions": folder / "captioned" / "captions.json"}
    path.write_text(RECIPE.format(**{key: json.dumps(str(each)) for key, each in values.items()}))
    return path
