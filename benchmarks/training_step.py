"""One step of transfer learning against the same mathematics written plainly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torchvision.ops import roi_align

from regionclip.encoders.clip_resnet import SPECS
from regionclip.losses import LossSum
from regionclip.methods.regionclip.config import RegionClipConfig
from regionclip.methods.regionclip.model import RegionClip, build
from regionclip.methods.regionclip.transfer import RegionOutputs, TransferLearner
from regionclip.methods.regionclip.transfer_config import (
    LVIS_TRANSFER,
    TransferConfig,
)
from regionclip.pairs import LabelledRegions
from regionclip.recipes.settings import RunSettings
from regionclip.regions.region_head import STRIDE
from regionclip.scoring.cosine import class_logits
from regionclip.structures import DetectionBatch, PreparedImage, Proposals, Targets

from .data_loading import PHOTOGRAPH_HW, LoadingOptions, time_loading
from .measure import Report, Timing, interleaved, peak_megabytes
from .stand_ins import IMAGE_HW, fill, picture, random_boxes

NUM_CLASSES, NUM_OBJECTS = 866, 8
BUDGET = 1 << 28
"""Bytes of activations in the run that computes regions twice."""
NUM_WORKERS = RunSettings().num_workers
"""Processes that read images ahead, as recipes have it."""
PLAIN, OURS, HALF, TWICE = "plain fp32", "ours fp32", "ours bf16", "ours fp32, regions twice"
READERS = {0: "in one process", NUM_WORKERS: f"by {NUM_WORKERS} processes that read ahead"}


class GivenRegions:
    """Proposals that cost nothing: the localiser is frozen, and the same on both sides."""

    def __init__(self, boxes: Tensor) -> None:
        self.boxes = boxes

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """The same boxes for every image."""
        return [Proposals(self.boxes) for _ in images]


class PlainLearner(TransferLearner):
    """ROIAlign by torchvision, all of layer4 on each region, attention among all tokens."""

    def outputs(
        self, images: Sequence[Tensor], regions: Sequence[LabelledRegions]
    ) -> RegionOutputs:
        """What the model says, by its own modules."""
        visual = self.encoder.visual
        prepared = self.encoder.prepare(images).contiguous(memory_format=torch.channels_last)
        bins = roi_align(
            self.encoder.feature_map(prepared),
            [own.boxes for own in regions],
            self.encoder.spec.roi_grid,
            1 / STRIDE,
            aligned=True,
        )
        cells = visual.layer4(bins.contiguous(memory_format=torch.channels_last))
        vectors = visual.attnpool(cells)
        logits = class_logits(
            vectors,
            self.get_parameter("train_embeddings"),
            temperature=self.temperature,
            background_embedding=vectors.new_zeros(vectors.shape[1]),
        )
        (own,) = regions
        masks = self.get_submodule("mask_head")(cells[: own.num_foreground])[:, 0]
        return RegionOutputs(logits, self.get_submodule("box_regressor")(vectors), masks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What one way of computing a step gave and took."""

    losses: Tensor
    gradients: Tensor
    memory: float
    """Megabytes at most, above those before the step."""
    peak: float
    """Megabytes at most, in all."""


@torch.inference_mode(False)
@torch.enable_grad()
def run(*, num_regions: int, num_loaded: int, repeats: int, device: torch.device) -> Report:
    """RN50 on LVIS's classes with masks, one 800x1199 image, forward and backward; and loading."""
    config, batch, model = _config(num_regions), _batch(), _model(device)
    twice = replace(config, activation_budget=BUDGET)
    plain = _learner(PlainLearner, model, config)
    ours, frugal = (_learner(TransferLearner, model, each) for each in (config, twice))
    functions = {
        PLAIN: partial(_step, plain, batch),
        OURS: partial(_step, ours, batch),
        HALF: partial(_half_precision_step, ours, batch),
        TWICE: partial(_step, frugal, batch),
    }
    steps = {name: _measured(function, ours, device) for name, function in functions.items()}
    timings = interleaved(functions, repeats=repeats, device=device)
    loading = _loading(num_loaded, repeats)
    ratio = timings[PLAIN].seconds / timings[OURS].seconds
    difference = _relative(steps[OURS].gradients, steps[PLAIN].gradients)
    return Report(
        name="training_step",
        title=f"Forward and backward pass of {num_regions} regions of an 800x1199 image, RN50",
        rows=[_row(name, timings, steps, loading[NUM_WORKERS]) for name in functions],
        notes=[
            "plain: torchvision's ROIAlign, all of layer4 on each region, attention of all tokens, "
            "batch norms as modules; both sides with masks, losses and frozen stem and layer1, "
            "without the frozen localiser and the optimiser",
            "off by: norm of the difference over the norm, of all losses and of all gradients",
            "memory: the highest above that before the step; peak: the highest in all, on a CPU of "
            "the whole process; regions twice: activations of at most "
            f"{BUDGET >> 20} MB of regions at a time are kept, computed again going backward",
            "loading alone: "
            + ", ".join(
                f"{1 / timing.seconds:.1f} images per second {READERS[num_workers]}"
                for num_workers, timing in loading.items()
            )
            + f"; JPEGs of {PHOTOGRAPH_HW[1]}x{PHOTOGRAPH_HW[0]} with {NUM_OBJECTS} outlined "
            "objects, resized and mirrored as recipes do, from the system's file cache",
            "loading/step: seconds per image of loading alone, by the processes that recipes have, "
            "over seconds of the step; below 100% no step waits for images, as long as readers "
            "have cores of their own",
        ],
        targets={
            "at least 1.8x in fp32 with gradients within 1e-4": ratio >= 1.8 and difference < 1e-4,
        },
    )


