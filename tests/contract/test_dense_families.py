"""What every family of dense models owes any image and any number of regions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from regionclip.detect import Detector
from regionclip.encoders.dense import DenseEncoder
from regionclip.loading.dense import dense_detector_of
from regionclip.loading.detic import detic_detector_of
from regionclip.loading.detic_cascade import cascade_detector_of
from regionclip.loading.fvit import fvit_detector_of
from regionclip.loading.mean_clip import mean_clip_detector_of
from regionclip.loading.open_clip import in_dense_form, open_clip_detector_of
from regionclip.methods.clim.config import ClimConfig
from regionclip.methods.clim.model import Clim
from regionclip.methods.clipself.config import ClipSelfConfig
from regionclip.methods.clipself.model import ClipSelf
from regionclip.methods.fvit.config import FvitConfig
from regionclip.regions.dense_regions import DenseRegions
from regionclip.regions.embedder import RegionEmbedder, RegionSource
from regionclip.structures import PreparedImage
from tests.cascade_files import tiny_cascade
from tests.detic_files import detect_one, tiny_detic
from tests.fvit_files import TINY_FVIT, TINY_FVLM, tiny_fvit
from tests.tiny_clip import TINY, tiny_clip
from tests.tiny_dense import TINY_VIT, tiny_dense
from tests.tiny_eva import TINY_EVA, tiny_eva
from tests.tiny_mean import tiny_mean
from tests.tiny_open_clip import TINY_CONVNEXT, TINY_SIGLIP, tiny_named
from tests.tiny_timm import dense_tower

Made = Callable[[Path], Detector]


def _vit(_folder: Path, regions: RegionSource = "map") -> Detector:
    model = Clim(ClimConfig(vit=TINY_VIT, longest_side=64, padding="cells"))
    model.encoder.load_state_dict(tiny_dense().state_dict())
    return dense_detector_of(model.requires_grad_(False).eval(), regions=regions)


def _resnet(_folder: Path, regions: RegionSource = "map") -> Detector:
    config = ClimConfig(
        vit=None, resnet=TINY, pooling="attention", longest_side=64, padding="cells"
    )
    model = Clim(config)
    model.encoder.load_state_dict(tiny_clip().state_dict())
    return dense_detector_of(model.requires_grad_(False).eval(), regions=regions)


def _eva(_folder: Path) -> Detector:
    model = ClipSelf(ClipSelfConfig(encoder=TINY_EVA, longest_side=64, padding="cells"))
    model.encoder.load_state_dict(tiny_eva().state_dict())
    return dense_detector_of(model.requires_grad_(False).eval())


def _named(name: str) -> Made:
    def made(folder: Path) -> Detector:
        encoder = tiny_named(name, folder).requires_grad_(False)
        return _in_cells(in_dense_form(encoder, name).encoder)

    return made


def _of_timm(name: str) -> Made:
    def made(_folder: Path) -> Detector:
        return _in_cells(dense_tower(name))

    return made


def _in_cells(encoder: DenseEncoder) -> Detector:
    """By name these fill images up to squares; here their maps are as oblong as the images."""
    found = open_clip_detector_of(encoder)
    regions = DenseRegions(encoder, padding="cells")
    parts = replace(found.parts, regions=regions, shortest_side=64, longest_side=64)
    return Detector(parts, found.defaults)


def _mean(trunk: str) -> Made:
    def made(_folder: Path) -> Detector:
        # nobody else's, who may have looked at other sizes
        found = mean_clip_detector_of(tiny_mean.__wrapped__(trunk))
        parts = replace(found.parts, shortest_side=64, longest_side=96)
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
    "CLIM's ViT, mask attention": partial(_vit, regions="mask-attention"),
    "CLIM's ViT, crops": partial(_vit, regions="crops"),
    "CLIM's ResNet": _resnet,
    "CLIM's ResNet, dense": partial(_resnet, regions="dense"),
    "CLIPSelf's EVA-02": _eva,
    "EVA by open_clip's names": _of_timm("eva enormous"),
    "PE-Core": _of_timm("pe"),
    "PE-Core without class token": _of_timm("pe without class token"),
    "ConvNeXt": _named(TINY_CONVNEXT),
    "SigLIP": _named(TINY_SIGLIP),
    "MeanClip's ViT": _mean("vit"),
    "MeanClip's FocalNet": _mean("focalnet"),
    "F-ViT": _frozen(TINY_FVIT),
    "F-VLM's ResNet": _frozen(TINY_FVLM),
    "Detic, C4": _detic,
    "Detic, cascade": _cascade,
}
OF_ONE_SIZE = ("CLIM's ViT, crops", "F-ViT", "F-VLM's ResNet")
"""Crops are squeezed to one size, and detectors fill images up to one square."""
GRIDS = [(rows, columns) for rows in range(2, 7) for columns in range(2, 7) if rows != columns]
"""20, none of them square; some have as many cells as others, in another form."""
AFRESH = (GRIDS.index((3, 2)), len(GRIDS) - 1)
"""Those that a model that has seen nothing else is asked about, too."""
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


def side_of_cells(name: str, detector: Detector) -> int:
    """Pixels: of a map's cells, or such that 20 images of so many are 20 for the networks too."""
    if detector.parts.dense_tower is not None:
        return detector.parts.dense_tower.cell
    return 16 if name in OF_ONE_SIZE else 32  # the largest stride of any


@contextmanager
def sizes_seen() -> Iterator[list[tuple[int, ...]]]:
    """Sizes of all that networks give."""
    seen: list[tuple[int, ...]] = []

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            seen.append(tuple(output.shape))

    hook = register_module_forward_hook(note)
    try:
        yield seen
    finally:
        hook.remove()


@torch.no_grad()
def test_twenty_oblong_sizes_go_through_one_model_and_none_changes_another(
    family: tuple[str, Detector], tmp_path: Path
) -> None:
    name, detector = family
    regions, cell = detector.parts.regions, side_of_cells(*family)
    images = [prepared(rows * cell, columns * cell) for rows, columns in GRIDS]
    first = features(regions, images[0])
    found, sizes = [], set()
    for image in images:
        with sizes_seen() as own:
            found.append(features(regions, image))
        assert found[-1].isfinite().all(), image.name
        sizes.add(tuple(own))
    assert len(sizes) == (1 if name in OF_ONE_SIZE else 20)
    for index in AFRESH:
        fresh = FAMILIES[name](tmp_path / str(index)).parts.regions
        expected = features(fresh, images[index])
        torch.testing.assert_close(found[index], expected)
    assert found[0].equal(first)
    assert features(regions, images[0]).equal(first)
    # an image that lies on its side beside one that stands
    both = regions.view([images[0], images[-1]])
    torch.testing.assert_close(both.of(0).features(BOXES), found[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both.of(1).features(BOXES), found[-1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_tower_of_a_detector_of_squares_gives_maps_of_twenty_oblong_grids(
    tmp_path: Path,
) -> None:
    tower, *fresh = (FAMILIES["F-ViT"](tmp_path).parts.dense_tower for _ in range(3))
    assert tower is not None
    sides = [(rows * tower.cell, columns * tower.cell) for rows, columns in GRIDS]
    images = [torch.randn(1, 3, *each) for each in sides]
    maps = [tower.dense_features(image) for image in images]
    assert [tuple(each.shape) for each in maps] == [(1, tower.embed_dim, *grid) for grid in GRIDS]
    for index, other in zip(AFRESH, fresh, strict=True):
        assert other is not None
        torch.testing.assert_close(maps[index], other.dense_features(images[index]))


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
