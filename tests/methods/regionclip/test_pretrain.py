from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest
import torch

from regionclip.encoders.text import num_cut
from regionclip.losses import LossSum, image_text_loss
from regionclip.methods.regionclip.pretrain import PretrainLearner, Teacher
from regionclip.methods.regionclip.pretrain_config import PretrainConfig, PretrainLoss
from regionclip.methods.regionclip.students import DenseStudent, ResNetStudent
from regionclip.proposals.embedded import EmbeddedProposals
from regionclip.proposals.proposer import Proposer
from regionclip.regions.crops import CropRegions
from regionclip.regions.dense_regions import DenseRegions
from regionclip.regions.map_regions import MapRegions
from regionclip.structures import CaptionedBatch, PreparedImage, Proposals
from tests.tiny_clip import tiny_clip, tiny_vit
from tests.tiny_dense import tiny_dense

NUM_CONCEPTS, WIDTH = 6, 12
ALL = PretrainConfig(regions_per_image=8, min_concept_score=0.0)
LOSSES: tuple[PretrainLoss, ...] = get_args(PretrainLoss)


class Corners:
    """Twelve boxes at the upper left corner of every image."""

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        sides = torch.arange(12.0, 60.0, 4.0)
        boxes = torch.stack([torch.zeros(12), torch.zeros(12), sides, sides.flip(0)], dim=1)
        return [Proposals(boxes) for _ in images]


def concepts(width: int = WIDTH, *, count: int = NUM_CONCEPTS) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(4))


def learner_of(
    config: PretrainConfig = ALL,
    *,
    teacher: Teacher | None = None,
    proposer: Proposer | None = None,
) -> PretrainLearner:
    teacher = teacher or Teacher(MapRegions(tiny_clip(seed=1)), concepts())
    student = ResNetStudent(tiny_clip(), config)
    return PretrainLearner(student, concepts(), teacher, proposer or Corners(), config)


def batch_of(*sizes_hw: tuple[int, int]) -> CaptionedBatch:
    generator = torch.Generator().manual_seed(2)
    return CaptionedBatch(
        images=tuple(torch.rand(3, *size_hw, generator=generator) for size_hw in sizes_hw),
        captions=tuple(f"a photo of {row} dogs" for row in range(len(sizes_hw))),
        seeds=tuple(range(len(sizes_hw))),
        names=tuple(f"image {row}" for row in range(len(sizes_hw))),
    )


def gradients(losses: dict[str, LossSum], learner: PretrainLearner) -> dict[str, torch.Tensor]:
    learner.zero_grad()
    torch.stack([loss.mean() for loss in losses.values()]).sum().backward()
    return {
        name: each.grad.clone()
        for name, each in learner.named_parameters()
        if each.grad is not None
    }


@pytest.mark.parametrize("chosen", [(each,) for each in LOSSES] + [LOSSES[:2], LOSSES])
def test_the_losses_that_are_chosen_are_computed(chosen: tuple[PretrainLoss, ...]) -> None:
    learner = learner_of(replace(ALL, losses=chosen))
    losses = learner(batch_of((64, 80), (64, 80)))
    assert set(losses) == set(chosen)
    counts = {"image_text": 2, "distillation": 16, "contrastive": 16}
    assert {name: int(loss.count) for name, loss in losses.items()} == {
        name: counts[name] for name in chosen
    }
    assert all(loss.total.isfinite() for loss in losses.values())


def test_only_the_image_tower_from_layer2_on_is_trained() -> None:
    learner = learner_of()
    found = gradients(learner(batch_of((64, 64))), learner)
    trained = {name for name, each in learner.named_parameters() if each.requires_grad}
    assert found.keys() == trained
    assert all(
        name.removeprefix("encoder.clip.visual.").split(".")[0]
        in ("layer2", "layer3", "layer4", "attnpool")
        for name in trained
    )
    assert not any(".bn" in name for name in trained)


def test_the_teacher_and_the_concepts_are_no_part_of_the_state() -> None:
    assert all(name.startswith("encoder.") for name in learner_of().state_dict())


def test_every_module_computes_as_in_eval_mode() -> None:
    learner = learner_of().train()
    assert learner.training
    assert not any(module.training for module in learner.children())


