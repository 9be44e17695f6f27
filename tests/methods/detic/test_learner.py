from random import Random

import pytest
import torch
from torch import Tensor, nn

from regionclip.losses import CaptionLossOptions, LossSum, TagLossOptions
from regionclip.methods.detic.learner import DeticBatch, DeticLearner
from regionclip.methods.detic.training_config import DeticTraining
from regionclip.pairs import tile_boxes
from regionclip.proposals.rpn import RpnSelection
from regionclip.structures import DetectionBatch, Targets, TiledBatch, Tiles
from regionclip.training.image_labels import compose_pictures
from tests.detic_files import tiny_detic

CLASSES = torch.eye(12)[:3]
TRAINING = DeticTraining(
    captions=CaptionLossOptions(),
    tags=TagLossOptions(),
    regions_per_image=16,
    proposals=RpnSelection(pre_nms_topk=60, post_nms_topk=20),
)


def boxes_of(*labels: int) -> DetectionBatch:
    """One image with as many objects."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 64, 80, generator=generator)
    corner = torch.arange(len(labels))[:, None] * 8.0 + torch.tensor([[4.0, 4.0]])
    boxes = torch.cat([corner, corner + 30], dim=1)
    return DetectionBatch((image,), (Targets(boxes, torch.tensor(labels).long()),), (7,))


def mosaic(*ids: int) -> TiledBatch:
    """One picture of four images."""
    tiles = Tiles(
        boxes=64 * tile_boxes(2),
        side=2,
        image_ids=torch.tensor(ids),
        captions=("a cat", "a dog", "a cup", "a bus"),
        tags=((0,), (1, 2), (), (2,)),
    )
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    return TiledBatch((image,), (tiles,), (3,))


@pytest.fixture
def learner() -> DeticLearner:
    return DeticLearner(tiny_detic(), CLASSES, TRAINING, tag_embeddings=CLASSES)


def total(losses: dict[str, LossSum]) -> Tensor:
    return torch.stack([each.mean() for each in losses.values()]).sum()


def test_all_but_texts_norms_and_the_first_stages_learns(learner: DeticLearner) -> None:
    losses = learner(DeticBatch(boxes_of(0, 2), {"mosaics": mosaic(1, 2, 3, 4)}))
    assert set(losses) == {
        *("objectness", "anchors", "classes", "boxes"),
        *("captions_of_mosaics", "tags_of_mosaics"),
    }
    total(losses).backward()
    norms = {
        id(parameter)
        for module in learner.modules()
        if isinstance(module, nn.BatchNorm2d)
        for parameter in module.parameters()
    }
    for name, parameter in learner.model.named_parameters():
        stays = name.startswith(("encoder.", "proposer.backbone.conv1", "proposer.backbone.layer1"))
        assert (parameter.grad is None) == (stays or id(parameter) in norms), name
    assert not any(module.training for module in learner.model.modules())


def test_an_image_without_objects_teaches_background(learner: DeticLearner) -> None:
    losses = learner.box_losses(boxes_of())
    assert losses["boxes"].mean().item() == 0
    assert losses["classes"].mean().item() > 0


def test_a_label_that_is_not_trained_is_refused(learner: DeticLearner) -> None:
    with pytest.raises(ValueError, match="has the label 3, but 3 classes are trained"):
        learner.box_losses(boxes_of(3))


def test_captions_wait_for_the_next_batch(learner: DeticLearner) -> None:
    assert learner.captions is not None
    first = learner.picture_losses(mosaic(1, 2, 3, 4))["captions"].total.item()
    assert learner.captions.queue.image_ids.tolist() == [1, 2, 3, 4]
    # the same captions once more, of other images: wrong ones
    second = learner.picture_losses(mosaic(5, 6, 7, 8))["captions"].total.item()
    assert second > first
    assert learner.captions.queue.image_ids.tolist() == [5, 6, 7, 8, 1, 2, 3, 4]


def test_regions_of_pictures_know_their_tiles_among_all() -> None:
    pictures = [mosaic(1, 2, 3, 4).tiles[0]] * 2
    regions = compose_pictures(
        pictures,
        [each.boxes for each in pictures],
        num_groups=1,
        chances=[Random(0), Random(1)],
    )
    assert regions.contains.shape == (10, 8)
    assert not regions.contains[:5, 4:].any()
    assert not regions.contains[5:, :4].any()
    assert regions.contains[4].sum() > 1


def test_what_cannot_be_learned_is_refused() -> None:
    model = tiny_detic()
    with pytest.raises(ValueError, match=r"class embeddings are \(0, 12\)"):
        DeticLearner(model, CLASSES[:0], DeticTraining())
    with pytest.raises(ValueError, match=r"class embeddings are \(3, 5\)"):
        DeticLearner(model, CLASSES[:, :5], DeticTraining())
    with pytest.raises(ValueError, match="no class is given that they name"):
        DeticLearner(model, CLASSES, TRAINING)
    with pytest.raises(ValueError, match="are of no use without"):
        DeticTraining(tag_classes="coco80")
    with pytest.raises(ValueError, match="freeze_at must not be negative"):
        DeticTraining(freeze_at=-1)
