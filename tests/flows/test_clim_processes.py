"""Two processes with half of each step against one with the whole, for all learners of towers."""

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regionclip.encoders.dense_resnet import DenseClipResNet, dense_resnet_of
from regionclip.encoders.vit import ClipVit
from regionclip.methods.clim.learner import ClimLearner
from regionclip.methods.clim.training_config import ClimTraining
from regionclip.methods.clipself.learner import ClipSelfLearner
from regionclip.methods.clipself.pseudo_labels import PseudoLabelLearner
from regionclip.methods.clipself.training_config import ClipSelfTraining, PseudoLabelTraining
from regionclip.regions.layer4_regions import layer4_vectors
from regionclip.structures import CaptionedBatch, CropBatch, DetectionBatch, Targets
from regionclip.training import Bookkeeping, Optimization, Stage, Trainer
from regionclip.training.engine import make_accelerator
from regionclip.training.running_stage import RunningStage
from tests.processes import run_together
from tests.tiny_clip import tiny_clip
from tests.tiny_dense import tiny_dense

STEPS, IMAGES, PROCESSES = 2, 10, 2
WORDS = ("dog", "cat", "car", "tree", "bird", "hat", "dog", "sky", "sea", "bus")
"""Of the ten images of a step: the first five make a mosaic and a single, and so do the others."""
RESNET = "clim-resnet"
LEARNERS = ("clim", RESNET, "clipself", "pseudo-labels")
PLAN = Optimization(steps=STEPS, batch_size=IMAGES, learning_rate=0.05)


def encoder_of(kind: str) -> ClipVit | DenseClipResNet:
    return dense_resnet_of(tiny_clip()) if kind == RESNET else tiny_dense()


def learner_of(kind: str, encoder: ClipVit | DenseClipResNet) -> nn.Module:
    if kind in ("clim", RESNET):
        config = ClimTraining(
            mosaic_sides=(2,), images_per_set=5, mosaic_pixels=64, unlocked_groups=2
        )
        vectors = None
        if isinstance(encoder, DenseClipResNet):
            vectors = partial(layer4_vectors, encoder)
        return ClimLearner(encoder, config, box_vectors=vectors)
    if kind == "clipself":
        return ClipSelfLearner(encoder, tiny_dense(), ClipSelfTraining(unlocked_groups=2))
    nouns = torch.randn(30, 10, generator=torch.Generator().manual_seed(1))
    config = PseudoLabelTraining(unlocked_groups=2, classes_per_step=12)
    return PseudoLabelLearner(encoder, nouns, config)


def batch_of(kind: str, step: int, rows: range) -> Any:
    """The images of a step in these places; each has as many boxes as its place says."""
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(IMAGES, 3, 32, 32, generator=generator)[rows.start : rows.stop]
    names = tuple(map(str, rows))
    if kind in ("clim", RESNET):
        return CaptionedBatch(images.unbind(), WORDS[rows.start : rows.stop], tuple(rows), names)
    boxes = tuple(
        torch.tensor([[2.0, 2, 12 + 2 * row, 24]]).repeat(row % 4, 1)
        + torch.arange(row % 4)[:, None]
        for row in rows
    )
    if kind == "clipself":
        whole = [torch.rand(row % 4, 3, 32, 32, generator=generator) for row in range(IMAGES)]
        return CropBatch(images, boxes, torch.cat([whole[row] for row in rows]), step)
    targets = tuple(
        Targets(own, (torch.arange(len(own)) * 7 + row) % 30)
        for own, row in zip(boxes, rows, strict=True)
    )
    return DetectionBatch(images.unbind(), targets, tuple(rows), step)


def trained(kind: str, folder: Path) -> dict[str, Tensor]:
    """The weights of this process after a few steps of a run that it has its share of."""
    accelerator = make_accelerator("fp32", device="cpu")
    size = IMAGES // accelerator.num_processes
    rows = range(accelerator.process_index * size, (accelerator.process_index + 1) * size)

    def batches(first: int) -> Iterable[Any]:
        return [batch_of(kind, step, rows) for step in range(first, STEPS)]

    encoder = encoder_of(kind)
    books = Bookkeeping(checkpoint_every=100)
    trainer = Trainer(folder / kind, accelerator, settings={}, resume=False, seed=0, books=books)
    learner = learner_of(kind, encoder)
    trainer.run(Stage(name=kind, learner=learner, batches=batches, optimization=PLAN))
    return {name: each.clone() for name, each in encoder.state_dict().items()}


def work(folder: str) -> None:
    found = {kind: trained(kind, Path(folder) / "two") for kind in LEARNERS}
    # and as the original does it: the module is called, and what averages gradients is not
    with pytest.MonkeyPatch.context() as patch:
        plain = RunningStage.__init__

        def without_averaging(self: RunningStage, *arguments: Any) -> None:
            plain(self, *arguments)
            self._prepared = self.learner

        patch.setattr(RunningStage, "__init__", without_averaging)
        found["unaveraged"] = trained("clipself", Path(folder) / "unaveraged")
    torch.save(found, Path(folder) / f"{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()


def largest_difference(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((own[name] - other[name]).abs().max()) for name in own)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("one_thread")
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    run_together(work, str(tmp_path), logs=tmp_path / "logs")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(PROCESSES))
    for kind in LEARNERS:
        start = encoder_of(kind).state_dict()
        one = trained(kind, tmp_path / "one")
        assert largest_difference(one, start) > 1e-3, kind
        assert largest_difference(first[kind], second[kind]) == 0, kind
        assert largest_difference(first[kind], one) < 1e-5, kind
    # gradients that are not averaged would have been seen
    assert largest_difference(first["unaveraged"], second["unaveraged"]) > 1e-3
    assert largest_difference(first["unaveraged"], first["clipself"]) > 1e-3