def test_an_image_teaches_the_same_in_whatever_batch() -> None:
    config = replace(ALL, losses=("distillation",))
    batch = batch_of((64, 80), (96, 64))
    whole = learner_of(config)(batch)["distillation"]
    parts = [
        learner_of(config)(
            CaptionedBatch(
                images=batch.images[row : row + 1],
                captions=batch.captions[row : row + 1],
                seeds=batch.seeds[row : row + 1],
                names=batch.names[row : row + 1],
            )
        )["distillation"]
        for row in range(2)
    ]
    torch.testing.assert_close(parts[0].total + parts[1].total, whole.total)


def test_in_the_originals_way_the_image_is_the_padded_canvas() -> None:
    batch = batch_of((64, 80), (96, 64))
    boxes = [torch.zeros(0, 4)] * 2
    own = learner_of().outputs(batch.images, boxes).images
    padded = learner_of(replace(ALL, image_batching="padded")).outputs(batch.images, boxes).images
    assert own.shape == padded.shape == (2, WIDTH)
    assert ((own - padded).abs().amax(dim=1) > 1e-4).all()


def test_chunks_give_the_same_losses_and_gradients() -> None:
    batch = batch_of((64, 80), (96, 64))
    whole, chunked = learner_of(), learner_of(replace(ALL, activation_budget=40_000))
    own, other = whole(batch), chunked(batch)
    for name, loss in own.items():
        torch.testing.assert_close(other[name].total, loss.total, rtol=1e-4, atol=1e-4)
    expected, found = gradients(own, whole), gradients(other, chunked)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)


def test_regions_of_the_batch_come_before_those_of_the_proposer() -> None:
    batch = batch_of((64, 64))
    given = torch.tensor([[4.0, 4.0, 40.0, 30.0]])
    batch = replace(batch, proposals=(Proposals(given),))
    (drawn,) = learner_of().draw_regions(batch)
    assert torch.equal(drawn.boxes, given)


def test_regions_are_drawn_by_the_images_seed() -> None:
    batch, learner = batch_of((64, 64), (64, 64)), learner_of()
    first, second = learner.draw_regions(batch)
    assert len(first) == 8
    assert not torch.equal(first.boxes, second.boxes)
    again, _ = learner.draw_regions(batch)
    assert torch.equal(first.boxes, again.boxes)


def test_a_batch_without_regions_costs_its_captions_only() -> None:
    batch = replace(batch_of((64, 64)), proposals=(Proposals(torch.zeros(0, 4)),))
    learner = learner_of()
    losses = learner(batch)
    assert losses["distillation"].count == losses["contrastive"].count == 0
    found = gradients(losses, learner)
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_regions_that_the_teacher_is_unsure_of_teach_nothing() -> None:
    alike = Teacher(MapRegions(tiny_clip(1)), torch.ones(NUM_CONCEPTS, WIDTH))
    losses = learner_of(replace(ALL, min_concept_score=0.5), teacher=alike)(batch_of((64, 64)))
    assert losses["distillation"].count == 0
    assert losses["distillation"].total == 0


def test_a_student_that_is_its_own_teacher_has_nothing_to_distil() -> None:
    teacher = Teacher(MapRegions(tiny_clip()), concepts())
    loss = learner_of(replace(ALL, losses=("distillation",)), teacher=teacher)(batch_of((64, 80)))
    assert loss["distillation"].mean().item() == pytest.approx(0, abs=1e-5)


def test_a_teacher_may_be_of_another_architecture_and_look_at_crops() -> None:
    teacher = Teacher(CropRegions(tiny_vit()), concepts(10))
    losses = learner_of(teacher=teacher)(batch_of((64, 80)))
    assert losses["distillation"].count == 8
    assert losses["distillation"].total > 0


def stored_with(batch: CaptionedBatch, teacher: Teacher) -> CaptionedBatch:
    """The batch with boxes that come with what a teacher makes of them."""
    assert teacher.regions is not None
    prepared = [
        PreparedImage(image, (image.shape[1], image.shape[2]), name)
        for image, name in zip(batch.images, batch.names, strict=True)
    ]
    proposals = EmbeddedProposals(Corners(), teacher.regions).propose(prepared)
    return replace(batch, proposals=tuple(proposals))


@pytest.mark.parametrize("sizes_hw", [((64, 80),), ((64, 80), (96, 64)), ((64, 64), (64, 64))])
def test_what_is_stored_teaches_the_same_as_a_teacher_that_runs(
    sizes_hw: tuple[tuple[int, int], ...],
) -> None:
    running = Teacher(MapRegions(tiny_clip(seed=1)), concepts())
    batch = stored_with(batch_of(*sizes_hw), running)
    own, stored = learner_of(teacher=running), learner_of(teacher=Teacher(None, concepts()))
    expected, found = own(batch), stored(batch)
    for name, loss in expected.items():
        assert found[name].count == loss.count
        torch.testing.assert_close(found[name].total, loss.total, rtol=1e-4, atol=1e-5)
    wanted, gradient = gradients(expected, own), gradients(found, stored)
    for name, each in wanted.items():
        torch.testing.assert_close(gradient[name], each, rtol=1e-3, atol=1e-5)


