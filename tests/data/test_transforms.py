import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.data.transforms import (
    detr_size,
    longest_size,
    maps_by_size,
    normalize_and_pad,
    pixels_of,
    resize_shortest_edge,
)


def size_after(width: int, height: int) -> tuple[int, int]:
    """Width and height with the originals' numbers."""
    resized = resize_shortest_edge(Image.new("RGB", (width, height)), shortest=800, longest=1333)
    return resized.shape[2], resized.shape[1]


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((640, 480), (1067, 800)),  # 640 * 800 / 480 = 1066.67
        ((480, 640), (800, 1067)),
        ((800, 800), (800, 800)),
        ((500, 200), (1333, 533)),  # 2000 is above 1333: 533.2
        ((2416, 1208), (1333, 666)),  # 666.5 but for the rounding of the originals' two steps
        ((4000, 1), (1333, 1)),
    ],
)
def test_sides_are_those_of_the_originals(size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert size_after(*size) == resized


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((640, 480), (1066, 800)),  # 1066.67, rounded down
        ((480, 640), (800, 1066)),
        ((420, 150), (1332, 476)),  # 1333 * 150 / 420 = 476.07; then 1332.8
        ((50, 50), (800, 800)),
        ((1000, 800), (1000, 800)),
        ((4000, 1), (4000, 1)),  # a side of 0.33 becomes 1, which it is already
    ],
)
def test_sides_are_those_of_detr(size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert detr_size(size, 800, 1333) == resized
    pixels = resize_shortest_edge(Image.new("RGB", size), shortest=800, longest=1333, rule="detr")
    assert pixels.shape == (3, resized[1], resized[0])


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((640, 480), 320, (320, 240)),
        ((480, 640), 320, (240, 320)),
        ((4, 1), 2, (2, 1)),  # 0.5 is rounded to 0, and no side is
        ((8, 3), 4, (4, 2)),  # 1.5 is rounded to even
        ((8, 5), 4, (4, 2)),  # and so is 2.5
        ((1000, 1), 10, (10, 1)),
    ],
)
def test_the_longer_side_is_as_asked_and_the_shape_is_kept(
    size: tuple[int, int], longest: int, expected: tuple[int, int]
) -> None:
    assert longest_size(size, longest) == expected


def test_resizing_is_pils_antialiased_bilinear_on_bytes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    resized = resize_shortest_edge(image, shortest=12, longest=100)
    expected = np.asarray(image.resize((20, 12), Image.Resampling.BILINEAR))
    assert torch.equal(resized * 255, torch.from_numpy(expected.copy()).permute(2, 0, 1).float())


def test_resizing_may_be_bicubic() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    resized = resize_shortest_edge(image, shortest=12, longest=100, interpolation="bicubic")
    expected = np.asarray(image.resize((20, 12), Image.Resampling.BICUBIC))
    assert torch.equal(resized * 255, torch.from_numpy(expected.copy()).permute(2, 0, 1).float())


def test_an_image_of_the_right_size_keeps_its_pixels() -> None:
    image = Image.new("RGB", (4, 2), (0, 51, 255))
    resized = resize_shortest_edge(image, shortest=2, longest=9)
    assert torch.allclose(resized[:, 0, 0], torch.tensor([0.0, 0.2, 1.0]))
    assert torch.equal(resized, pixels_of(image))


def test_padding_is_zero_after_normalisation_and_right_and_below() -> None:
    images = [torch.full((3, 2, 4), 0.5), torch.full((3, 3, 1), 1.0)]
    batch = normalize_and_pad(images, mean=(0.5, 0.0, 1.0), std=(0.5, 0.25, 2.0))
    assert batch.shape == (2, 3, 3, 4)
    expected = torch.tensor([0.0, 2.0, -0.25])  # (0.5 - mean) / std
    assert torch.equal(batch[0, :, :2], expected[:, None, None].expand(3, 2, 4))
    assert batch[0, :, 2].eq(0).all()
    assert batch[1, :, 0, 0].tolist() == [1, 4, 0]
    assert batch[1, :, :, 1:].eq(0).all()


def test_batches_are_rounded_up_to_the_divisor() -> None:
    batch = normalize_and_pad(
        [torch.ones(3, 33, 32)], mean=(0.0,) * 3, std=(1.0,) * 3, size_divisor=32
    )
    assert batch.shape == (1, 3, 64, 32)
    assert batch.sum() == 3 * 33 * 32


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch needs at least one image"):
        normalize_and_pad([], mean=(0.0,) * 3, std=(1.0,) * 3)


def test_images_of_one_size_are_computed_together_and_stay_in_their_order() -> None:
    images = [torch.full((3, side, side), float(row)) for row, side in enumerate((4, 8, 4))]
    batches: list[int] = []

    def compute(own: list[torch.Tensor]) -> list[torch.Tensor]:
        batches.append(len(own))
        whole = torch.stack(own)
        return [whole, whole[:, :1, ::2, ::2]]

    found = maps_by_size(images, compute)
    assert batches == [2, 1]
    for image, (fine, coarse) in zip(images, found, strict=True):
        assert torch.equal(fine, image[None])
        assert torch.equal(coarse, image[None, :1, ::2, ::2])
    assert maps_by_size([], compute) == []
