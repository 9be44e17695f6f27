"""From captioned images and base boxes to the weights of a detector: a recipe, stage by stage.

    captions  images + captions -> image and text vectors -> contrastive loss
    regions   base boxes -> region vectors -> class names, while the captions go on
    proposals base boxes -> anchors -> objectness and offsets

Each stage is a learner (a module whose ``forward`` takes a batch and gives a loss), a stream of
batches and one loop, :func:`_run_stage`.
"""

import json
import logging
import math
import shutil
import tomllib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

from regionclip.data.icons.batches import BoxBatch, BoxBatches, CaptionBatch, CaptionBatches
from regionclip.methods.regionclip.config import RegionClipConfig
from regionclip.methods.regionclip.learners import CaptionLearner, ProposalLearner, RegionLearner
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, save_model
from regionclip.settings import settings_from, settings_to_dict

LOGGER = logging.getLogger(__name__)
LOG_EVERY = 50
Progress = Callable[[str, int, int, float], None]
"""Called after each step with the stage, the step, the number of steps and the loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRecipe:
    """How long and how fast one stage learns: AdamW, linear warm-up, then a cosine to zero."""

    steps: int
    batch_size: int
    """Captioned images, or scenes with boxes, per step and process."""
    learning_rate: float
    warmup_steps: int = 100
    weight_decay: float = 0.05
    caption_batch_size: int = 0
    """Captioned images that the regions stage goes on with, per step."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1:
            raise ValueError(
                f"steps must be >= 0 and batch_size >= 1, got {self.steps} and {self.batch_size}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything that fixes a training run."""

    model: RegionClipConfig
    captions: StageRecipe
    regions: StageRecipe
    proposals: StageRecipe
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "bf16"
    caption_image_sizes: tuple[int, ...] = (96,)
    """Pixels a side of captioned images; steps take turns."""
    scene_share: float = 0.1
    """Fraction of the captioned images that are whole scenes."""
    num_workers: int = 1
    """Processes that draw ahead."""
    checkpoint_every: int = 500
    """Steps between checkpoints that a run can be resumed from."""


def read_recipe(path: Path) -> Recipe:
    """Read a TOML recipe.

    Raises:
        ValueError: It is not TOML, a key is unknown or missing, or a value does not fit.
    """
    try:
        data = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML recipe: {error}") from error
    return settings_from(Recipe, data, source=str(path))


def train(
    recipe: Recipe, output: Path, *, work_dir: Path, progress: Progress | None = None
) -> RegionClip:
    """Train a detector and write its weights in half precision.

    A run that was interrupted goes on from the last checkpoint in ``work_dir``.

    Args:
        recipe: What to do.
        output: The safetensors file to write.
        work_dir: For checkpoints.
        progress: Called after each step.

    Raises:
        ValueError: ``work_dir`` holds checkpoints of another recipe.
    """
    _claim(work_dir, recipe)
    set_seed(recipe.seed)
    precision = "no" if recipe.precision == "fp32" else recipe.precision
    accelerator = Accelerator(mixed_precision=precision)
    model = RegionClip(recipe.model)
    captions = CaptionLearner(model.encoder)
    regions = RegionLearner(captions, recipe.model)
    run = _Run(recipe, accelerator, work_dir, progress)
    run.stage("captions", captions, caption_batches(recipe), recipe.captions)
    run.stage("regions", regions, region_batches(recipe), recipe.regions)
    if model.proposer is not None:
        proposals = ProposalLearner(model.proposer, recipe.model)
        run.stage("proposals", proposals, proposal_batches(recipe), recipe.proposals)
    if accelerator.is_main_process:
        save_model(output, ReadModel(deepcopy(model).half(), has_text_tower=True, reports=()))
    return model.eval()


def caption_batches(recipe: Recipe) -> CaptionBatches:
    """What the captions stage sees."""
    return CaptionBatches(
        seed=recipe.seed,
        num_batches=recipe.captions.steps,
        batch_size=recipe.captions.batch_size,
        image_sizes=recipe.caption_image_sizes,
        scene_share=recipe.scene_share,
    )


def region_batches(recipe: Recipe) -> "PairedBatches":
    """What the regions stage sees: boxes, and captions of other images than before."""
    stage = recipe.regions
    captions = CaptionBatches(
        seed=recipe.seed + 1_000,
        num_batches=stage.steps,
        batch_size=stage.caption_batch_size,
        image_sizes=recipe.caption_image_sizes,
        scene_share=recipe.scene_share,
    )
    boxes = BoxBatches(
        seed=recipe.seed + 2_000, num_batches=stage.steps, batch_size=stage.batch_size
    )
    return PairedBatches(captions, boxes)


def proposal_batches(recipe: Recipe) -> BoxBatches:
    """What the proposals stage sees."""
    stage = recipe.proposals
    return BoxBatches(
        seed=recipe.seed + 3_000, num_batches=stage.steps, batch_size=stage.batch_size
    )


class PairedBatches(Dataset[tuple[CaptionBatch, BoxBatch]]):
    """A batch of captions and a batch of boxes per step."""

    def __init__(self, captions: CaptionBatches, boxes: BoxBatches) -> None:
        self.captions, self.boxes = captions, boxes

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, step: int) -> tuple[CaptionBatch, BoxBatch]:
        return self.captions[step], self.boxes[step]


