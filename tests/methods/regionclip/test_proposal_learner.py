from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import nn

from regionclip.data import icons
from regionclip.flows.icons import proposal_batches
from regionclip.losses.loss_sum import summed
from regionclip.methods.regionclip.learners import ICON_PROPOSALS, detection_batch
from regionclip.methods.regionclip.proposal_learner import RpnLearner, RpnTraining
from regionclip.proposals.rpn import RegionProposalNetwork, RpnConfig
from regionclip.structures import DetectionBatch, Targets
from tests.tiny_clip import randomize_norms
from tests.tiny_recipe import RECIPE, weights_of

TINY_RPN = RpnConfig(
    layers=(1, 1), width=8, pyramid_channels=8, anchor_sizes=((16.0,), (32.0,), (64.0,))
)
WHOLE = RpnTraining(freeze_at=0, norms="trained")
SIZES = ((64, 96), (96, 64), (64, 96))


def network() -> RegionProposalNetwork:
    torch.manual_seed(0)
    built = RegionProposalNetwork(TINY_RPN)
    randomize_norms(built)
    return built


def batch_of(sizes_hw: Sequence[tuple[int, int]] = SIZES) -> DetectionBatch:
    generator = torch.Generator().manual_seed(1)
    box = torch.tensor([[10.0, 12, 40, 44], [30.0, 8, 60, 50]])
    return DetectionBatch(
        images=tuple(torch.rand(3, *size_hw, generator=generator) for size_hw in sizes_hw),
        targets=tuple(
            Targets(box[: 1 + row % 2], torch.zeros(1 + row % 2).long()) for row in (0, 1, 0)
        ),
        seeds=(5, 6, 7),
    )


def part(batch: DetectionBatch, row: int) -> DetectionBatch:
    rows = slice(row, row + 1)
    return DetectionBatch(batch.images[rows], batch.targets[rows], batch.seeds[rows])


def test_repeating_a_batch_lowers_its_losses() -> None:
    learner, batch = RpnLearner(network(), WHOLE), batch_of()
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-3)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        losses = learner(batch)
        (losses["objectness"].mean() + losses["boxes"].mean()).backward()
        optimizer.step()
        values.append([losses[name].mean().item() for name in ("objectness", "boxes")])
    assert values[-1][0] < 0.8 * values[0][0]
    assert values[-1][1] < 0.8 * values[0][1]


def test_images_of_a_batch_do_not_see_each_other() -> None:
    learner, batch = RpnLearner(network(), RpnTraining()), batch_of()
    whole, parts = learner(batch), [learner(part(batch, row)) for row in range(3)]
    for name, loss in whole.items():
        joined = summed([each[name] for each in parts])
        torch.testing.assert_close(joined.total, loss.total, rtol=1e-5, atol=1e-5)
        assert joined.count == loss.count


def test_labels_are_not_looked_at() -> None:
    learner, batch = RpnLearner(network(), RpnTraining()), batch_of()
    named = tuple(Targets(each.boxes, each.labels + 1000) for each in batch.targets)
    one, other = learner(batch), learner(replace(batch, targets=named))
    assert one["objectness"].total == other["objectness"].total
    assert one["boxes"].total == other["boxes"].total


@pytest.mark.parametrize(("norms", "moves"), [("frozen", False), ("trained", True)])
def test_frozen_stages_and_norms_stay_bit_for_bit(norms: str, moves: bool) -> None:
    proposer = network()
    learner = RpnLearner(proposer, RpnTraining(freeze_at=2, norms=norms))  # type: ignore[arg-type]
    learner.train()
    before = weights_of(proposer)
    optimizer = torch.optim.SGD(proposer.parameters(), lr=0.1)
    losses = learner(batch_of())
    (losses["objectness"].mean() + losses["boxes"].mean()).backward()
    optimizer.step()
    after = proposer.state_dict()
    changed = {name for name, each in after.items() if not torch.equal(each, before[name])}
    norms_of = {name for name, each in proposer.named_modules() if isinstance(each, nn.BatchNorm2d)}
    changed_norms = {name for name in changed if name.rpartition(".")[0] in norms_of}
    assert "backbone.layer2.0.conv2.weight" in changed
    assert not any(
        name.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer1")) for name in changed
    )
    assert bool(changed_norms) == moves


def test_an_image_without_objects_teaches_background() -> None:
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    learner = RpnLearner(network(), WHOLE)
    losses = learner(DetectionBatch((torch.rand(3, 64, 64),), (nothing,), (0,)))
    (losses["objectness"].mean() + losses["boxes"].mean()).backward()
    assert losses["boxes"].total.item() == 0.0
    assert losses["objectness"].mean().item() > 0.0
    assert all(each.grad is not None for each in learner.parameters())


def test_scenes_of_icons_become_a_batch_at_the_detectors_size() -> None:
    scenes = proposal_batches(RECIPE)[0]
    batch = detection_batch(scenes, 2 * scenes.pixels.shape[-1])
    assert [tuple(image.shape[1:]) for image in batch.images] == [(2 * icons.SCENE_SIZE,) * 2] * 2
    boxes = torch.cat([each.boxes for each in batch.targets])
    assert torch.equal(boxes, 2 * scenes.boxes)
    assert torch.equal(torch.cat([each.labels for each in batch.targets]), scenes.labels)
    assert len(set(batch.seeds)) == 2
    assert ICON_PROPOSALS.norms == "trained"


def test_a_negative_number_of_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="freeze_at must not be negative, got -1"):
        RpnTraining(freeze_at=-1)
