"""A training step of transfer learning, from files in the original layout: what is sampled, every
loss, the gradients' norms, and which tensors train.

The file's ``gt_classes`` are those before every second object got the class that the model prefers
(README of the golden numbers); the classes that the original trained on are read from
``sampled_classes``, where the objects' own boxes come last of the regions on objects.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from regionclip.losses import LossSum
from regionclip.methods.regionclip.reading import read_model
from regionclip.methods.regionclip.transfer import RegionOutputs, TransferLearner
from regionclip.methods.regionclip.transfer_config import (
    COCO_TRANSFER,
    LVIS_TRANSFER,
    TransferConfig,
)
from regionclip.pairs import LabelledRegions
from regionclip.proposals.given import GivenBoxes
from regionclip.structures import DetectionBatch, Targets

from .golden import check, checkpoint, golden, inputs, pixels, seed

pytestmark = pytest.mark.slow
COCO = replace(COCO_TRANSFER, image_batching="padded")
LVIS = replace(LVIS_TRANSFER, image_batching="padded")
VARIANTS = {
    "coco_focal": COCO,
    "coco_nofocal_bgweight": replace(COCO, classification_loss="weighted", focal_gamma=None),
    "coco_nofocal_noweight": replace(
        COCO, classification_loss="weighted", focal_gamma=None, background_weight=1.0
    ),
    "coco_focal_noweight": replace(COCO, background_weight=1.0),
}
NUM_OBJECTS = 6
LOSSES = {"classes": "loss_cls", "boxes": "loss_box_reg", "masks": "loss_mask"}
NAMES = {
    "encoder.clip.visual.": "backbone.",
    "box_regressor.": "roi_heads.box_predictor.bbox_pred.",
    "mask_head.": "roi_heads.mask_head.",
}
"""Prefixes of our names, and of the original's."""
architectures = pytest.mark.parametrize("architecture", ["rn50", "rn50x4"])


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass."""

    learner: TransferLearner
    batch: DetectionBatch
    regions: list[LabelledRegions]
    outputs: RegionOutputs

    def losses(self) -> dict[str, LossSum]:
        return self.learner.losses(self.outputs, self.regions, self.batch.targets)


def class_rows(architecture: str, dataset: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of the training and of the test classes."""
    rows = golden(f"{architecture}_cls")["emb65"]
    if dataset == "coco":
        return torch.from_numpy(rows[inputs().BASE_ROWS]), torch.from_numpy(rows)
    all_rows = torch.from_numpy(inputs().lvis_embeddings(rows, seed()))
    return all_rows[:866], all_rows


