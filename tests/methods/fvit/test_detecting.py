from dataclasses import replace

import pytest
import torch

from regionclip.detect import Detector
from regionclip.loading.fvit import fvit_detector_of
from regionclip.proposals.proposer import Localizer, NovelClasses
from regionclip.regions.embedder import RegionEmbedder
from regionclip.scoring.regions import RegionScorer
from regionclip.structures import PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary
from tests.fvit_files import TINY_FVIT, TINY_FVLM, detect_one, tiny_fvit

BOXES = torch.tensor([[10.0, 5, 60, 50], [0, 0, 120, 90], [70, 20, 110, 85]])


@pytest.fixture(scope="module")
def detector() -> Detector:
    model = tiny_fvit()
    return fvit_detector_of(model, model.encoder)


def image() -> torch.Tensor:
    return torch.rand(3, 90, 120, generator=torch.Generator().manual_seed(1))


def vocabulary(detector: Detector, *names: str) -> Vocabulary:
    """Vectors that differ: those of an untrained text tower are parallel."""
    rows = torch.randn(len(names), 12, generator=torch.Generator().manual_seed(0))
    return Vocabulary(names, rows, (), detector.encoder_id)


def test_its_parts_are_what_the_stages_ask_for(detector: Detector) -> None:
    assert isinstance(detector.parts.localizer, Localizer)
    assert isinstance(detector.parts.scorer, RegionScorer)
    assert isinstance(detector.parts.regions, RegionEmbedder)


def test_it_finds_named_classes_with_masks_inside_the_image(detector: Detector) -> None:
    options = replace(detector.defaults, with_masks=True, with_features=True)
    found = detect_one(detector, image(), vocabulary(detector, "cat", "zebra"), options=options)
    assert len(found) > 0
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert ((found.scores > 0) & (found.scores <= 1)).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([120.0, 90, 120, 90])).all()
    assert found.masks is not None
    assert found.masks.shape == (len(found), 90, 120)
    assert found.features is not None
    assert found.objectness is not None


def test_given_boxes_are_named_and_moved_by_the_box_head(detector: Detector) -> None:
    words = vocabulary(detector, "cat", "zebra")
    moved = detect_one(detector, image(), words, boxes=BOXES)
    options = replace(detector.defaults, use_box_deltas=False)
    kept = detect_one(detector, image(), words, boxes=BOXES, options=options)
    assert len(kept) == len({tuple(row) for row in kept.boxes.tolist()}) * 2
    assert not torch.equal(moved.boxes[0], kept.boxes[0])
    assert sorted(kept.scores.tolist()) == pytest.approx(sorted(moved.scores.tolist()))
    assert len(detect_one(detector, image(), words, boxes=BOXES[:0])) == 0


def test_scores_are_the_weighted_geometric_mean_of_both_opinions(detector: Detector) -> None:
    assert detector.parts.scorer is not None
    words = vocabulary(detector, "cat", "zebra")
    prepared = detector.prepare(image())
    boxes = BOXES / prepared.scale_xyxy
    view = detector.parts.regions.view([prepared]).of(0)
    scored = detector.parts.scorer.score(view, Proposals(boxes), words)
    model = tiny_fvit()
    levels = model.levels(model.maps(model.prepare([prepared.pixels])))
    unit = torch.nn.functional.normalize
    rows = unit(torch.cat([words.embeddings, model.background[None]]), dim=1)
    own = unit(model.answer(levels, [boxes]).embeddings, dim=1) @ rows.T * 50
    clip = unit(view.features(boxes), dim=1) @ rows.T * 75
    p, q = own.softmax(dim=1), clip.softmax(dim=1)
    # cat is a base class of the tiny model, zebra is none
    expected = torch.stack([p[:, 0] ** 0.9 * q[:, 0] ** 0.1, p[:, 1] ** 0.2 * q[:, 1] ** 0.8], 1)
    torch.testing.assert_close(scored.scores, expected)


