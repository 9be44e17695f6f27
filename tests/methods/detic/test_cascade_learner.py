"""What one step of a cascade's training minimises."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from regionclip.methods.detic.cascade_learner import CascadeLearner
from regionclip.methods.detic.cascade_model import CascadeDetic, move_boxes
from regionclip.methods.detic.cascade_training_config import (
    CascadeTraining,
    lvis_captions,
    lvis_tags,
)
from regionclip.methods.detic.learner import DeticBatch
from regionclip.structures import DetectionBatch, Proposals, Targets, TiledBatch, Tiles
from regionclip.training.image_labels import TagTeacher, TileRegions
from tests.cascade_files import TINY_CASCADE, tiny_cascade

TRAINING = CascadeTraining(
    captions=lvis_captions(),
    tags=lvis_tags(),
    train_masks=True,
    classes_per_step=3,
    regions_per_image=16,
)
ROWS = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
COUNTS = torch.tensor([4.0, 9.0, 1.0, 0.0])


@pytest.fixture(scope="module")
def model() -> CascadeDetic:
    return tiny_cascade()


def learner_of(model: CascadeDetic, config: CascadeTraining = TRAINING) -> CascadeLearner:
    return CascadeLearner(model, ROWS, config, images_per_class=COUNTS, tag_embeddings=ROWS)


def detection_batch() -> DetectionBatch:
    boxes = torch.tensor([[8.0, 8, 72, 60], [40, 20, 90, 88]])
    polygons = tuple((box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2),) for box in boxes)
    return DetectionBatch(
        images=(torch.rand(3, 96, 96), torch.rand(3, 64, 80)),
        targets=(
            Targets(boxes, torch.tensor([1, 2]), polygons),
            Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), ()),
        ),
        seeds=(1, 2),
    )


def tiled_batch() -> TiledBatch:
    tiles = Tiles(
        boxes=torch.tensor([[0.0, 0, 48, 48], [48, 0, 96, 48], [0, 48, 48, 96], [48, 48, 96, 96]]),
        side=2,
        image_ids=torch.arange(4),
        captions=("a cat", "a dog", "a car", "a tree"),
        tags=((0, 2), (1,), (), (3,)),
    )
    return TiledBatch(images=(torch.rand(3, 96, 96),), tiles=(tiles,), seeds=(3,))


def total_of(losses: dict[str, object]) -> Tensor:
    return torch.stack([own.mean() for own in losses.values()]).sum()  # type: ignore[attr-defined]


def test_all_that_learns_gets_a_gradient_and_nothing_else(model: CascadeDetic) -> None:
    torch.manual_seed(0)
    learner = learner_of(model)
    losses = learner(DeticBatch(detection_batch(), {"mosaics": tiled_batch()}))
    stages = [f"{name}_{stage}" for name in ("classes", "boxes") for stage in range(3)] + [
        f"{name}_{stage}_of_mosaics" for name in ("captions", "tags") for stage in range(3)
    ]
    assert set(losses) == {"centers", "others", "reach", "masks", *stages}
    total_of(losses).backward()
    for name, parameter in model.named_parameters():
        is_fixed = (
            name.startswith(("encoder.", "backbone.conv1", "backbone.layer1")) or ".bn" in name
        )
        is_fixed |= ".downsample.1." in name
        assert parameter.requires_grad == (not is_fixed), name
        assert (parameter.grad is not None) == parameter.requires_grad, name
        parameter.grad = None
    assert learner.captions is not None
    assert len(learner.captions.queue) == 4


def test_a_step_is_what_its_batch_says_and_needs_no_objects(model: CascadeDetic) -> None:
    torch.manual_seed(0)
    batch = detection_batch()
    learner = learner_of(model, CascadeTraining(classes_per_step=2, regions_per_image=8))
    with torch.no_grad():
        first, second = learner.box_losses(batch), learner.box_losses(batch)
        none = learner.box_losses(replace(batch, targets=(batch.targets[1],) * 2))
    for name, own in first.items():
        torch.testing.assert_close(own.mean(), second[name].mean())
    assert "masks" not in first
    assert float(first["boxes_0"].total) > 0
    assert float(none["boxes_0"].total) == float(none["reach"].total) == 0
    assert float(none["classes_2"].total) > 0


def test_classes_of_no_image_are_compared_with_only_where_they_occur(model: CascadeDetic) -> None:
    torch.manual_seed(0)
    batch = detection_batch()
    config = CascadeTraining(classes_per_step=4, regions_per_image=8)
    with torch.no_grad():
        before = learner_of(model, config).box_losses(batch)
        learner = learner_of(model, config)
        learner.class_embeddings[3].neg_()
        after = learner.box_losses(batch)
        learner.class_embeddings[0].neg_()
        other = learner.box_losses(batch)
    for stage in range(3):
        name = f"classes_{stage}"
        torch.testing.assert_close(before[name].mean(), after[name].mean())
        assert not torch.allclose(before[name].mean(), other[name].mean())


def test_what_does_not_go_together_is_refused(model: CascadeDetic) -> None:
    with pytest.raises(ValueError, match="expected at least one row of 12 numbers"):
        CascadeLearner(model, torch.zeros(2, 5), TRAINING, images_per_class=COUNTS[:2])
    with pytest.raises(ValueError, match="no class is given that they name"):
        CascadeLearner(model, ROWS, TRAINING, images_per_class=COUNTS)
    with pytest.raises(ValueError, match="train_masks needs a model with a mask head"):
        learner_of(tiny_cascade(replace(TINY_CASCADE, mask_head=False)))
    with pytest.raises(ValueError, match="match_ious must be three numbers"):
        CascadeTraining(match_ious=(0.5, 0.6))
    with pytest.raises(ValueError, match="classes_per_step must be at least 1"):
        CascadeTraining(classes_per_step=0)
    with pytest.raises(ValueError, match=r"of no use without learner\.tags"):
        CascadeTraining(tag_classes="lvis1203")
    with pytest.raises(ValueError, match="regions_per_image must be at least 1"):
        CascadeTraining(regions_per_image=0)
    with pytest.raises(ValueError, match="freeze_at must not be negative"):
        CascadeTraining(freeze_at=-1)


def test_pictures_cost_together_what_they_cost_alone(model: CascadeDetic) -> None:
    torch.manual_seed(0)
    whole = detection_batch()
    boxes = torch.tensor([[8.0, 4, 60, 50]])
    polygons = ((boxes[0, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2),),)
    whole = replace(whole, targets=(whole.targets[0], Targets(boxes, torch.tensor([2]), polygons)))
    alone = [
        replace(
            whole,
            images=whole.images[row : row + 1],
            targets=whole.targets[row : row + 1],
            seeds=whole.seeds[row : row + 1],
        )
        for row in range(2)
    ]
    # with as many classes as there are, all are compared with, whatever occurs
    learner = learner_of(model, replace(TRAINING, classes_per_step=4))
    with torch.no_grad():
        learner.class_weights.fill_(1.0)
        together, apart = learner.box_losses(whole), [learner.box_losses(own) for own in alone]
    for name, own in together.items():
        torch.testing.assert_close(own.total, sum(each[name].total for each in apart))
        torch.testing.assert_close(own.count, sum(each[name].count for each in apart))
    small = TiledBatch(
        images=(torch.rand(3, 64, 64),),
        tiles=(
            Tiles(torch.tensor([[0.0, 0, 64, 64]]), 1, torch.tensor([9]), ("a bird",), ((1,),)),
        ),
        seeds=(5,),
    )
    large = tiled_batch()
    both = TiledBatch(
        large.images + small.images, large.tiles + small.tiles, large.seeds + small.seeds
    )
    with torch.no_grad():
        tags = replace(TRAINING, captions=None)
        together = learner_of(model, tags).picture_losses(both)
        apart = [learner_of(model, tags).picture_losses(own) for own in (large, small)]
    for name, own in together.items():
        torch.testing.assert_close(own.total, sum(each[name].total for each in apart))


def test_each_stage_takes_tags_of_what_the_stage_before_looked_at_and_moved(
    model: CascadeDetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    seen: list[tuple[Sequence[Proposals], TileRegions]] = []
    of_teacher = TagTeacher.regions

    def recorded(self: TagTeacher, tiles: Any, proposals: Any, chances: Any) -> TileRegions:
        regions = of_teacher(self, tiles, proposals, chances)
        seen.append((proposals, regions))
        return regions

    monkeypatch.setattr(TagTeacher, "regions", recorded)
    batch = tiled_batch()
    with torch.no_grad():
        learner_of(model, replace(TRAINING, captions=None)).picture_losses(batch)
        pyramids = model.pyramids(batch.images)
        for stage, ((_, regions), (proposals, _)) in enumerate(pairwise(seen)):
            deltas = model.answer(stage, pyramids, regions.boxes).deltas
            [moved] = move_boxes(stage, regions.boxes, deltas, [(96, 96)])
            assert len(moved) == 6  # four tiles and two groups
            torch.testing.assert_close(proposals[0].boxes, moved)
    assert len(seen) == 3
    assert len(seen[0][0][0]) > 6
