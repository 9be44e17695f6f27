"""What the stages of a training run share: processes, batches, and when it is measured."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from regionclip.concepts.mentions import ClassMentions
from regionclip.data.augmentation import ObjectVariation, WholeImageVariation
from regionclip.data.caption_loading import caption_batches
from regionclip.data.captions import CaptionedImages
from regionclip.data.collages import Layout
from regionclip.data.crop_loading import CropPairing, crop_batches
from regionclip.data.datasets import Dataset
from regionclip.data.detection_loading import detection_batches
from regionclip.data.left_out import LeftOutCounts
from regionclip.data.sampling import Loading, mixed_seed
from regionclip.data.tile_loading import tiled_batches
from regionclip.evaluation.processes import Processes
from regionclip.evaluation.watching import Judge, Watch
from regionclip.proposals.proposer import Proposer
from regionclip.recipes.settings import Measuring, RunSettings
from regionclip.structures import CaptionedBatch, CropBatch, DetectionBatch, TiledBatch
from regionclip.training import Evaluation, Optimization, Stage, Trainer
from regionclip.training.trial import optimizer_bytes, try_stage

Varies = TypeVar("Varies")
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """What the stages of a run share."""

    trainer: Trainer
    settings: RunSettings

    @property
    def folder(self) -> Path:
        """Where weights go."""
        return self.trainer.folder

    @property
    def device(self) -> torch.device:
        """What this process computes on."""
        return self.trainer.accelerator.device

    @property
    def processes(self) -> Processes:
        """This process among those that train."""
        accelerator = self.trainer.accelerator
        return Processes(accelerator.process_index, accelerator.num_processes)

    def on_main(self, write: Callable[[], None]) -> None:
        """Let one process write what all have."""
        if self.processes.is_main:
            write()
        self.trainer.accelerator.wait_for_everyone()

    def watch(self, dataset: Dataset, measuring: Measuring) -> Watch:
        """What is measured, shared among the processes."""
        return Watch(dataset, self.processes, measuring.batch_size)

    def check_metric(self, dataset: Dataset | None, measuring: Measuring, judge: Judge) -> None:
        """Refuse a metric that measuring will not give, if there is something to measure on.

        Raises:
            ValueError: The data cannot give it.
        """
        if dataset is not None:
            self.watch(dataset, measuring).check_metric(measuring.metric, judge)

    def evaluation(
        self,
        dataset: Dataset | None,
        measuring: Measuring,
        figures: Callable[[Watch], Mapping[str, float]],
        keep_best: Callable[[], None],
    ) -> Evaluation | None:
        """How a stage is measured; ``None`` without something to measure on.

        Args:
            dataset: To measure on.
            measuring: How often, and by what the best weights are chosen.
            figures: Measures the weights as they are.
            keep_best: Saves them.
        """
        if dataset is None:
            return None
        watch = self.watch(dataset, measuring)
        return Evaluation(
            every=measuring.every,
            metric=measuring.metric,
            run=lambda: figures(watch),
            keep_best=keep_best,
        )

    def announce(self, stage: Stage, *, num_regions: int, more_images: int = 0) -> None:
        """Say what a stage will take, from its first batches, which are computed for that alone.

        Args:
            stage: About to run; nothing is said of one that goes on.
            num_regions: Most regions of an image.
            more_images: In each step, beside those that its plan counts.
        """
        plan = stage.optimization
        num_images = plan.batch_size + more_images
        if self.trainer.is_begun(stage):
            return
        trial = try_stage(stage, self.trainer.accelerator)
        images_per_second = num_images / max(trial.seconds, 1e-9)
        LOGGER.info(
            "%s: %d steps of %d images with up to %d regions each, in %d processes; %.2f s a step, "
            "%.1f images and up to %.0f regions per second, about %s in all; %.1f GB of memory per "
            "process so far, and %.1f GB for the optimizer",
            stage.name,
            plan.steps,
            num_images,
            num_regions,
            self.processes.count,
            trial.seconds,
            images_per_second,
            images_per_second * num_regions,
            _duration(plan.steps * trial.seconds),
            trial.peak_memory_mb / 1024,
            optimizer_bytes(stage.learner, plan) / 2**30,
        )

    def caption_batches(
        self,
        source: CaptionedImages,
        plan: Optimization,
        augmentation: WholeImageVariation,
        *,
        proposer: Proposer | None,
        left_out: LeftOutCounts,
        num_cut: Callable[[Sequence[str]], int] | None = None,
    ) -> Callable[[int], Iterable[CaptionedBatch]]:
        """This process's share of captioned images."""
        loading = self._loading(plan, augmentation)
        return caption_batches(
            source, loading, proposer=proposer, left_out=left_out, num_cut=num_cut
        )

    def tiled_batches(
        self,
        source: CaptionedImages,
        plan: Optimization,
        layout: Layout,
        *,
        stream: int,
        tags: ClassMentions | None,
        left_out: LeftOutCounts,
        num_cut: Callable[[Sequence[str]], int] | None = None,
    ) -> Callable[[int], Iterable[TiledBatch]]:
        """This process's share of pictures of captioned images.

        Args:
            source: The images.
            plan: Its batch is counted in pictures.
            layout: How images become pictures.
            stream: Streams of one run come in different orders.
            tags: Finds classes in captions.
            left_out: Counts what cannot be used.
            num_cut: How many of some captions are longer than what the text tower reads; they are
                counted.
        """
        loading = self._loading(plan, layout)
        loading = replace(loading, seed=mixed_seed(loading.seed, stream))
        return tiled_batches(source, loading, tags=tags, left_out=left_out, num_cut=num_cut)

    def train_and_tell(self, stage: Stage, left_out: LeftOutCounts) -> None:
        """Run a stage, and say what it came upon and could not use, also if it is interrupted.

        Raises:
            KeyboardInterrupt: As :meth:`Trainer.run`.
        """
        try:
            self.trainer.run(stage)
        except KeyboardInterrupt:
            self._say_what_was_left_out(left_out)
            raise
        self._say_what_was_left_out(left_out)

    def _say_what_was_left_out(self, counts: LeftOutCounts) -> None:
        """Log what all processes came upon and could not use, since the run began."""
        total = LeftOutCounts()
        total.restore(gather_object([counts.state()]))
        if str(total) and self.processes.is_main:
            LOGGER.warning("%s", total)

    def detection_batches(
        self,
        dataset: Dataset,
        plan: Optimization,
        augmentation: ObjectVariation,
        *,
        repeat_threshold: float = 0.0,
        with_polygons: bool = False,
    ) -> Callable[[int], Iterable[DetectionBatch]]:
        """This process's share of annotated images."""
        return detection_batches(
            dataset,
            self._loading(plan, augmentation),
            repeat_threshold=repeat_threshold,
            with_polygons=with_polygons,
        )

    def crop_batches(
        self,
        dataset: Dataset,
        plan: Optimization,
        pairing: CropPairing,
        *,
        proposer: Proposer | None,
    ) -> Callable[[int], Iterable[CropBatch]]:
        """This process's share of images with regions that are cut out."""
        return crop_batches(dataset, self._loading(plan, pairing), proposer=proposer)

    def _loading(self, plan: Optimization, augmentation: Varies) -> Loading[Varies]:
        processes = self.processes
        return Loading(
            augmentation=augmentation,
            batch_size=plan.batch_size,
            part_size=plan.part_size(processes.count),
            num_parts=plan.steps * plan.accumulate,
            process_index=processes.rank,
            num_processes=processes.count,
            seed=self.settings.seed,
            num_workers=self.settings.num_workers,
        )

    def icons(
        self, name: str, learner: nn.Module, batches: TorchDataset[Any], plan: Optimization
    ) -> None:
        """Train on generated batches, whole steps of which are drawn by each process."""
        learner.to(memory_format=torch.channels_last)
        processes = self.processes

        def from_step(first: int) -> Iterable[Any]:
            steps = range(first, plan.steps)
            return DataLoader(
                batches,
                sampler=[step * processes.count + processes.rank for step in steps],
                batch_size=None,
                num_workers=self.settings.num_workers,
                collate_fn=_as_it_is,
                # its own: a loader that drew from the global one would shift it
                generator=torch.Generator(),
            )

        self.trainer.run(Stage(name=name, learner=learner, batches=from_step, optimization=plan))


def _duration(seconds: float) -> str:
    """Such as ``3 h 20 min``."""
    minutes = max(round(seconds / 60), 1)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _as_it_is(batch: Any) -> Any:
    """Keep a batch's own type: torch turns a tuple into a list."""
    return batch
