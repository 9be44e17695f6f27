from dataclasses import replace

import pytest
import torch

from regionclip.methods.fvit.model import build, carry_classes, transfer_to
from regionclip.methods.fvit.pyramid import Neck, TokenScales
from tests.fvit_files import TINY_FVIT, TINY_FVLM, tiny_fvit


def test_tokens_become_four_scales_and_five_levels() -> None:
    torch.manual_seed(0)
    tokens = [torch.randn(2, 6, 4, 6) for _ in range(4)]
    scales = TokenScales(6).eval()(tokens)
    assert [tuple(each.shape[2:]) for each in scales] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert torch.equal(scales[2], tokens[2])
    assert torch.equal(scales[3][0, 0, 0, 0], tokens[3][0, 0, :2, :2].max())
    levels = Neck([6] * 4, 5).eval()(scales)
    assert [tuple(each.shape[1:]) for each in levels] == [
        (5, 16, 24),
        (5, 8, 12),
        (5, 4, 6),
        (5, 2, 3),
        (5, 1, 2),
    ]


def test_images_are_normalised_and_padded_with_the_mean_to_one_square() -> None:
    model = tiny_fvit(replace(TINY_FVLM, mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 1.0)))
    wide, high = torch.full((3, 30, 70), 0.5), torch.ones(3, 40, 20)
    batch = model.prepare([wide, high])
    assert batch.shape == (2, 3, 128, 128)
    assert model.prepare([torch.ones(3, 20, 129)]).shape == (1, 3, 160, 160)
    assert batch[0, :, 29, 69].tolist() == [0.0, 0.5, 0.5]
    assert batch[1, :, 39, 19].tolist() == [1.0, 1.5, 1.0]
    assert not batch[0, :, 30:].any()
    assert not batch[1, :, :, 20:].any()


@torch.no_grad()
def test_levels_halve_and_anchors_are_eight_cells_wide() -> None:
    model = tiny_fvit()
    levels = model.levels(model.maps(model.prepare([torch.rand(3, 64, 100)])))
    assert [level.shape[-1] for level in levels] == [32, 16, 8, 4, 2]
    judged = model.judge(levels)
    for each, stride in zip(judged, (4, 8, 16, 32, 64), strict=True):
        sides = each.anchors[:, 2:] - each.anchors[:, :2]
        assert sides.prod(dim=1).sqrt().allclose(torch.tensor(8.0 * stride))
        assert each.anchors[1].tolist() == [-4 * stride, -4 * stride, 4 * stride, 4 * stride]


@torch.no_grad()
def test_proposals_lie_inside_each_image_and_do_not_depend_on_the_others() -> None:
    model = tiny_fvit()
    images = [torch.rand(3, 64, 128), torch.rand(3, 128, 96)]
    sizes = [(64, 128), (128, 96)]
    both = model.propose(model.judge(model.levels(model.maps(model.prepare(images)))), sizes)
    for own, size, image in zip(both, sizes, images, strict=True):
        assert 0 < len(own) <= TINY_FVLM.proposals.post_nms_topk
        assert (own.boxes >= 0).all()
        assert (own.boxes <= torch.tensor([size[1], size[0]]).repeat(2)).all()
        [alone] = model.propose(
            model.judge(model.levels(model.maps(model.prepare([image])))), [size]
        )
        torch.testing.assert_close(alone.boxes, own.boxes, atol=1e-3, rtol=1e-4)


def test_the_frozen_clip_stays_in_eval_mode_and_gives_no_gradient() -> None:
    model = build(TINY_FVLM).train()
    assert model.neck.training
    assert not any(each.training for each in model.encoder.modules())
    assert not any(each.requires_grad for each in model.encoder.parameters())
    maps = model.maps(torch.rand(1, 3, 64, 64))
    assert not any(each.requires_grad for each in (*maps.scales, maps.clip))


@torch.no_grad()
def test_region_vectors_of_a_whole_image_are_its_own() -> None:
    model = tiny_fvit()
    image = torch.rand(1, 3, 64, 64)
    maps = model.maps(image)
    whole = model.tower.region_features(maps.clip, [torch.tensor([[0.0, 0, 64, 64]])])
    torch.testing.assert_close(whole, model.encoder.encode_image(image))
    assert model.tower.region_features(maps.clip, [torch.zeros(0, 4)]).shape == (0, 12)


def test_a_model_carries_the_classes_it_is_given() -> None:
    model = tiny_fvit()
    carry_classes(model, ("a", "b", "c"), torch.ones(3, 12))
    assert model.config.own_class_names == ("a", "b", "c")
    assert model.class_embeddings.shape == (3, 12)
    assert build(model.config).class_embeddings.shape == (3, 12)


def test_a_configuration_without_a_frozen_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="names no frozen CLIP"):
        build(replace(TINY_FVLM, resnet=None))


def test_a_transferred_model_treats_all_classes_alike_and_has_no_masks() -> None:
    model = tiny_fvit()
    carry_classes(model, ("a", "b"), torch.ones(2, 12))
    transfer_to(model, "voc")
    config = model.config
    assert (config.base_exponent, config.novel_exponent) == (0.3, 0.3)
    assert (config.detector_scale, config.clip_scale) == (50.0, 120.0)
    assert build(config).state_dict().keys() == model.state_dict().keys()


@torch.no_grad()
def test_a_frozen_vit_gives_tokens_on_four_scales_and_regions_of_its_dense_map() -> None:
    model = tiny_fvit(TINY_FVIT)
    assert model.strides == (2.0, 4.0, 8.0, 16.0, 32.0)
    images = model.prepare([torch.rand(3, 40, 50)])
    assert images.shape == (1, 3, 128, 128)
    maps = model.maps(images)
    assert [each.shape for each in maps.scales] == [(1, 16, 16, 16)] * 4
    assert [level.shape[-1] for level in model.levels(maps)] == [64, 32, 16, 8, 4]
    torch.testing.assert_close(maps.clip.norm(dim=1), torch.ones(1, 16, 16))
    # a box of one cell, and a box of four
    boxes = torch.tensor([[16.0, 24, 24, 32], [0, 0, 16, 16]])
    cells = model.tower.region_features(maps.clip, [boxes])
    torch.testing.assert_close(cells[0], maps.clip[0, :, 3, 2])
    torch.testing.assert_close(cells[1], maps.clip[0, :, :2, :2].mean(dim=(1, 2)))


def test_only_one_clip_is_frozen() -> None:
    with pytest.raises(ValueError, match="one CLIP is frozen, got resnet and vit"):
        replace(TINY_FVIT, resnet=TINY_FVLM.resnet)