@dataclass(frozen=True, slots=True)
class _Run:
    """What all stages of a run share."""

    recipe: Recipe
    accelerator: Accelerator
    work_dir: Path
    progress: Progress | None

    def stage(
        self, name: str, learner: nn.Module, batches: Dataset[Any], stage: StageRecipe
    ) -> None:
        """Run one stage, from its last checkpoint if there is one."""
        accelerator = self.accelerator
        learner.to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(
            parameter_groups(learner, stage.weight_decay),
            lr=stage.learning_rate,
            betas=(0.9, 0.98),
        )
        learner, optimizer = accelerator.prepare(learner, optimizer)
        folder = self.work_dir / name
        first = _restore(accelerator, folder)
        started = monotonic()
        # every process draws its own batches
        indices = [
            step * accelerator.num_processes + accelerator.process_index
            for step in range(first, stage.steps)
        ]
        for step, batch in enumerate(_stream(batches, indices, self.recipe.num_workers), first):
            for group in optimizer.param_groups:
                group["lr"] = stage.learning_rate * lr_factor(step, stage)
            with accelerator.autocast():
                loss = learner(batch)
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(learner.parameters(), 1.0)
            optimizer.step()
            done = step + 1
            if self.progress is not None and accelerator.is_main_process:
                self.progress(name, done, stage.steps, loss.item())
            if done % LOG_EVERY == 0:
                seconds = (monotonic() - started) / (done - first)
                LOGGER.info("%s %d loss %.3f, %.3f s/step", name, done, loss.item(), seconds)
            if done % self.recipe.checkpoint_every == 0 or done == stage.steps:
                _checkpoint(accelerator, folder, done)
        accelerator.free_memory()


def lr_factor(step: int, stage: StageRecipe) -> float:
    """Fraction of the learning rate at a step, counted from 0."""
    warmup = min(1.0, (step + 1) / max(stage.warmup_steps, 1))
    return warmup * 0.5 * (1 + math.cos(math.pi * step / max(stage.steps, 1)))


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters; vectors and scalars (biases, norms, the scale) do not decay."""
    own = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [each for each in own if each.ndim >= 2], "weight_decay": weight_decay},
        {"params": [each for each in own if each.ndim < 2], "weight_decay": 0.0},
    ]


def _stream(batches: Dataset[Any], indices: Sequence[int], num_workers: int) -> DataLoader[Any]:
    """Batches in the order of ``indices``, drawn ahead by worker processes, as they are."""
    return DataLoader(
        batches,
        sampler=indices,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        # its own: a loader that drew from the global one would shift it when a run is resumed
        generator=torch.Generator(),
    )


def _as_it_is(batch: Any) -> Any:
    """Keep a batch's own type: torch turns a tuple into a list."""
    return batch


def _claim(work_dir: Path, recipe: Recipe) -> None:
    """Note whose checkpoints these are, so that no other recipe goes on from them."""
    note = work_dir / "recipe.json"
    content = json.dumps(settings_to_dict(recipe), indent=1)
    if note.exists() and note.read_text() != content:
        raise ValueError(
            f"{work_dir} holds checkpoints of another recipe; remove it, or choose another folder"
        )
    work_dir.mkdir(parents=True, exist_ok=True)
    note.write_text(content)


def _restore(accelerator: Accelerator, folder: Path) -> int:
    """Load a stage's checkpoint; the number of steps done, 0 without one."""
    done = folder / "steps_done"
    if not done.exists():
        return 0
    accelerator.load_state(str(folder))
    return int(done.read_text())


def _checkpoint(accelerator: Accelerator, folder: Path, steps: int) -> None:
    """Replace the last checkpoint by a whole new one; a run that is killed leaves one of them."""
    partial = folder.with_name(f"{folder.name}.partial")
    accelerator.save_state(str(partial))
    if accelerator.is_main_process:
        (partial / "steps_done").write_text(str(steps))
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    accelerator.wait_for_everyone()