def _loading(num_loaded: int, repeats: int) -> dict[int, Timing]:
    """Seconds per image of loading alone, by the number of processes that read ahead."""
    options = LoadingOptions(num_images=num_loaded, num_objects=NUM_OBJECTS)
    timings = {}
    for num_workers in READERS:
        with TemporaryDirectory() as folder:
            timings[num_workers] = time_loading(
                Path(folder), options, num_workers=num_workers, repeats=repeats
            )
    return timings


def _row(
    name: str, timings: Mapping[str, Timing], steps: Mapping[str, Step], loading: Timing
) -> dict[str, str]:
    timing, step, plain = timings[name], steps[name], steps[PLAIN]
    return {
        "training step": name,
        "seconds": f"{timing.seconds:.2f}",
        "images per second": f"{1 / timing.seconds:.3f}",
        "ratio": f"{timings[PLAIN].seconds / timing.seconds:.2f}",
        "losses off by": f"{_relative(step.losses, plain.losses):.1e}",
        "gradients off by": f"{_relative(step.gradients, plain.gradients):.1e}",
        "memory": f"{step.memory:.0f} MB",
        "peak": f"{step.peak:.0f} MB",
        "loading/step": f"{loading.seconds / timing.seconds:.1%}",
        "cores busy": f"{timing.busy_cores:.2f}",
        "core seconds": f"{timing.seconds * timing.busy_cores:.1f}",
    }


def _measured(
    function: Callable[[], Tensor], learner: TransferLearner, device: torch.device
) -> Step:
    """A step from nothing; all ways share the model that ``learner`` has."""
    learner.zero_grad()
    results = []
    before, peak = peak_megabytes(lambda: results.append(function()), device)
    return Step(losses=results[0], gradients=_gradients(learner), memory=peak - before, peak=peak)


def _batch() -> DetectionBatch:
    boxes = random_boxes(NUM_OBJECTS, *IMAGE_HW, seed=4)
    corners = [[0, 1], [2, 1], [2, 3], [0, 3]]
    outlines = tuple((box[torch.tensor(corners)],) for box in boxes)
    labels = torch.arange(NUM_OBJECTS) * 100
    return DetectionBatch(
        images=(picture(*IMAGE_HW, seed=0),),
        targets=(Targets(boxes, labels, outlines),),
        seeds=(0,),
    )


def _config(num_regions: int) -> TransferConfig:
    return replace(LVIS_TRANSFER, regions_per_image=num_regions)


def _model(device: torch.device) -> RegionClip:
    """Seeded weights, which all sides share."""
    model = build(RegionClipConfig(encoder=SPECS["RN50"], box_regression=True, mask_head=True))
    fill(model, seed=0)
    return model.to(device).to(memory_format=torch.channels_last)


def _learner(
    kind: type[TransferLearner], model: RegionClip, config: TransferConfig
) -> TransferLearner:
    """Proposals are boxes around objects, and anywhere."""
    generator = torch.Generator().manual_seed(5)
    objects = random_boxes(NUM_OBJECTS, *IMAGE_HW, seed=4).repeat(12, 1)
    near = objects + 4 * torch.randn(objects.shape, generator=generator)
    boxes = torch.cat([near.clamp(min=0), random_boxes(1000, *IMAGE_HW, seed=2)])
    rows = torch.randn(NUM_CLASSES, model.config.encoder.embed_dim, generator=generator)
    return kind(model, rows, GivenRegions(boxes), config)


def _step(learner: TransferLearner, batch: DetectionBatch) -> Tensor:
    """Leave gradients in the model; the losses."""
    learner.zero_grad()
    return _backward(learner(batch))


def _half_precision_step(learner: TransferLearner, batch: DetectionBatch) -> Tensor:
    learner.zero_grad()
    with torch.autocast(learner.encoder.device.type, dtype=torch.bfloat16):
        losses = learner(batch)
    return _backward(losses)


def _backward(losses: dict[str, LossSum]) -> Tensor:
    means = torch.stack([loss.mean() for loss in losses.values()])
    means.sum().backward()
    return means.detach().cpu()


def _gradients(learner: TransferLearner) -> Tensor:
    own = learner.trainable_parameters().values()
    return torch.cat([each.grad.flatten().cpu() for each in own if each.grad is not None])


def _relative(ours: Tensor, plain: Tensor) -> float:
    return float((ours.double() - plain.double()).norm() / plain.double().norm())