def learner_of(architecture: str, dataset: str, config: TransferConfig) -> TransferLearner:
    """Built from a file such as training ends with, and proposals that are given."""
    train_rows, test_rows = class_rows(architecture, dataset)
    state = checkpoint(
        f"regionclip_finetuned-{dataset}_{architecture}",
        only=("backbone.", "roi_heads."),
        embeddings={
            "box_predictor.cls_score.weight": train_rows,
            "box_predictor.test_cls_score.weight": test_rows,
        },
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({"model": state}, path)
        model = read_model(path).model
    proposals = golden(f"{architecture}_train_ovd")["proposals"]
    proposer = GivenBoxes({f"image {row}": each for row, each in enumerate(proposals)})
    return TransferLearner(
        model, train_rows, proposer, config, permutation_of=lambda seed: torch.arange
    )


def batch_of(architecture: str) -> DetectionBatch:
    expected = golden(f"{architecture}_train_ovd")
    classes = expected["sampled_classes"]
    num_classes = len(inputs().BASE_ROWS)
    targets = []
    for row, boxes in enumerate(expected["gt_boxes"]):
        start = expected["sampled_per_image"][:row].sum()
        own = classes[start : start + expected["sampled_per_image"][row]]
        labels = own[own < num_classes][-NUM_OBJECTS:]
        # only every second object's class was changed
        np.testing.assert_array_equal(labels[1::2], expected["gt_classes"][row, 1::2])
        targets.append(
            Targets(
                torch.from_numpy(boxes),
                torch.from_numpy(labels),
                tuple((pentagon(box),) for box in boxes),
            )
        )
    images = (pixels(320, 480), pixels(352, 416, seed_offset=20))
    return DetectionBatch(images, tuple(targets), seeds=(0, 0))


def pentagon(box: np.ndarray) -> torch.Tensor:
    x0, y0, x1, y1 = box.tolist()
    return torch.tensor([(x0, y0), (x1, y0), (x1, y1), ((x0 + x1) / 2, (y0 + y1) / 2), (x0, y1)])


@cache
def coco_step(architecture: str) -> Step:
    learner, batch = learner_of(architecture, "coco", COCO), batch_of(architecture)
    regions = learner.pair(batch)
    return Step(learner, batch, regions, learner.outputs(batch.images, regions))


def check_losses(case: str, name: str, losses: dict[str, LossSum]) -> None:
    expected = golden(case)
    for key, loss in losses.items():
        array = f"{name}_{LOSSES[key]}"
        check(case, array, loss.mean().item(), expected[array])


def check_gradients(case: str, name: str, step: Step) -> None:
    """Norms after a backward pass of the sum of losses, and the list of what has a gradient."""
    expected, prefix = golden(case), f"{name}_gradnorm_"
    own = {original_name(key): each for key, each in step.learner.trainable_parameters().items()}
    compared = [array.removeprefix(prefix) for array in expected if array.startswith(prefix)]
    total = torch.stack([loss.mean() for loss in step.losses().values()]).sum()
    # those of other tensors take as long as the rest of the step, and nobody looks
    gradients = torch.autograd.grad(total, [own[key] for key in compared])
    for key, gradient in zip(compared, gradients, strict=True):
        check(case, prefix + key, gradient.norm().item(), expected[prefix + key], rtol=1e-3)
    array = f"{name}_trainable"
    names = [str(each) for each in expected[array]]
    assert set(own) == set(names)
    check(case, array, sorted(map(names.index, own)), range(len(names)), rtol=0.0)


def original_name(name: str) -> str:
    (prefix,) = [each for each in NAMES if name.startswith(each)]
    return NAMES[prefix] + name.removeprefix(prefix)


@architectures
def test_the_originals_regions_are_sampled(architecture: str) -> None:
    case, step = f"{architecture}_train_ovd", coco_step(architecture)
    expected = golden(case)
    counts = [len(own) for own in step.regions]
    objects = [
        each.boxes[own.target_index]
        for own, each in zip(step.regions, step.batch.targets, strict=True)
    ]
    labels = torch.cat([own.labels for own in step.regions])
    boxes = torch.cat([own.boxes for own in step.regions])
    check(case, "sampled_per_image", counts, expected["sampled_per_image"], rtol=0.0)
    check(case, "sampled_boxes", boxes, expected["sampled_boxes"], rtol=0.0)
    check(case, "sampled_classes", labels, expected["sampled_classes"], rtol=0.0)
    check(case, "sampled_gt_boxes", torch.cat(objects), expected["sampled_gt_boxes"], rtol=0.0)


@architectures
def test_logits_and_offsets_are_the_originals(architecture: str) -> None:
    case, step = f"{architecture}_train_ovd", coco_step(architecture)
    logits, deltas = step.outputs.logits.detach(), step.outputs.deltas.detach()
    check(case, "coco_logits", logits, golden(case)["coco_logits"])
    check(case, "coco_deltas", deltas, golden(case)["coco_deltas"])


@pytest.mark.parametrize("name", VARIANTS)
@architectures
def test_every_loss_is_the_originals(architecture: str, name: str) -> None:
    step = coco_step(architecture)
    step.learner.config = VARIANTS[name]
    losses = step.losses()
    step.learner.config = COCO
    check_losses(f"{architecture}_train_ovd", name, losses)


@architectures
def test_gradients_and_trained_tensors_are_the_originals(architecture: str) -> None:
    step = coco_step(architecture)
    check_gradients(f"{architecture}_train_ovd", "coco_focal", step)


def test_losses_gradients_and_masks_on_lvis_are_the_originals() -> None:
    case, learner, batch = "rn50_train_ovd", learner_of("rn50", "lvis", LVIS), batch_of("rn50")
    regions = learner.pair(batch)
    step = Step(learner, batch, regions, learner.outputs(batch.images, regions))
    check_losses(case, "lvis", step.losses())
    check_gradients(case, "lvis", step)
