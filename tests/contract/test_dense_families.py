"""What every family of dense models owes any image and any number of regions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from regionclip.detect import Detector
from regionclip.loading.dense import dense_detector_of
from regionclip.loading.detic import detic_detector_of
from regionclip.loading.detic_cascade import cascade_detector_of
from regionclip.loading.fvit import fvit_detector_of
from regionclip.loading.open_clip import in_dense_form, open_clip_detector_of
from regionclip.methods.clim.config import ClimConfig
from regionclip.methods.clim.model import Clim
from regionclip.methods.clipself.config import ClipSelfConfig
from regionclip.methods.clipself.model import ClipSelf
from regionclip.methods.fvit.config import FvitConfig
from regionclip.regions.embedder import RegionEmbedder
from regionclip.structures import PreparedImage
from tests.cascade_files import tiny_cascade
from tests.detic_files import detect_one, tiny_detic
from tests.fvit_files import TINY_FVIT, TINY_FVLM, tiny_fvit
from tests.tiny_clip import TINY, tiny_clip
from tests.tiny_dense import TINY_VIT, tiny_dense
from tests.tiny_eva import TINY_EVA, tiny_eva
from tests.tiny_open_clip import TINY_CONVNEXT, TINY_SIGLIP, tiny_named

Made = Callable[[Path], Detector]


def _vit(_folder: Path) -> Detector:
    model = Clim(ClimConfig(vit=TINY_VIT, longest_side=64))
    model.encoder.load_state_dict(tiny_dense().state_dict())
    return dense_detector_of(model.requires_grad_(False).eval())


def _resnet(_folder: Path) -> Detector:
    model = Clim(ClimConfig(vit=None, resnet=TINY, pooling="attention", longest_side=64))
    model.encoder.load_state_dict(tiny_clip().state_dict())
    return dense_detector_of(model.requires_grad_(False).eval())


def _eva(_folder: Path) -> Detector:
    model = ClipSelf(ClipSelfConfig(encoder=TINY_EVA, longest_side=64))
    model.encoder.load_state_dict(tiny_eva().state_dict())
    return dense_detector_of(model.requires_grad_(False).eval())


def _named(name: str) -> Made:
    def made(folder: Path) -> Detector:
        encoder = tiny_named(name, folder).requires_grad_(False)
        found = open_clip_detector_of(in_dense_form(encoder, name).encoder)
        parts = replace(found.parts, shortest_side=64, longest_side=64)
        return Detector(parts, found.defaults)

    return made


def _frozen(config: FvitConfig) -> Made:
    def made(_folder: Path) -> Detector:
        model = tiny_fvit(config)
        return fvit_detector_of(model, model.encoder)

    return made


def _detic(_folder: Path) -> Detector:
    model = tiny_detic()
    return detic_detector_of(model, model.encoder)


def _cascade(_folder: Path) -> Detector:
    model = tiny_cascade()
    return cascade_detector_of(model, model.encoder)


FAMILIES: dict[str, Made] = {
    "CLIM's ViT": _vit,
    "CLIM's ResNet": _resnet,
    "CLIPSelf's EVA-02": _eva,
    "ConvNeXt": _named(TINY_CONVNEXT),
    "SigLIP": _named(TINY_SIGLIP),
    "F-ViT": _frozen(TINY_FVIT),
    "F-VLM's ResNet": _frozen(TINY_FVLM),
    "Detic, C4": _detic,
    "Detic, cascade": _cascade,
}
WITHOUT_MASKS = ("F-VLM's ResNet", "Detic, C4", "Detic, cascade")
BOXES = torch.tensor([[2.0, 3.0, 20.0, 30.0], [0.0, 0.0, 24.0, 33.0], [10.0, 10.0, 14.0, 12.0]])


@pytest.fixture(scope="module", params=FAMILIES)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Detector]:
    return request.param, FAMILIES[request.param](tmp_path_factory.mktemp("family"))


def prepared(height: int, width: int) -> PreparedImage:
    pixels = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height))
    return PreparedImage(pixels, (height, width), f"{height} x {width}")


def features(regions: RegionEmbedder, image: PreparedImage, boxes: Tensor = BOXES) -> Tensor:
    return regions.view([image]).of(0).features(boxes)


def test_twenty_sizes_go_through_one_model_and_none_changes_another(
    family: tuple[str, Detector],
) -> None:
    regions = family[1].parts.regions
    images = [prepared(33 + number, 64 - 2 * number) for number in range(20)]
    with torch.no_grad():
        first = features(regions, images[0])
        for image in images:
            assert features(regions, image).isfinite().all(), image.name
        assert features(regions, images[0]).equal(first)
        # an image that lies on its side beside one that stands
        both = regions.view([images[0], images[-1]])
        torch.testing.assert_close(both.of(0).features(BOXES), first, rtol=1e-4, atol=1e-5)
        alone = features(regions, images[-1])
        torch.testing.assert_close(both.of(1).features(BOXES), alone, rtol=1e-4, atol=1e-5)


def test_one_region_is_as_among_others_and_none_gives_no_row(family: tuple[str, Detector]) -> None:
    regions, image = family[1].parts.regions, prepared(40, 64)
    with torch.no_grad():
        all_rows = features(regions, image)
        one, none = features(regions, image, BOXES[1:2]), features(regions, image, BOXES[:0])
    torch.testing.assert_close(one, all_rows[1:2], rtol=1e-4, atol=1e-5)
    assert none.shape == (0, all_rows.shape[1])
    # of one image, two places are not the same
    assert not torch.allclose(all_rows[0], all_rows[2], rtol=1e-3)


def test_no_box_and_one_box_are_named(family: tuple[str, Detector]) -> None:
    image = prepared(40, 64).pixels
    assert len(detect_one(family[1], image, ["cat"], boxes=torch.zeros(0, 4))) == 0
    found = detect_one(family[1], image, ["cat"], boxes=BOXES[:1])
    assert len(found) <= 1
    assert found.boxes.isfinite().all()


def test_masks_are_embedded_or_refused_and_one_of_nothing_always(
    family: tuple[str, Detector],
) -> None:
    name, detector = family
    pixels, masks = prepared(40, 64).pixels, torch.zeros(2, 40, 64, dtype=torch.bool)
    masks[0, 5:20, 8:30] = True
    with pytest.raises(ValueError, match="mask 1 of image has no pixel"):
        detector.encode_regions(pixels, masks)
    if name in WITHOUT_MASKS:
        with pytest.raises(ValueError, match="not masks"):
            detector.encode_regions(pixels, masks[:1])
        return
    vectors = detector.encode_regions(pixels, masks[:1])
    assert vectors.isfinite().all()
    assert vectors.norm() > 0
