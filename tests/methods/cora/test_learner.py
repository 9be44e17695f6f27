from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from regionclip.losses import LossSum
from regionclip.methods.cora.learner import CoraLearner
from regionclip.methods.cora.model import Cora
from regionclip.methods.cora.training_config import CoraTraining
from regionclip.structures import DetectionBatch, Targets
from tests import cora_files

# with dropout, no two steps are alike
TINY_CORA = replace(cora_files.TINY_CORA, dropout=0.0)
PLAIN = CoraTraining(split_share=0.0)
SPLIT = CoraTraining(split_share=1.0)
NUM_CLASSES = 4
NAMES = {
    f"{name}{ending}"
    for name in ("objectness", "boxes", "giou")
    for ending in ("", *(f"_{layer}" for layer in range(TINY_CORA.decoder_layers - 1)))
}


def tiny_cora() -> Cora:
    return cora_files.tiny_cora(TINY_CORA)


def embeddings(num_classes: int = NUM_CLASSES) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(num_classes, TINY_CORA.encoder.embed_dim, generator=generator)


def learner_of(config: CoraTraining = PLAIN) -> CoraLearner:
    return CoraLearner(tiny_cora(), embeddings(), config).train()


def image_of(seed: int, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def batch_of(*, num_images: int = 2, step: int = 0) -> DetectionBatch:
    """Images that each have two large objects of every class, so that some query finds them."""
    boxes = torch.tensor([[5.0, 5, 60, 60], [30, 10, 90, 50]]).repeat(NUM_CLASSES, 1)
    targets = Targets(boxes, torch.arange(NUM_CLASSES).repeat_interleave(2))
    images = tuple(image_of(seed) for seed in range(num_images))
    return DetectionBatch(images, (targets,) * num_images, tuple(range(num_images)), step)


def nothing(size: tuple[int, int] = (64, 96)) -> DetectionBatch:
    none = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    return DetectionBatch((image_of(9, *size),), (none,), (0,))


def total_of(losses: dict[str, LossSum]) -> torch.Tensor:
    return torch.stack([loss.mean() for loss in losses.values()]).sum()


def test_every_layer_has_its_losses_divided_by_the_last_layers_pairs() -> None:
    losses = learner_of()(batch_of())
    assert losses.keys() == NAMES
    counts = {loss.count.item() for loss in losses.values()}
    assert len(counts) == 1
    assert counts.pop() > 0


def test_weights_multiply_their_losses() -> None:
    learner = learner_of()
    plain = learner(batch_of())
    learner.config = replace(PLAIN, objectness_weight=6.0, box_weight=0.0, giou_weight=1.0)
    changed = learner(batch_of())
    for name, loss in plain.items():
        factor = {"objectness": 3.0, "boxes": 0.0, "giou": 0.5}[name.split("_")[0]]
        assert changed[name].total.item() == pytest.approx(factor * loss.total.item()), name


def test_all_that_is_trained_has_a_gradient_and_the_towers_have_none() -> None:
    for config in (PLAIN, SPLIT):
        learner = learner_of(config)
        total_of(learner(batch_of())).backward()
        for name, own in learner.named_parameters():
            is_frozen = name.startswith("model.encoder.")
            assert own.requires_grad != is_frozen, name
            assert (own.grad is None) == is_frozen, name
        assert not learner.class_embeddings.requires_grad


@pytest.mark.parametrize("change", [{"decoder_layers": 1}, {"query_content": "none"}])
def test_other_shapes_are_trained_whole(change: dict[str, Any]) -> None:
    model = cora_files.tiny_cora(replace(TINY_CORA, **change))
    learner = CoraLearner(model, embeddings(), PLAIN).train()
    total_of(learner(batch_of())).backward()
    trained = dict(learner.named_parameters())
    assert any(own.requires_grad for own in trained.values())
    for name, own in trained.items():
        assert (own.grad is None) != own.requires_grad, name


def test_an_image_without_objects_teaches_objectness_alone() -> None:
    learner = learner_of()
    losses = learner(nothing())
    total_of(losses).backward()
    for name, loss in losses.items():
        assert loss.count.item() == 0
        assert (loss.total.item() > 0) == name.startswith("objectness")
    for name, own in learner.named_parameters():
        assert (own.grad is None) != own.requires_grad, name


def test_images_of_one_size_teach_the_same_alone_and_together() -> None:
    learner = learner_of()
    both = batch_of()
    parts = [
        learner(DetectionBatch((image,), (own,), (0,)))
        for image, own in zip(both.images, both.targets, strict=True)
    ]
    for name, loss in learner(both).items():
        added = parts[0][name] + parts[1][name]
        assert loss.total.item() == pytest.approx(added.total.item(), rel=1e-4), name
        assert loss.count.item() == added.count.item()


def test_anchors_look_for_the_class_that_is_most_alike() -> None:
    learner = learner_of()
    maps = learner.model.maps(batch_of().images)
    features = F.normalize(learner.model.anchor_features(maps), dim=-1)
    expected = (features @ F.normalize(embeddings(), dim=1).T).argmax(dim=-1)
    assert torch.equal(learner.anchor_classes(maps, 0), expected)


def test_a_step_whose_classes_are_split_sees_every_image_twice() -> None:
    learner = CoraLearner(
        tiny_cora(),
        embeddings(),
        SPLIT,
        numbers_of=lambda step, count: torch.tensor([0.9, 0.1, 0.9, 0.1]),
    )
    maps = learner.model.maps(batch_of().images)
    classes = learner.anchor_classes(maps, 0)
    assert classes.shape == (4, TINY_CORA.num_queries)
    features = F.normalize(learner.model.anchor_features(maps), dim=-1)
    similarity = features @ F.normalize(embeddings(), dim=1).T
    first, second = similarity.clone(), similarity.clone()
    # a class that is hidden is as near as a right angle
    first[..., [0, 2]] = 0
    second[..., [1, 3]] = 0
    assert torch.equal(classes, torch.cat([first, second]).argmax(dim=-1))
    learner.config = replace(SPLIT, split_share=0.2)
    assert len(learner.anchor_classes(maps, 0)) == 2
    assert len(learner.anchor_classes(maps, 1)) == 4  # the first step that Random splits


def test_a_split_step_counts_pairs_of_both_halves() -> None:
    batch = batch_of()
    plain, split = learner_of()(batch), learner_of(SPLIT)(batch)
    assert split.keys() == plain.keys()
    assert split["boxes"].count.item() > 0
    split["boxes"].total.backward()


def test_the_localizer_learns_where_an_object_is() -> None:
    learner = learner_of()
    boxes = torch.tensor([[20.0, 12, 68, 52]])
    batch = DetectionBatch((image_of(0),), (Targets(boxes, torch.tensor([1])),), (0,))
    # an anchor has to look for the class, or nothing can be learned
    learner.anchor_classes = lambda maps, step: torch.ones(  # type: ignore[method-assign]
        1, TINY_CORA.num_queries, dtype=torch.int64
    )
    trained = [own for own in learner.parameters() if own.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = total_of(learner(batch))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("label", [-1, NUM_CLASSES])
def test_an_object_of_a_class_that_is_not_trained_is_refused(label: int) -> None:
    targets = Targets(torch.tensor([[5.0, 5, 60, 60]]), torch.tensor([label]))
    batch = DetectionBatch((image_of(0),), (targets,), (0,))
    with pytest.raises(ValueError, match=f"label {label}, but 4 classes are trained"):
        learner_of()(batch)


@pytest.mark.parametrize("shape", [(0, 12), (3, 13)])
def test_embeddings_that_do_not_fit_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected at least one row of 12 numbers"):
        CoraLearner(tiny_cora(), torch.zeros(shape), PLAIN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split_share": 1.2}, r"split_share must be in \[0, 1\], got 1.2"),
        ({"split_period": 0}, "split_period must be at least 1, got 0"),
        ({"giou_weight": -1.0}, "giou_weight must not be negative, got -1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoraTraining(**change)


def test_the_box_heads_alone_may_be_averaged_twice() -> None:
    assert CoraTraining().averaged_twice == ()
    [prefix] = CoraTraining(box_heads_averaged="twice").averaged_twice
    names = [name for name, _ in learner_of().named_parameters() if name.startswith(prefix)]
    # three layers of weight and bias in each head
    assert len(names) == 6 * TINY_CORA.decoder_layers