def test_vectors_are_drawn_with_their_boxes_and_read_in_float32() -> None:
    sides = torch.arange(10.0, 30.0)
    boxes = torch.stack([torch.zeros(20), torch.zeros(20), sides, sides], dim=1)
    vectors = sides[:, None].expand(-1, WIDTH).half()
    batch = batch_of((64, 64), (64, 64))
    batch = replace(batch, proposals=(Proposals(boxes, features=vectors),) * 2)
    learner = learner_of(teacher=Teacher(None, concepts()))
    drawn = learner.draw_regions(batch)
    features = learner.teacher_features(batch, drawn)
    assert features.dtype == torch.float32
    assert torch.equal(features[:, 0], torch.cat([own.boxes[:, 2] for own in drawn]))


def test_images_without_boxes_have_no_vectors_either() -> None:
    learner = learner_of(teacher=Teacher(None, concepts()))
    none = Proposals(torch.zeros(0, 4), features=torch.zeros(0, WIDTH).half())
    box = torch.tensor([[4.0, 4.0, 40.0, 30.0]])
    one = Proposals(box, features=torch.ones(1, WIDTH).half())
    batch = batch_of((64, 64), (64, 64))
    for proposals, count in (((none, one), 1), ((none, none), 0)):
        losses = learner(replace(batch, proposals=proposals))
        assert losses["distillation"].count == losses["contrastive"].count == count
        assert all(each.isfinite().all() for each in gradients(losses, learner).values())


def test_boxes_without_the_vectors_that_should_be_stored_are_refused() -> None:
    learner = learner_of(teacher=Teacher(None, concepts()))
    with pytest.raises(ValueError, match="image 0 comes without the teacher's vectors, and no tea"):
        learner(batch_of((64, 64)))


def test_captions_that_read_the_same_belong_to_both_images() -> None:
    batch = batch_of((64, 64), (64, 64))
    same = replace(batch, captions=("a Dog", "a  dog"))
    config = replace(ALL, losses=("image_text",))
    loss = learner_of(config)(same)["image_text"].mean().item()
    # nothing tells the two captions apart: the best that can be reached, and all that can be lost
    assert loss >= torch.log(torch.tensor(2.0)).item() - 1e-4


def test_images_of_one_cell_are_fine() -> None:
    losses = learner_of()(replace(batch_of((16, 16)), proposals=(Proposals(torch.zeros(0, 4)),)))
    assert losses["image_text"].total.isfinite()


