from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from regionclip.losses import LossSum
from regionclip.losses.loss_sum import summed
from regionclip.methods.regionclip.model import RegionClip, add_detection_heads
from regionclip.methods.regionclip.reading import ReadModel, read_model, save_model
from regionclip.methods.regionclip.transfer import TransferLearner
from regionclip.methods.regionclip.transfer_config import (
    COCO_TRANSFER,
    LVIS_TRANSFER,
    TransferConfig,
)
from regionclip.structures import DetectionBatch, PreparedImage, Proposals, Targets
from tests.tiny import TINY_CONFIG, tiny_model

NUM_CLASSES, WIDTH = 5, TINY_CONFIG.encoder.embed_dim
COCO = replace(COCO_TRANSFER, regions_per_image=16)
LVIS = replace(LVIS_TRANSFER, regions_per_image=16)
NO_TARGETS = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


@dataclass
class FixedProposals:
    """The same boxes for every image, cut to it."""

    boxes: torch.Tensor = field(default_factory=lambda: random_boxes(30, 64, 64, seed=9))

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        return [Proposals(self.boxes.clone()) for _ in images]


def random_boxes(count: int, height: int, width: int, *, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 0.6
    sides = torch.rand(count, 2, generator=generator) * 0.3 + 0.1
    scale = torch.tensor([width, height, width, height])
    return torch.cat([corners, corners + sides], dim=1) * scale


def rows(count: int = NUM_CLASSES, width: int = WIDTH) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(5))


def targets_of(height: int, width: int, *, count: int = 3, seed: int = 0) -> Targets:
    boxes = random_boxes(count, height, width, seed=seed)
    labels = (torch.arange(count) + seed) % NUM_CLASSES
    return Targets(boxes, labels, tuple((outline(box),) for box in boxes))


def outline(box: torch.Tensor) -> torch.Tensor:
    x0, y0, x1, y1 = box.tolist()
    return torch.tensor([[x0, y0], [x1, y0], [x1, y1]])


def batch_of(*sizes_hw: tuple[int, int]) -> DetectionBatch:
    generator = torch.Generator().manual_seed(1)
    return DetectionBatch(
        images=tuple(torch.rand(3, *size_hw, generator=generator) for size_hw in sizes_hw),
        targets=tuple(targets_of(*size_hw, seed=row) for row, size_hw in enumerate(sizes_hw)),
        seeds=tuple(range(len(sizes_hw))),
    )


def part(batch: DetectionBatch, row: int) -> DetectionBatch:
    return DetectionBatch(
        images=batch.images[row : row + 1],
        targets=batch.targets[row : row + 1],
        seeds=batch.seeds[row : row + 1],
    )


def learner_of(config: TransferConfig = LVIS, model: RegionClip | None = None) -> TransferLearner:
    torch.manual_seed(2)
    return TransferLearner(model or tiny_model(), rows(), FixedProposals(), config)


def total(losses: dict[str, LossSum]) -> torch.Tensor:
    return torch.stack([loss.mean() for loss in losses.values()]).sum()


SIZES = ((64, 96), (96, 64))


def test_repeating_a_batch_lowers_its_losses() -> None:
    learner, batch = learner_of(), batch_of(*SIZES)
    optimizer = torch.optim.Adam(learner.trainable_parameters().values(), lr=1e-3)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        losses = learner(batch)
        total(losses).backward()
        optimizer.step()
        values.append({name: loss.mean().item() for name, loss in losses.items()})
    assert values[0].keys() == {"classes", "boxes", "masks"}
    # offsets of two random images have no rule to learn
    assert values[-1]["classes"] < 0.1 * values[0]["classes"]
    assert values[-1]["masks"] < 0.9 * values[0]["masks"]


def test_a_step_moves_what_is_trained_and_nothing_else() -> None:
    model = tiny_model()
    learner = TransferLearner(model, rows(), model.proposer or FixedProposals(), LVIS)
    learner.train()
    names = set(learner.trainable_parameters())
    before = {name: each.clone() for name, each in model.state_dict().items()}
    # without a filter: what must not move is kept from moving by having no gradient
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    for step in range(2):
        total(learner(batch_of(*SIZES))).backward()
        optimizer.step()
        assert step or all(
            each.grad is not None for each in learner.trainable_parameters().values()
        )
    after = model.state_dict()
    changed = {name for name, each in after.items() if not torch.equal(each, before[name])}
    cancelled = {"encoder.clip.visual.attnpool.k_proj.bias"}
    assert changed == names - cancelled
    assert {name.split(".")[0] for name in changed} == {"encoder", "box_regressor", "mask_head"}


