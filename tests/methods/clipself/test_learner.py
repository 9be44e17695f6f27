from dataclasses import replace

import pytest
import torch

from regionclip.data.transforms import normalized
from regionclip.encoders.clip_towers import OPENAI_MEAN, OPENAI_STD
from regionclip.methods.clipself.learner import ClipSelfLearner
from regionclip.methods.clipself.training_config import ClipSelfTraining
from regionclip.structures import CropBatch
from tests.tiny_dense import tiny_dense

CONFIG = ClipSelfTraining(unlocked_groups=2)


def batch_of(boxes: list[list[list[float]]]) -> CropBatch:
    generator = torch.Generator().manual_seed(0)
    return CropBatch(
        images=torch.rand(len(boxes), 3, 64, 64, generator=generator),
        boxes=tuple(torch.tensor(own).reshape(-1, 4) for own in boxes),
        crops=torch.rand(sum(map(len, boxes)), 3, 32, 32, generator=generator),
    )


BATCH = batch_of([[[0.0, 0, 32, 32], [8, 8, 64, 60]], [[0.0, 0, 64, 64]]])


def test_the_student_learns_and_the_teacher_stays() -> None:
    student, teacher = tiny_dense(), tiny_dense()
    learner = ClipSelfLearner(student, teacher, CONFIG)
    losses = learner(BATCH)
    assert list(losses) == ["cosine"]
    assert losses["cosine"].count == 3
    losses["cosine"].mean().backward()
    assert all(each.grad is None for each in teacher.parameters())
    assert not any(each.requires_grad for each in teacher.parameters())
    # the last block mixes no positions: its queries, keys and the scale get no gradient
    gradients = {name: each.grad for name, each in student.named_parameters()}
    own = gradients["clip.visual.transformer.resblocks.1.attn.in_proj_weight"]
    assert own is not None
    assert own[:32].abs().max() == 0
    assert own[32:].abs().max() > 0
    assert gradients["clip.logit_scale"] is None
    assert "teacher" not in "".join(learner.state_dict())


def test_the_loss_is_one_minus_the_cosine_of_region_and_crop() -> None:
    encoder = tiny_dense()
    learner = ClipSelfLearner(encoder, tiny_dense(), CONFIG)
    with torch.no_grad():
        student = learner.region_vectors(BATCH)
        teacher = encoder.encode_image(normalized(BATCH.crops, mean=OPENAI_MEAN, std=OPENAI_STD))
        cosines = torch.nn.functional.cosine_similarity(student, teacher)
        torch.testing.assert_close(learner(BATCH)["cosine"].mean(), 1 - cosines.mean())
        # a box of one cell has the vector of that cell
        dense = encoder.dense_features(normalized(BATCH.images, mean=OPENAI_MEAN, std=OPENAI_STD))
        one = replace(BATCH, boxes=(torch.tensor([[8.0, 16, 16, 24]]), torch.zeros(0, 4)))
        torch.testing.assert_close(learner.region_vectors(one), dense[:1, :, 2, 1])


def test_images_may_be_resized_with_their_boxes_to_a_size_of_the_step() -> None:
    plain = ClipSelfLearner(tiny_dense(), tiny_dense(), CONFIG)
    resizing = ClipSelfLearner(tiny_dense(), tiny_dense(), replace(CONFIG, image_sides=(64, 128)))
    larger = torch.nn.functional.interpolate(BATCH.images, (128, 128), mode="bilinear")
    twice = replace(BATCH, images=larger, boxes=tuple(2 * each for each in BATCH.boxes))
    with torch.no_grad():
        as_read, resized = plain.region_vectors(BATCH), plain.region_vectors(twice)
        found = [resizing.region_vectors(replace(BATCH, step=step)) for step in range(8)]
    is_same = [torch.allclose(each, as_read, atol=1e-6) for each in found]
    is_larger = [torch.allclose(each, resized, atol=1e-6) for each in found]
    assert 0 < sum(is_same) < 8
    assert sum(is_same) + sum(is_larger) == 8


def test_an_image_without_regions_may_fill_a_batch() -> None:
    learner = ClipSelfLearner(tiny_dense(), tiny_dense(), CONFIG)
    losses = learner(batch_of([[], []]))
    losses["cosine"].total.backward()
    assert losses["cosine"].mean().item() == 0


def test_what_does_not_fit_is_refused() -> None:
    wide = tiny_dense()
    wide.embed_dim = 12
    with pytest.raises(ValueError, match="teacher's vectors have 12 numbers, the student's 10"):
        ClipSelfLearner(tiny_dense(), wide, CONFIG)
    for changes in ({"unlocked_groups": 0}, {"image_sides": (0,)}):
        with pytest.raises(ValueError, match="must be positive"):
            replace(CONFIG, **changes)