def test_the_image_text_loss_alone_needs_no_regions() -> None:
    teacher = Teacher(MapRegions(tiny_clip(1)), concepts())
    config = replace(ALL, losses=("image_text",))
    learner = PretrainLearner(ResNetStudent(tiny_clip(), config), concepts(), teacher, None, config)
    assert set(learner(batch_of((64, 64)))) == {"image_text"}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_in_bfloat16_are_close_to_those_in_float32(name: PretrainLoss) -> None:
    config = replace(ALL, losses=(name,))
    teacher = Teacher(MapRegions(tiny_clip(1), dtype=torch.bfloat16), concepts())
    batch = batch_of((64, 80), (64, 80))
    exact = learner_of(config)(batch)[name].mean()
    learner = learner_of(config, teacher=teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = learner(batch)
    assert rough[name].total.dtype == torch.float32
    torch.testing.assert_close(rough[name].mean(), exact, rtol=0.1, atol=0.1)
    assert all(gradient.isfinite().all() for gradient in gradients(rough, learner).values())


def test_long_captions_are_cut_as_in_the_original_if_wanted() -> None:
    original = replace(ALL, losses=("image_text",), long_captions="lose_end")
    short, long = batch_of((64, 64), (64, 64)), "a dog beside " * 100
    mixed = replace(short, captions=(long, short.captions[1]))
    usual, other = learner_of(replace(ALL, losses=("image_text",))), learner_of(original)
    assert usual(short)["image_text"].total.equal(other(short)["image_text"].total)
    encoder = other.student.encoder
    assert num_cut(encoder, [long, short.captions[1], long]) == 2
    assert num_cut(encoder, short.captions) == num_cut(encoder, []) == 0
    # by hand: the vector is read where the highest number is, which is no end token's
    tokens = encoder.first_tokens([long])
    assert int(tokens.max()) < int(encoder.tokenize([long]).max())
    texts = encoder.encode_tokens(encoder.first_tokens(mixed.captions))
    with torch.no_grad():
        images = other.outputs(mixed.images, [torch.zeros(0, 4)] * 2).images
        expected = image_text_loss(images, texts, torch.tensor([0, 1]), temperature=0.01).mean()
        torch.testing.assert_close(other(mixed)["image_text"].mean(), expected)
        assert not torch.isclose(usual(mixed)["image_text"].mean(), expected)


def dense_student(config: PretrainConfig = ALL) -> DenseStudent:
    return DenseStudent(tiny_dense(), config, padding="square")


def test_a_dense_student_sees_what_its_detector_sees() -> None:
    student = dense_student()
    boxes = [torch.tensor([[0.0, 0.0, 16.0, 24.0], [8.0, 8.0, 40.0, 30.0]]), torch.zeros(0, 4)]
    batch = batch_of((32, 48), (48, 40))
    found = student.outputs(batch.images, boxes)
    embedder = DenseRegions(student.encoder, padding="square")
    prepared = [PreparedImage(each, (1, 1), "image") for each in batch.images]
    with torch.no_grad():
        views = embedder.view(prepared)
        torch.testing.assert_close(found.regions, views.of(0).features(boxes[0]))
        whole = views.of(1).features(torch.tensor([[0.0, 0.0, 40.0, 48.0]]))
    torch.testing.assert_close(found.images[1:], whole)


@pytest.mark.parametrize("groups", [1, None])
def test_of_a_dense_student_its_last_groups_learn_and_every_gradient_is_there(
    groups: int | None,
) -> None:
    student = dense_student(replace(ALL, unlocked_groups=groups))
    teacher = Teacher(MapRegions(tiny_clip(seed=1)), concepts())
    learner = PretrainLearner(student, concepts(10), teacher, Corners(), ALL)
    trained = {name for name, each in learner.named_parameters() if each.requires_grad}
    assert trained == set(gradients(learner(batch_of((64, 80), (48, 64))), learner))
    assert all(".visual." in name for name in trained)
    assert any("resblocks.0" in name for name in trained) == (groups is None)
    assert any("conv1" in name for name in trained) == (groups is None)


def test_settings_for_the_other_kind_of_tower_are_refused() -> None:
    with pytest.raises(ValueError, match=r"freeze_at \(3\) is about ResNets"):
        dense_student(replace(ALL, freeze_at=3))
    with pytest.raises(ValueError, match=r"image_batching \('padded'\) is about ResNets"):
        dense_student(replace(ALL, image_batching="padded"))
    with pytest.raises(ValueError, match=r"unlocked_groups \(2\) is about towers with a dense"):
        ResNetStudent(tiny_clip(), replace(ALL, unlocked_groups=2))
    with pytest.raises(ValueError, match="unlocked_groups must be at least 1, got 0"):
        replace(ALL, unlocked_groups=0)


def test_batches_need_proposals_from_somewhere() -> None:
    teacher = Teacher(MapRegions(tiny_clip(1)), concepts())
    learner = PretrainLearner(ResNetStudent(tiny_clip(), ALL), concepts(), teacher, None, ALL)
    with pytest.raises(ValueError, match="image 0 comes without proposals and nothing proposes"):
        learner(batch_of((64, 64)))


def test_concepts_of_another_width_or_number_are_refused() -> None:
    teacher = Teacher(MapRegions(tiny_clip(1)), concepts())
    student = ResNetStudent(tiny_clip(), ALL)
    with pytest.raises(ValueError, match="concepts are 10 numbers wide, regions of tiny 12"):
        PretrainLearner(student, concepts(10), teacher, None, ALL)
    with pytest.raises(ValueError, match="the student has 5 concepts, the teacher 6"):
        PretrainLearner(student, concepts(count=5), teacher, None, ALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ()}, "losses must be some of image_text, distillation, contrastive"),
        ({"losses": ("contrastive", "contrastive")}, "each once"),
        ({"min_concept_score": 1.0}, r"min_concept_score must be in \[0, 1\), got 1.0"),
        ({"regions_per_image": 0}, "regions_per_image must be at least 1, got 0"),
        ({"activation_budget": 0}, "activation_budget must be at least 1, got 0"),
        ({"freeze_at": 6}, "freeze_at must be from 0 to 5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ALL, **changes)