@pytest.mark.parametrize(
    ("freeze_at", "trained"),
    [
        (0, {"conv1", "conv2", "conv3", "layer1", "layer2", "layer3", "layer4", "attnpool"}),
        (1, {"layer1", "layer2", "layer3", "layer4", "attnpool"}),
        (2, {"layer2", "layer3", "layer4", "attnpool"}),
        (5, {"attnpool"}),
    ],
)
def test_stages_are_frozen_from_the_first_on(freeze_at: int, trained: set[str]) -> None:
    learner = learner_of(replace(COCO, freeze_at=freeze_at))
    names = [name.split(".") for name in learner.trainable_parameters()]
    assert {name[3] for name in names if name[0] == "encoder"} == trained
    assert {name[0] for name in names} == {"encoder", "box_regressor"}
    total(learner(batch_of(SIZES[0]))).backward()
    assert all(each.grad is not None for each in learner.trainable_parameters().values())


def test_no_norm_and_no_word_is_trained() -> None:
    learner = learner_of(replace(COCO, freeze_at=0))
    visual = learner.encoder.visual
    norms = [each for each in visual.modules() if isinstance(each, nn.BatchNorm2d)]
    own = {id(each) for each in learner.trainable_parameters().values()}
    assert norms
    assert not any(id(each) in own for norm in norms for each in norm.parameters())
    assert not any(
        "visual" not in name for name in learner.trainable_parameters() if "clip" in name
    )


def test_every_part_stays_in_eval_mode() -> None:
    learner = learner_of().train()
    assert learner.training
    assert not any(module.training for module in learner.children())
    assert not learner.eval().training


def test_class_embeddings_are_trained_only_if_that_is_asked_for() -> None:
    frozen, trained = learner_of(COCO), learner_of(replace(COCO, class_embeddings="trained"))
    assert "train_embeddings" not in frozen.trainable_parameters()
    assert "train_embeddings" in trained.trainable_parameters()
    total(trained(batch_of(SIZES[0]))).backward()
    gradient = trained.get_parameter("train_embeddings").grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("config", [COCO, LVIS], ids=["coco", "lvis"])
@pytest.mark.parametrize(
    ("proposals", "targets"),
    [(30, 0), (0, 2), (0, 0)],
    ids=["no objects", "no proposals", "no regions"],
)
def test_empty_images_give_finite_losses_that_reach_every_weight(
    config: TransferConfig, proposals: int, targets: int
) -> None:
    proposer = FixedProposals(random_boxes(proposals, 64, 64, seed=9))
    learner = TransferLearner(tiny_model(), rows(), proposer, config)
    own = targets_of(64, 96, count=targets) if targets else NO_TARGETS
    batch = DetectionBatch((torch.rand(3, 64, 96),), (own,), (0,))
    losses = learner(batch)
    value = total(losses)
    value.backward()
    assert value.isfinite()
    assert losses["boxes"].count.item() == min(proposals + targets, 16)
    assert all(each.grad is not None for each in learner.trainable_parameters().values())
    if proposals + targets == 0:
        assert value.item() == 0.0


