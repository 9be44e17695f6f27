import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from regionclip.data.transforms import normalized
from regionclip.encoders.clip_towers import OPENAI_MEAN, OPENAI_STD
from regionclip.encoders.dense_resnet import dense_resnet_of
from regionclip.encoders.unlocking import logit_scale_of
from regionclip.methods.clim.learner import ClimLearner
from regionclip.methods.clim.training_config import ClimTraining
from regionclip.regions.layer4_regions import layer4_vectors
from regionclip.structures import CaptionedBatch
from tests.tiny_clip import tiny_clip
from tests.tiny_dense import tiny_dense
from tests.tiny_eva import tiny_eva

CONFIG = ClimTraining(mosaic_sides=(1, 2), images_per_set=6, mosaic_pixels=64, unlocked_groups=1)
WORDS = ("dog", "cat", "car", "tree", "bird", "hat", "cup", "sky", "sea", "bus", "bed", "fork")


def batch_of(count: int, captions: tuple[str, ...] = WORDS) -> CaptionedBatch:
    generator = torch.Generator().manual_seed(count)
    images = torch.rand(count, 3, 32, 32, generator=generator).unbind()
    names = tuple(f"{row}.png" for row in range(count))
    return CaptionedBatch(images, captions[:count], tuple(range(count)), names)


def test_row_by_row_vectors_belong_to_the_images() -> None:
    learner = ClimLearner(tiny_dense(), CONFIG)
    images = torch.stack(batch_of(6).images)
    with torch.no_grad():
        before = learner.image_vectors(images)
        assert before.shape == (6, 10)
        for row in range(6):
            changed = images.clone()
            changed[row] = 1 - changed[row]
            moved = (learner.image_vectors(changed) - before).norm(dim=1)
            # tiles of one mosaic see each other, and the single image none
            assert moved.argmax() == row
            if row == 5:
                assert moved[:5].max() == 0


def test_single_images_are_seen_as_clip_sees_them() -> None:
    encoder = tiny_dense()
    learner = ClimLearner(encoder, CONFIG)
    images = torch.stack(batch_of(12).images)
    with torch.no_grad():
        vectors = learner.image_vectors(images)
        whole = encoder.encode_image(normalized(images, mean=OPENAI_MEAN, std=OPENAI_STD))
    # of each set of 6 images, the last is in no mosaic
    torch.testing.assert_close(vectors[[5, 11]], whole[[5, 11]])


def test_only_the_last_blocks_and_the_scale_learn() -> None:
    encoder = tiny_dense()
    learner = ClimLearner(encoder, CONFIG)
    losses = learner(batch_of(6))
    assert list(losses) == ["contrast"]
    assert losses["contrast"].count == 6
    losses["contrast"].mean().backward()
    learned = {name for name, each in encoder.named_parameters() if each.grad is not None}
    trainable = {name for name, each in encoder.named_parameters() if each.requires_grad}
    assert learned == trainable
    assert "clip.logit_scale" in trainable
    assert all("resblocks.1." in name or name == "clip.logit_scale" for name in trainable)
    assert not any(module.training for module in encoder.modules())


def test_tiles_of_a_resnet_are_pooled_with_attention_and_teach_all_that_learns() -> None:
    for images_per_set in (6, 5):
        encoder = dense_resnet_of(tiny_clip())
        config = replace(CONFIG, images_per_set=images_per_set, unlocked_groups=2)
        vectors_of = partial(layer4_vectors, encoder)
        learner = ClimLearner(encoder, config, box_vectors=vectors_of)
        batch = batch_of(images_per_set)
        learner(batch)["contrast"].mean().backward()
        for name, parameter in encoder.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
        own = normalized(torch.stack(batch.images), mean=encoder.mean, std=encoder.std)
        whole = torch.nn.functional.interpolate(own[:1], (64, 64), mode="bicubic")
        with torch.no_grad():
            found = learner.image_vectors(torch.stack(batch.images))
            # a tile that fills its mosaic is pooled as the whole image is
            torch.testing.assert_close(found[:1], encoder.encode_image(whole), rtol=1e-3, atol=1e-4)


