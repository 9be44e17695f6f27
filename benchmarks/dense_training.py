"""One step of CLIPSelf and of CLIM against the same mathematics written plainly, ViT-B/16."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regionclip.encoders.vit import VIT_SPECS, ClipVit, ClipVitSpec
from regionclip.encoders.vit_blocks import blocks_of, embed_patches
from regionclip.losses import LossSum
from regionclip.methods.clim.learner import ClimLearner
from regionclip.methods.clim.training_config import ClimTraining
from regionclip.methods.clipself.learner import ClipSelfLearner
from regionclip.methods.clipself.training_config import ClipSelfTraining
from regionclip.structures import CaptionedBatch, CropBatch

from .dense import plain_block, plain_map
from .measure import Report, Timing, interleaved, peak_megabytes
from .stand_ins import fill, picture, random_boxes

REGIONS_PER_IMAGE = 20
"""CLIPSelf's; the cells of a grid or proposals."""
PLAIN, OURS, HALF = "plain fp32", "ours fp32", "ours bf16"
Step = Callable[[], dict[str, LossSum]]


class PlainVit(ClipVit):
    """The same tower, with its blocks written plainly."""

    def dense_features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Every block with its scores written down, the last one twice."""
        return plain_map(self, images)

    def encode_image(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Every token through every block; the class token's is kept."""
        tokens = embed_patches(self.visual, images)
        for block in blocks_of(self.visual):
            tokens = plain_block(block, tokens)
        return self.visual.ln_post(tokens[:, 0]) @ self.visual.proj


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What one way of computing a step gave and took."""

    loss: Tensor
    gradients: Tensor
    memory: float
    """Megabytes at most, above those before the step."""


@torch.inference_mode(False)
@torch.enable_grad()
def run(*, side: int, num_images: int, repeats: int, device: torch.device) -> Report:
    """CLIPSelf on images, and CLIM on one set of 32, forward and backward.

    Args:
        side: Pixels of CLIPSelf's images, and of CLIM's mosaics; a multiple of 16.
        num_images: Of CLIPSelf's step; recipes have 2 per process.
        repeats: Timed runs of each side.
        device: Where to run.
    """
    spec = VIT_SPECS["ViT-B-16"]
    rows, met = [], {}
    for method, number, steps in (
        ("CLIPSelf", num_images, clipself_steps(spec, side, num_images, device)),
        ("CLIM", ClimTraining().images_per_set, clim_steps(spec, side, device)),
    ):
        measured = {name: _measured(*step, device) for name, step in steps.items()}
        timings = interleaved(
            {name: partial(_backward, *step) for name, step in steps.items()},
            repeats=repeats,
            device=device,
            warm_up=0,  # the run for memory was one
        )
        rows += [_row(method, name, number, timings, measured) for name in steps]
        ratio = timings[PLAIN].seconds / timings[OURS].seconds
        difference = _relative(measured[OURS].gradients, measured[PLAIN].gradients)
        met[f"{method} faster than plain in fp32 with gradients within 1e-4"] = (
            ratio > 1 and difference < 1e-4
        )
    return Report(
        name="dense_training",
        title=f"A step of CLIPSelf ({num_images} images of {side}x{side} with "
        f"{REGIONS_PER_IMAGE} regions each) and of CLIM (32 images, mosaics of {side}x{side}), "
        "ViT-B/16",
        rows=rows,
        notes=[
            "plain: the last block run as trained and thrown away, then once more for its values; "
            "scores of attention written down; every token through the last block of whole "
            "images. Both sides with teacher or text tower, losses and gradients, without the "
            "optimiser and the reading of images",
            "off by: norm of the difference over the norm, of the loss and of all gradients",
            "memory: the highest above that before the step",
        ],
        targets=met,
    )


def clipself_steps(
    spec: ClipVitSpec, side: int, num_images: int, device: torch.device
) -> dict[str, tuple[nn.Module, Step]]:
    """Ways of computing CLIPSelf's losses, with the tower that learns; weights are shared."""
    boxes = tuple(
        random_boxes(REGIONS_PER_IMAGE, side, side, seed=seed) for seed in range(num_images)
    )
    whole = spec.image_size
    batch = CropBatch(
        images=torch.stack([picture(side, side, seed=seed) for seed in range(num_images)]),
        boxes=boxes,
        crops=torch.stack([picture(whole, whole, seed=seed) for seed in range(8)]).repeat(
            -(-REGIONS_PER_IMAGE * num_images // 8), 1, 1, 1
        )[: REGIONS_PER_IMAGE * num_images],
    )
    config = ClipSelfTraining(unlocked_groups=spec.layers)
    students, teachers = towers(spec, device, seed=0), towers(spec, device, seed=0)
    learners = {kind: ClipSelfLearner(students[kind], teachers[kind], config) for kind in students}
    return _ways(students, {kind: partial(own, batch) for kind, own in learners.items()}, device)


def clim_steps(
    spec: ClipVitSpec, side: int, device: torch.device
) -> dict[str, tuple[nn.Module, Step]]:
    """Ways of computing CLIM's loss, with the tower that learns; weights are shared."""
    config = ClimTraining(mosaic_pixels=side, unlocked_groups=min(6, spec.layers))
    count, whole = config.images_per_set, spec.image_size
    batch = CaptionedBatch(
        tuple(picture(whole, whole, seed=seed) for seed in range(count)),
        tuple(f"a photo of number {seed}" for seed in range(count)),
        tuple(range(count)),
        tuple(map(str, range(count))),
    )
    students = towers(spec, device, seed=0)
    learners = {kind: ClimLearner(each, config) for kind, each in students.items()}
    return _ways(students, {kind: partial(own, batch) for kind, own in learners.items()}, device)


def towers(spec: ClipVitSpec, device: torch.device, *, seed: int) -> dict[str, ClipVit]:
    """One tower's weights in two forms."""
    ours, plain = ClipVit(spec), PlainVit(spec)
    fill(ours, seed=seed).to(device)
    plain.clip = ours.clip
    return {PLAIN: plain.eval(), OURS: ours}


def _ways(
    students: dict[str, ClipVit], steps: dict[str, Step], device: torch.device
) -> dict[str, tuple[nn.Module, Step]]:
    def in_half_precision() -> dict[str, LossSum]:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return steps[OURS]()

    ways = steps | {HALF: in_half_precision}
    return {name: (students[OURS], step) for name, step in ways.items()}


def _backward(tower: nn.Module, step: Step) -> Tensor:
    """Leave gradients in the tower; the loss."""
    tower.zero_grad()
    loss = torch.stack([each.mean() for each in step().values()]).sum()
    loss.backward()
    return loss.detach().cpu()


def _measured(tower: nn.Module, step: Step, device: torch.device) -> Measured:
    losses: list[Tensor] = []
    before, peak = peak_megabytes(lambda: losses.append(_backward(tower, step)), device)
    gradients = [each.grad for each in tower.parameters() if each.grad is not None]
    return Measured(
        loss=losses[0],
        gradients=torch.cat([each.flatten().cpu() for each in gradients]),
        memory=peak - before,
    )


def _row(
    method: str,
    name: str,
    num_images: int,
    timings: dict[str, Timing],
    measured: dict[str, Measured],
) -> dict[str, str]:
    timing, own, plain = timings[name], measured[name], measured[PLAIN]
    return {
        "training step": f"{method}, {name}",
        "seconds": f"{timing.seconds:.2f}",
        "images per second": f"{num_images / timing.seconds:.3f}",
        "ratio": f"{timings[PLAIN].seconds / timing.seconds:.2f}",
        "loss off by": f"{_relative(own.loss, plain.loss):.1e}",
        "gradients off by": f"{_relative(own.gradients, plain.gradients):.1e}",
        "memory": f"{own.memory:.0f} MB",
        "cores busy": f"{timing.busy_cores:.2f}",
    }


def _relative(ours: Tensor, plain: Tensor) -> float:
    return float((ours.double() - plain.double()).norm() / plain.double().norm())