def test_halves_of_a_batch_add_up_to_the_whole() -> None:
    batch = batch_of(*SIZES, SIZES[0])
    whole, parts = learner_of(), learner_of()
    losses = whole(batch)
    apart = [parts(part(batch, row)) for row in range(3)]
    for name, loss in losses.items():
        joined = summed([each[name] for each in apart])
        torch.testing.assert_close(joined.total, loss.total, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(joined.count, loss.count)
    total(losses).backward()
    for each in apart:
        # what every process does: its own totals over the counts of all
        torch.stack([each[name].total / losses[name].count for name in losses]).sum().backward()
    for name, own in whole.trainable_parameters().items():
        other = parts.trainable_parameters()[name]
        torch.testing.assert_close(other.grad, own.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_padding_to_the_largest_image_shows_near_borders() -> None:
    batch = batch_of(*SIZES)
    apart, padded = learner_of(), learner_of(replace(LVIS, image_batching="padded"))
    one, other = total(apart(batch)).item(), total(padded(batch)).item()
    assert one == pytest.approx(other, rel=0.2)
    assert one != pytest.approx(other, rel=1e-5)
    same = batch_of(SIZES[0], SIZES[0])
    assert total(apart(same)).item() == pytest.approx(total(padded(same)).item(), rel=1e-5)


def test_computing_regions_twice_in_chunks_changes_nothing() -> None:
    batch = batch_of(*SIZES)
    plain, frugal = learner_of(), learner_of(replace(LVIS, activation_budget=1))  # a region each
    for learner in (plain, frugal):
        total(learner(batch)).backward()
    for name, own in plain.trainable_parameters().items():
        other = frugal.trainable_parameters()[name]
        torch.testing.assert_close(other.grad, own.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_regions_depend_on_the_images_seed_alone() -> None:
    learner, batch = learner_of(), batch_of(*SIZES)
    first = learner.pair(batch)
    torch.rand(5)
    (alone,) = learner.pair(part(batch, 1))
    assert torch.equal(first[1].boxes, alone.boxes)
    other = learner.pair(replace(batch, seeds=(7, 8)))
    assert not torch.equal(first[1].boxes, other[1].boxes)


def test_half_precision_stays_close() -> None:
    learner, batch = learner_of(), batch_of(*SIZES)
    exact = learner(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = learner(batch)
    for name, loss in rough.items():
        assert loss.total.dtype == torch.float32
        assert loss.mean().item() == pytest.approx(exact[name].mean().item(), rel=0.05)
    total(rough).backward()
    assert all(each.grad is not None for each in learner.trainable_parameters().values())


def test_classes_beyond_the_training_classes_cannot_be_reached() -> None:
    learner = learner_of()
    targets = replace(targets_of(64, 96), labels=torch.tensor([0, NUM_CLASSES, 1]))
    batch = DetectionBatch((torch.rand(3, 64, 96),), (targets,), (0,))
    with pytest.raises(ValueError, match="has the label 5, but 5 classes are trained"):
        learner(batch)


def test_test_classes_play_no_part() -> None:
    config = replace(TINY_CONFIG, num_test_classes=9, class_names="coco65")
    values = []
    for scale in (1.0, 100.0):
        model = tiny_model(config)
        model.get_parameter("test_embeddings").data.mul_(scale)
        values.append(total(learner_of(COCO, model)(batch_of(SIZES[0]))).item())
    assert values[0] == values[1]


def test_masks_need_polygons() -> None:
    targets = replace(targets_of(64, 96), polygons=None)
    batch = DetectionBatch((torch.rand(3, 64, 96),), (targets,), (0,))
    with pytest.raises(ValueError, match="has no polygon, but masks are trained"):
        learner_of()(batch)
    assert set(learner_of(COCO)(batch)) == {"classes", "boxes"}


def test_embeddings_of_another_width_are_refused() -> None:
    with pytest.raises(
        ValueError, match="are 7 numbers wide, regions of tiny 12; encode the names"
    ):
        TransferLearner(tiny_model(), rows(width=7), FixedProposals(), COCO)


def test_a_tuned_model_is_saved_and_read_with_its_new_parts(tmp_path: Path) -> None:
    model = tiny_model()
    learner_of(LVIS, model)
    path = tmp_path / "tuned.safetensors"
    save_model(path, ReadModel(model, has_text_tower=True, reports=()))
    read = read_model(path).model
    assert read.config == model.config
    assert read.config.num_train_classes == NUM_CLASSES
    assert read.mask_head is not None
    assert torch.equal(read.get_parameter("train_embeddings"), rows())


def test_new_heads_start_near_nothing_and_old_ones_stay() -> None:
    model = tiny_model()
    add_detection_heads(model, rows(), with_masks=True)
    assert model.box_regressor is not None
    assert model.box_regressor.weight.abs().max() < 0.01
    assert model.box_regressor.bias.abs().max() == 0
    kept = model.box_regressor.weight.clone()
    add_detection_heads(model, rows(3), with_masks=False)
    assert torch.equal(model.box_regressor.weight, kept)
    assert model.config.mask_head
    assert model.config.num_train_classes == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"focal_gamma": 0.5}, "focal_gamma belongs to .* got focal_gamma 0.5 with 'weighted'"),
        ({"classification_loss": "focal_scaled"}, "got focal_gamma None with 'focal_scaled'"),
        ({"foreground_share": 0.0}, r"foreground_share must be in \(0, 1\], got 0.0"),
        ({"match_iou": 1.5}, r"match_iou must be in \(0, 1\], got 1.5"),
        ({"background_weight": -0.1}, "background_weight must not be negative, got -0.1"),
        ({"regions_per_image": 0}, "regions_per_image must be at least 1, got 0"),
        ({"activation_budget": 0}, "activation_budget must be at least 1, got 0"),
        ({"freeze_at": 6}, "freeze_at must be from 0 to 5 .* got 6"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransferConfig(**settings)  # type: ignore[arg-type]