def test_order_of_classes_and_images_changes_nothing(detector: Detector) -> None:
    one = detect_one(detector, image(), vocabulary(detector, "cat", "zebra"))
    words = vocabulary(detector, "cat", "zebra")
    turned = Vocabulary(("zebra", "cat"), words.embeddings.flip(0), (), words.encoder_id)
    both = detector.detect([torch.rand(3, 60, 120), image()], turned, batch_size=2)
    assert isinstance(both, list)
    other = both[1]
    assert [*one.names] == [*other.names]
    torch.testing.assert_close(one.boxes, other.boxes, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=1e-4)


def test_bfloat16_gives_nearly_the_same_scores() -> None:
    model = tiny_fvit()
    exact, rough = (
        detect_one(
            fvit_detector_of(model, model.encoder, dtype=dtype),
            image(),
            vocabulary(fvit_detector_of(model, model.encoder), "cat"),
            boxes=BOXES,
        )
        for dtype in (torch.float32, torch.bfloat16)
    )
    torch.testing.assert_close(exact.scores, rough.scores, atol=0.1, rtol=0.2)


def test_fixed_exponents_and_scales_are_what_a_transfer_needs() -> None:
    config = replace(
        TINY_FVLM, detector_scale=20.0, clip_scale=30.0, base_exponent=0.5, novel_exponent=0.5
    )
    model = tiny_fvit(config)
    detector = fvit_detector_of(model, model.encoder)
    words = vocabulary(detector, "cat", "zebra")
    before = detect_one(detector, image(), words, boxes=BOXES)
    with torch.no_grad():
        model.box_head.similarity_scale.fill_(3.0)
    after = detect_one(detector, image(), words, boxes=BOXES)
    assert torch.equal(before.scores, after.scores)


def test_region_vectors_are_the_frozen_clips_and_masks_are_refused(detector: Detector) -> None:
    assert detector.encode_regions(image(), BOXES).shape == (3, 12)
    assert detector.encode_regions(image(), BOXES[:0]).shape == (0, 12)
    with pytest.raises(ValueError, match="frozen ResNet pools boxes, not masks"):
        detector.encode_regions(image(), torch.ones(1, 90, 120, dtype=torch.bool))


def test_masks_are_named_on_the_dense_map_of_a_frozen_vit() -> None:
    model = tiny_fvit(TINY_FVIT)
    detector = fvit_detector_of(model, model.encoder)
    mask = torch.zeros(3, 128, 128, dtype=torch.bool)
    mask[0, 16:32, 8:24] = True
    mask[1] = True
    mask[2, 20, 40] = True
    picture = torch.rand(3, 128, 128)
    vectors = detector.encode_regions(picture, mask)
    boxes = torch.tensor([[8.0, 16, 24, 32], [0, 0, 128, 128], [40, 16, 48, 24]])
    torch.testing.assert_close(vectors, detector.encode_regions(picture, boxes))
    assert detector.encode_regions(picture, mask[:0]).shape == (0, 12)


def test_objectness_in_scores_and_foreign_views_are_refused(detector: Detector) -> None:
    words = vocabulary(detector, "cat")
    options = replace(detector.defaults, objectness_fusion="geometric")
    with pytest.raises(ValueError, match="scores regions in its own way"):
        detect_one(detector, image(), words, options=options)

    class OtherView:
        def features(self, boxes, *, masks=None):
            return torch.zeros(len(boxes), 12)

        def last_stage_cells(self, boxes):
            return boxes

    assert detector.parts.scorer is not None
    with pytest.raises(TypeError, match="expected a view of FvitRegions, got OtherView"):
        detector.parts.scorer.score(OtherView(), Proposals(BOXES), words)


def test_proposals_are_sorted_and_belong_to_their_image(detector: Detector) -> None:
    images = [PreparedImage(torch.rand(3, 96, 128), (96, 128), "a")] * 2
    assert detector.parts.localizer is not None
    words = vocabulary(detector, "cat")
    with pytest.raises(ValueError, match="takes all others as novel: leave out novel"):
        detector.parts.localizer.localize(images, words, NovelClasses(names=("cat",)))
    found, view = detector.parts.localizer.localize(images, words, NovelClasses())
    assert len(found) == 2
    for own in found:
        assert own.objectness is not None
        assert own.objectness.tolist() == sorted(own.objectness.tolist(), reverse=True)
    assert view.of(1).last_stage_cells(found[1].boxes[:2]).shape == (2, 8, 14, 14)
