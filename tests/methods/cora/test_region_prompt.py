import pytest
import torch
from torch.nn import functional as F

from regionclip.methods.cora.region_prompt import RegionPromptLearner
from regionclip.regions.region_head import RegionHead
from regionclip.structures import DetectionBatch, Targets
from tests.tiny_clip import TINY, tiny_clip

BOXES = torch.tensor([[5.0, 5, 60, 60], [30, 10, 90, 50], [0, 0, 96, 64]])


def embeddings(num_classes: int = 4) -> torch.Tensor:
    return torch.randn(num_classes, TINY.embed_dim, generator=torch.Generator().manual_seed(5))


def image_of(seed: int, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def batch_of(labels: list[int], *, num_images: int = 1) -> DetectionBatch:
    targets = Targets(BOXES[: len(labels)], torch.tensor(labels, dtype=torch.int64))
    images = tuple(image_of(seed) for seed in range(num_images))
    return DetectionBatch(images, (targets,) * num_images, tuple(range(num_images)))


def test_only_the_prompt_is_trained() -> None:
    encoder = tiny_clip()
    learner = RegionPromptLearner(encoder, embeddings()).train()
    assert not any(module.training for module in encoder.modules())
    trained = [name for name, own in learner.named_parameters() if own.requires_grad]
    assert trained == ["encoder.clip.visual.attnpool.positional_embedding"]
    learner(batch_of([0, 1, 2]))["classes"].mean().backward()
    assert learner.prompt.grad is not None
    assert learner.prompt.grad.abs().sum() > 0
    assert [name for name, own in learner.named_parameters() if own.grad is not None] == trained


def test_the_loss_is_the_mean_cross_entropy_of_the_heads_regions() -> None:
    encoder = tiny_clip()
    loss = RegionPromptLearner(encoder, embeddings())(batch_of([3, 0, 2]))["classes"]
    head = RegionHead(encoder.visual)
    maps = head.lift(encoder.feature_map(encoder.prepare([image_of(0)])))
    # 64 x 96 pixels are 4 x 6 cells: nothing is cut, and boxes scale by a sixteenth
    vectors = F.normalize(head(maps, 0, BOXES), dim=1)
    logits = 100 * vectors @ F.normalize(embeddings(), dim=1).T
    expected = F.cross_entropy(logits, torch.tensor([3, 0, 2]))
    assert loss.count.item() == 3
    assert loss.mean().item() == pytest.approx(expected.item(), rel=1e-4)


def test_boxes_scale_by_the_cells_that_are_no_padding() -> None:
    learner = RegionPromptLearner(tiny_clip(), embeddings())
    # 70 x 90 pixels are 4 x 5 cells; in a batch with 64 x 96 they are padded
    small, large = image_of(1, 70, 90), image_of(0, 80, 112)
    whole = torch.tensor([[0.0, 0, 90, 70]])
    alone = learner.cells([small], [whole])
    head = RegionHead(learner.encoder.visual)
    maps = head.lift(learner.encoder.feature_map(learner.encoder.prepare([small])))
    assert maps.map_hw == (4, 5)
    expected = head.layer4_cells(maps, 0, torch.tensor([[0.0, 0, 80, 64]]))
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-5)
    both = learner.cells([large, small], [torch.zeros(0, 4), whole])
    maps = head.lift(learner.encoder.feature_map(learner.encoder.prepare([large, small])))
    assert maps.map_hw == (5, 7)
    # 90 of 112 pixels, 70 of 80: of 7 columns the first 6 begin inside, of 5 rows all
    expected = head.layer4_cells(maps, 1, torch.tensor([[0.0, 0, 96, 80]]))
    torch.testing.assert_close(both, expected, rtol=1e-4, atol=1e-5)


def test_a_batch_without_boxes_costs_nothing_and_has_a_gradient() -> None:
    learner = RegionPromptLearner(tiny_clip(), embeddings())
    loss = learner(batch_of([], num_images=2))["classes"]
    assert loss.count.item() == 0
    loss.mean().backward()
    assert loss.mean().item() == 0
    assert learner.prompt.grad is not None


def test_the_prompt_learns_to_name_regions() -> None:
    learner = RegionPromptLearner(tiny_clip(), embeddings())
    batch = batch_of([0, 1, 2], num_images=2)
    optimizer = torch.optim.AdamW([learner.prompt], lr=0.02)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = learner(batch)["classes"].mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_labels_and_embeddings_that_do_not_fit_are_refused() -> None:
    learner = RegionPromptLearner(tiny_clip(), embeddings())
    with pytest.raises(ValueError, match="label 4, but 4 classes are trained"):
        learner(batch_of([0, 4]))
    with pytest.raises(ValueError, match="expected at least one row of 12 numbers"):
        RegionPromptLearner(tiny_clip(), torch.zeros(2, 13))
    with pytest.raises(ValueError, match="expected at least one row of 12 numbers"):
        RegionPromptLearner(tiny_clip(), torch.zeros(0, 12))
