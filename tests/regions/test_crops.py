from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.regions.crops import CropRegions
from regionclip.regions.embedder import BatchView, RegionEmbedder, RegionView
from regionclip.structures import PreparedImage
from tests.tiny_clip import TINY, tiny_clip, tiny_vit

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


class BatchCounter:
    """An ``encode_image`` that notes how many crops it is given."""

    def __init__(self, encoder: ClipResNet) -> None:
        self._encode = encoder.encode_image
        self.sizes: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        return self._encode(images)


# the tiny tower's largest output is 8 channels of 32 x 32; a crop is 3 x 64 x 64; float32
BYTES_PER_CROP = 4 * (4 * 8 * 32 * 32 + 3 * 3 * 64 * 64)


@pytest.mark.parametrize(
    ("num_bytes", "sizes"),
    [
        (1, [1, 1, 1, 1, 1, 1, 1]),
        (3 * BYTES_PER_CROP - 1, [2, 2, 2, 1]),
        (3 * BYTES_PER_CROP, [3, 3, 1]),
        (1 << 40, [5, 2]),
    ],
)
def test_a_memory_budget_sets_how_many_crops_go_at_a_time(
    num_bytes: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny_clip()
    regions = CropRegions(encoder, memory_budget=num_bytes, batch_size=5)
    assert regions.chunk_size == sizes[0]
    counter = BatchCounter(encoder)
    monkeypatch.setattr(encoder, "encode_image", counter)
    boxes = BOXES[:2].repeat(4, 1)[:7]
    found = regions.view([image()]).of(0).features(boxes)
    assert counter.sizes == sizes
    torch.testing.assert_close(
        found, CropRegions(encoder).view([image()]).of(0).features(boxes), rtol=1e-4, atol=1e-5
    )


def test_one_region_is_encoded_without_measuring_the_tower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = tiny_clip()
    counter = BatchCounter(encoder)
    monkeypatch.setattr(encoder, "encode_image", counter)
    CropRegions(encoder).view([image()]).of(0).features(BOXES[:1])
    assert counter.sizes == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_budget": 0}, "memory_budget must be positive, got 0 bytes"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_a_budget_of_nothing_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CropRegions(tiny_clip(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make_encoder", [tiny_clip, tiny_vit])
def test_reduced_precision_gives_nearly_the_same_vectors_in_float32(
    make_encoder: Callable[[], ClipResNet | OpenClipEncoder], dtype: torch.dtype
) -> None:
    encoder = make_encoder()
    whole = CropRegions(encoder).view([image()]).of(0).features(BOXES)
    regions = CropRegions(encoder, dtype=dtype)
    half = regions.view([image()]).of(0).features(BOXES)
    assert half.dtype == torch.float32
    assert not torch.equal(half, whole)
    assert torch.cosine_similarity(half, whole).min() > 0.99
    none = regions.view([image()]).of(0).features(BOXES[:0])
    assert none.shape == (0, whole.shape[1])
    assert none.dtype == torch.float32


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
