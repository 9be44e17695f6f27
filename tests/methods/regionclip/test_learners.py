import pytest
import torch

from regionclip.data import icons
from regionclip.data.icons.batches import BoxBatch
from regionclip.flows.icons import caption_batches, region_batches
from regionclip.methods.regionclip.learners import (
    CaptionLearner,
    RegionLearner,
    base_embeddings,
    sample_regions,
)
from regionclip.methods.regionclip.model import RegionClip
from tests.tiny_recipe import RECIPE, REGIONS, TINY, weights_of


def test_repeating_a_batch_lowers_its_loss() -> None:
    torch.manual_seed(0)
    learner = CaptionLearner(RegionClip(TINY).encoder).train()
    batch = caption_batches(RECIPE)[0]
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-3, weight_decay=0.0)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = learner(batch)["captions"].mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_regions_stage_moves_only_weights_of_the_image_tower() -> None:
    model = RegionClip(TINY)
    learner = RegionLearner(CaptionLearner(model.encoder), TINY, background_weight=0.5).train()
    before = weights_of(learner)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-2, weight_decay=0.0)
    losses = learner(region_batches(RECIPE, REGIONS)[0])
    assert set(losses) == {"captions", "regions"}
    torch.stack([loss.mean() for loss in losses.values()]).sum().backward()
    optimizer.step()
    after = weights_of(learner)
    changed = {key for key, each in after.items() if not torch.equal(each, before[key])}
    assert changed
    assert all(".visual." in key for key in changed)
    assert not any("running_" in key or "num_batches" in key for key in changed)


def test_the_region_loss_is_over_base_names_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    model = RegionClip(TINY)
    tokenize = model.encoder.tokenize
    monkeypatch.setattr(
        model.encoder, "tokenize", lambda texts: asked.append(texts) or tokenize(texts)
    )
    embeddings = base_embeddings(model.encoder)
    assert len(embeddings) == len(icons.BASE_NAMES)
    named = set().union(*(icons.names_in_caption(text) for text in asked[0]))
    assert named == set(icons.BASE_NAMES)


def test_regions_are_labelled_by_the_box_they_overlap_by_half() -> None:
    torch.manual_seed(0)
    batch = region_batches(RECIPE, REGIONS)[0][1]
    size = icons.SCENE_SIZE
    regions, index, labels = sample_regions(batch, batch.boxes, size)
    num_boxes = len(batch.boxes)
    assert torch.equal(regions[:num_boxes], batch.boxes)
    assert torch.equal(labels[:num_boxes], batch.labels)
    assert (labels == len(icons.BASE_NAMES)).any()
    assert regions.min() >= 0
    assert regions.max() <= size
    assert len(regions) == len(index) == len(labels)


def test_scenes_without_boxes_give_background_regions_only() -> None:
    empty = BoxBatch(
        pixels=torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        boxes=torch.zeros(0, 4),
        image_index=torch.zeros(0, dtype=torch.long),
        labels=torch.zeros(0, dtype=torch.long),
    )
    regions, _, labels = sample_regions(empty, empty.boxes, 64)
    assert len(regions) > 0
    assert set(labels.tolist()) == {len(icons.BASE_NAMES)}