def test_without_single_images_nothing_waits_for_what_only_they_read() -> None:
    for images_per_set, is_asked in ((6, True), (5, False)):
        encoder = tiny_eva()
        learner = ClimLearner(encoder, replace(CONFIG, images_per_set=images_per_set))
        assert learner.config.num_singles == (1 if is_asked else 0)
        learner(batch_of(images_per_set))["contrast"].mean().backward()
        own = dict(encoder.clip.named_parameters())
        for name, parameter in own.items():
            assert (parameter.grad is not None) == parameter.requires_grad, name
        assert own["visual.blocks.2.attn.q_proj.weight"].requires_grad == is_asked
        assert own["logit_scale"].requires_grad


def test_the_loss_is_clips_of_vectors_and_captions() -> None:
    encoder = tiny_dense()
    learner = ClimLearner(encoder, CONFIG)
    batch = batch_of(6)
    with torch.no_grad():
        images = torch.nn.functional.normalize(
            learner.image_vectors(torch.stack(batch.images)), dim=1
        )
        tokens = encoder.tokenize(batch.captions)
        texts = torch.nn.functional.normalize(encoder.encode_tokens(tokens), dim=1)
        logits = logit_scale_of(encoder).exp() * images @ texts.T
        rows = torch.arange(6)
        entropy = torch.nn.functional.cross_entropy
        expected = (entropy(logits, rows) + entropy(logits.T, rows)) / 2
        torch.testing.assert_close(learner(batch)["contrast"].mean(), expected)


def test_images_with_the_same_words_are_not_pushed_from_each_others() -> None:
    encoder = tiny_dense()
    learner = ClimLearner(encoder, CONFIG)
    batch = batch_of(6, ("a dog", "A  dog", *WORDS[2:]))
    normalize = torch.nn.functional.normalize
    with torch.no_grad():
        images = normalize(learner.image_vectors(torch.stack(batch.images)), dim=1)
        texts = normalize(encoder.encode_tokens(encoder.tokenize(batch.captions)), dim=1)
        logits = logit_scale_of(encoder).exp() * images @ texts.T
        # the first two images and captions are each other's: a mean over both, either way
        shares = torch.eye(6)
        shares[:2, :2] = 0.5
        expected = sum(-(own.log_softmax(dim=1) * shares).sum() for own in (logits, logits.T)) / 12
        assert learner(batch)["contrast"].mean().item() == pytest.approx(float(expected), rel=1e-5)
        logit_scale_of(encoder).fill_(-40.0)
        # all similarities weigh alike: each pair costs log 6, and twice the same words as much
        assert learner(batch)["contrast"].mean().item() == pytest.approx(math.log(6))


def test_the_scale_stays_within_bounds() -> None:
    learner = ClimLearner(tiny_dense(), CONFIG)
    scale = logit_scale_of(learner.encoder)
    for value, expected in ((9.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)):
        scale.data.fill_(value)
        learner.bound_logit_scale()
        assert scale.item() == pytest.approx(expected)


def test_what_makes_no_whole_sets_is_refused() -> None:
    learner = ClimLearner(tiny_dense(), CONFIG)
    with pytest.raises(ValueError, match="7 images are no whole number of sets of 6"):
        learner(batch_of(7))
    with pytest.raises(ValueError, match="take 29 images together, and a batch has 20"):
        ClimTraining(images_per_set=20)
    with pytest.raises(ValueError, match="mosaic_pixels and unlocked_groups must be positive"):
        replace(CONFIG, mosaic_pixels=0)
    with pytest.raises(ValueError, match=r"unlocked_groups must be in \[1, 4\]"):
        ClimLearner(tiny_dense(), replace(CONFIG, unlocked_groups=5))
