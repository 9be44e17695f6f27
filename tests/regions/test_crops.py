import pytest
import torch
from torch.nn import functional as F

from regionclip.regions.crops import CropRegions
from regionclip.regions.embedder import BatchView, RegionEmbedder, RegionView
from regionclip.structures import PreparedImage
from tests.tiny_clip import TINY, tiny_clip

BOXES = torch.tensor([[0.0, 0.0, 64.0, 64.0], [10.0, 8.0, 60.0, 50.0], [3.2, 4.7, 3.9, 4.9]])


def image(height: int = 64, width: int = 64) -> PreparedImage:
    generator = torch.Generator().manual_seed(0)
    return PreparedImage(torch.rand(3, height, width, generator=generator), (height, width), "x")


def test_crop_regions_are_a_region_embedder() -> None:
    regions = CropRegions(tiny_clip())
    assert isinstance(regions, RegionEmbedder)
    assert isinstance(regions.view([image()]), BatchView)
    assert isinstance(regions.view([image()]).of(0), RegionView)


def test_a_box_of_the_whole_image_is_the_image() -> None:
    encoder = tiny_clip()
    found = CropRegions(encoder).view([image()]).of(0).features(BOXES[:1])
    expected = encoder.encode_image(encoder.prepare([image().pixels]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_crop_is_cut_and_squeezed_to_the_encoders_size() -> None:
    encoder, pixels = tiny_clip(), image(90, 120).pixels
    found = CropRegions(encoder).view([image(90, 120)]).of(0).features(BOXES[1:2])
    crop = pixels[:, 8:50, 10:60][None]
    crop = F.interpolate(crop, (64, 64), mode="bicubic", antialias=True).clamp(0, 1)
    expected = encoder.encode_image(encoder.prepare([crop[0]]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_batches_of_one_give_the_same_rows() -> None:
    encoder = tiny_clip()
    wide = CropRegions(encoder).view([image()]).of(0).features(BOXES)
    narrow = CropRegions(encoder, batch_size=1).view([image()]).of(0).features(BOXES)
    torch.testing.assert_close(narrow, wide, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "box", [[3.2, 4.7, 3.9, 4.9], [64.0, 64.0, 64.0, 64.0], [5.0, 5.0, 5.0, 5.0]]
)
def test_a_box_smaller_than_a_pixel_takes_one_pixel(box: list[float]) -> None:
    found = CropRegions(tiny_clip()).view([image()]).of(0).features(torch.tensor([box]))
    assert found.isfinite().all()


def test_pixels_outside_the_mask_have_no_influence() -> None:
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, :32] = True
    changed = image().pixels.clone()
    changed[:, 32:] = 1 - changed[:, 32:]
    regions = CropRegions(tiny_clip())
    first = regions.view([image()]).of(0).features(BOXES[:1], masks=masks)
    second = (
        regions.view([PreparedImage(changed, (64, 64), "y")]).of(0).features(BOXES[:1], masks=masks)
    )
    torch.testing.assert_close(first, second)
    unmasked = regions.view([image()]).of(0).features(BOXES[:1])
    assert not torch.allclose(first, unmasked)


def test_zero_boxes_give_zero_rows() -> None:
    found = CropRegions(tiny_clip()).view([image()]).of(0).features(BOXES[:0])
    assert found.shape == (0, TINY.embed_dim)


def test_crops_have_no_cells_for_masks() -> None:
    with pytest.raises(NotImplementedError, match="not whole crops"):
        CropRegions(tiny_clip()).view([image()]).of(0).last_stage_cells(BOXES)
