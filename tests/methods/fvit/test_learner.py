from dataclasses import replace

import pytest
import torch
from torch import nn

from regionclip.losses.loss_sum import summed
from regionclip.methods.fvit.learner import FvitLearner
from regionclip.methods.fvit.training_config import FvitTraining
from regionclip.structures import DetectionBatch, Targets
from regionclip.training import Optimization
from regionclip.training.optimization import make_optimizer
from tests.fvit_files import TINY_FVLM, tiny_fvit

CONFIG = FvitTraining(regions_per_image=16, train_masks=True)
ROWS = torch.randn(3, 12, generator=torch.Generator().manual_seed(3))


def learner(config: FvitTraining = CONFIG, *, background: str = "learned") -> FvitLearner:
    model = tiny_fvit(replace(TINY_FVLM, background=background))
    return FvitLearner(model, ROWS, config).train()


def targets(*labels: int) -> Targets:
    boxes = torch.tensor([[10.0, 10, 50, 60], [30, 5, 90, 70], [4, 4, 20, 20]])[: len(labels)]
    outlines = tuple((box[[0, 1, 2, 1, 2, 3]].reshape(3, 2),) for box in boxes)
    return Targets(boxes, torch.tensor(labels, dtype=torch.int64), outlines)


def batch(*own: Targets) -> DetectionBatch:
    generator = torch.Generator().manual_seed(0)
    images = tuple(torch.rand(3, 80, 96, generator=generator) for _ in own)
    return DetectionBatch(images, own, tuple(range(len(own))))


def test_losses_have_names_and_reach_every_part_that_learns() -> None:
    own = learner()
    losses = own(batch(targets(0, 2), targets(1)))
    assert set(losses) == {"objectness", "anchors", "classes", "boxes", "masks"}
    assert losses["classes"].count == 32
    summed(list(losses.values())).total.backward()
    for name, parameter in own.named_parameters():
        assert parameter.requires_grad != name.startswith("model.encoder."), name
        if parameter.requires_grad:
            assert parameter.grad is not None, name


@pytest.mark.parametrize("background", ["learned", "text"])
def test_what_is_frozen_is_not_in_the_optimizer_and_does_not_move(background: str) -> None:
    own = learner(replace(CONFIG, train_masks=False), background=background)
    before = {name: each.clone() for name, each in own.state_dict().items()}
    plan = Optimization(steps=1, batch_size=1, learning_rate=0.1, optimizer="adamw")
    optimizer = make_optimizer(own, plan)
    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    frozen = ["model.encoder.", "model.mask_head."]
    frozen += ["model.background"] if background == "text" else []
    for name, parameter in own.named_parameters():
        assert (id(parameter) in held) != name.startswith(tuple(frozen)), name
    losses = own(batch(targets(0, 1)))
    (losses["classes"] + losses["boxes"]).total.backward()
    optimizer.step()
    for name, tensor in own.state_dict().items():
        if name.startswith(("model.encoder.", *frozen)):
            # statistics of norms too, which no gradient moves
            assert torch.equal(tensor, before[name]), name
    assert not torch.equal(own.model.background, before["model.background"]) or len(frozen) == 3
    assert not any(each.training for each in own.model.encoder.modules())


def test_norms_on_top_of_the_frozen_clip_follow_the_batch() -> None:
    own = learner()
    norms = [each for each in own.model.neck.modules() if isinstance(each, nn.BatchNorm2d)]
    before = [norm.get_buffer("running_mean").clone() for norm in norms]
    own(batch(targets(0)))
    after = [norm.get_buffer("running_mean") for norm in norms]
    assert not any(map(torch.equal, before, after))


@pytest.mark.parametrize("label", [3, -1, 17])
def test_a_label_that_is_not_trained_cannot_reach_the_losses(label: int) -> None:
    with pytest.raises(ValueError, match=f"an object has the label {label}, but 3 classes"):
        learner()(batch(targets(0, label)))


def test_names_that_are_not_trained_have_no_column() -> None:
    own = learner()
    [found] = [own(batch(targets(0)))["classes"]]
    other = FvitLearner(tiny_fvit(), torch.cat([ROWS, torch.randn(1, 12)]), CONFIG).train()
    # a further class changes the loss: the columns are exactly the rows that were given
    assert own.num_classes == 3
    assert other(batch(targets(0)))["classes"].total != found.total


def test_the_loss_of_the_classes_is_a_mean_over_regions_whatever_they_weigh() -> None:
    heavy, light = (
        learner(replace(CONFIG, background_weight=weight))(batch(targets(0)))["classes"]
        for weight in (1.0, 0.0)
    )
    assert heavy.count == light.count == 16
    assert light.total < heavy.total


def test_images_without_objects_teach_background_alone() -> None:
    losses = learner()(batch(targets(), targets()))
    assert losses["boxes"].total == 0
    assert losses["masks"].total == 0
    assert losses["classes"].total > 0
    summed(list(losses.values())).total.backward()


def test_chance_depends_on_the_seed_of_each_image_alone() -> None:
    first, again = (learner()(batch(targets(0, 1))) for _ in range(2))
    for name, loss in first.items():
        assert loss.total == again[name].total


@pytest.mark.parametrize(
    ("rows", "message"),
    [(torch.zeros(0, 12), r"class embeddings are \(0, 12\)"), (torch.ones(2, 5), "of 12 numbers")],
)
def test_rows_that_do_not_fit_are_refused(rows: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FvitLearner(tiny_fvit(), rows, CONFIG)


def test_masks_need_a_mask_head_and_settings_a_meaning() -> None:
    with pytest.raises(ValueError, match="train_masks needs a model with a mask head"):
        FvitLearner(tiny_fvit(replace(TINY_FVLM, mask_head=False)), ROWS, CONFIG)
    for change, message in (
        ({"background_weight": -1.0}, "background_weight must not be negative"),
        ({"regions_per_image": 0}, "regions_per_image must be at least 1"),
        ({"match_iou": 0.0}, "match_iou must be in"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(CONFIG, **change)
