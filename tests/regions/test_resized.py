"""Regions of resized images, seen by an embedder that tells what it was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from regionclip.regions.map_regions import MapRegions
from regionclip.regions.resized import ResizedRegions
from regionclip.structures import PreparedImage
from tests.tiny_clip import tiny_clip

BOXES = torch.tensor([[8.0, 4.0, 40.0, 36.0], [0.0, 0.0, 64.0, 48.0]])


@dataclass(frozen=True)
class MeanPixel:
    """The vector of a region of one image: its mean pixel, then its box."""

    image: PreparedImage

    def features(self, boxes: Tensor, *, masks: Tensor | None = None) -> Tensor:
        rows = [self.image.pixels[:, y0:y1, x0:x1] for x0, y0, x1, y1 in boxes.round().long()]
        means = [own.mean(dim=(1, 2)) for own in rows]
        return torch.cat([torch.stack(means), boxes], dim=1) if means else torch.zeros(0, 7)

    def last_stage_cells(self, boxes: Tensor) -> Tensor:
        return boxes[:, :, None, None]


@dataclass(frozen=True)
class MeanPixels:
    images: Sequence[PreparedImage]

    def of(self, index: int) -> MeanPixel:
        return MeanPixel(self.images[index])


class MeanPixelRegions:
    def view(self, images: Sequence[PreparedImage]) -> MeanPixels:
        return MeanPixels(images)


def prepared(height: int, width: int) -> PreparedImage:
    """The left half dark, the right half bright."""
    pixels = torch.zeros(3, height, width)
    pixels[:, :, width // 2 :] = 1
    return PreparedImage(pixels, (height, width), "halves")


def test_boxes_and_pixels_follow_the_image_in_each_direction() -> None:
    # 20 x 40 becomes 30 x 60; 10 x 15 becomes 30 x 45; 13 x 10 becomes 39 x 30
    images = [prepared(20, 40), prepared(10, 15), prepared(13, 10)]
    views = ResizedRegions(MeanPixelRegions(), shortest_side=30).view(images)
    dark, bright = torch.tensor([0.0] * 3), torch.tensor([1.0] * 3)
    for index, (box, expected, color) in enumerate(
        [
            ((4, 2, 18, 10), (6, 3, 27, 15), dark),
            ((9, 1, 15, 10), (27, 3, 45, 30), bright),
            ((6, 5, 10, 13), (18, 15, 30, 39), bright),
        ]
    ):
        own = torch.tensor([box], dtype=torch.float32)
        found = views.of(index).features(own)[0]
        torch.testing.assert_close(found[3:], torch.tensor(expected, dtype=torch.float32))
        torch.testing.assert_close(found[:3], color)
        cells = views.of(index).last_stage_cells(own)
        assert cells.flatten().tolist() == pytest.approx(expected)


def test_sides_that_are_rounded_have_scales_of_their_own() -> None:
    # 10 x 16 at 7 is 7 x 11, not 7 x 11.2: a box of the whole image stays one
    view = ResizedRegions(MeanPixelRegions(), shortest_side=7).view([prepared(10, 16)]).of(0)
    found = view.features(torch.tensor([[0.0, 0.0, 16.0, 10.0]]))[0, 3:]
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 11.0, 7.0]))


def test_all_pixels_count_where_an_image_becomes_smaller() -> None:
    # every fourth column is bright; of two neighbours a plain bilinear filter would see none
    pixels = (torch.arange(32) % 4 == 0).float().expand(3, 32, 32).clone()
    image = PreparedImage(pixels, (32, 32), "stripes")
    view = ResizedRegions(MeanPixelRegions(), shortest_side=8).view([image]).of(0)
    found = view.features(torch.tensor([[8.0, 8.0, 24.0, 24.0]]))[0]
    assert found[:3].tolist() == pytest.approx([0.25] * 3, abs=0.02)
    assert found[3:].tolist() == [2, 2, 6, 6]


def test_an_image_of_that_size_is_seen_as_it_is() -> None:
    inner = MapRegions(tiny_clip())
    seen = ResizedRegions(inner, shortest_side=48).view([prepared(48, 64)]).of(0)
    expected = inner.view([prepared(48, 64)]).of(0)
    assert torch.equal(seen.features(BOXES), expected.features(BOXES))
    assert seen.features(BOXES[:0]).shape == (0, 12)


def test_masks_and_sizes_that_are_none_are_refused() -> None:
    view = ResizedRegions(MeanPixelRegions(), shortest_side=96).view([prepared(48, 64)]).of(0)
    with pytest.raises(NotImplementedError, match="masks are not resized"):
        view.features(BOXES, masks=torch.ones(2, 48, 64, dtype=torch.bool))
    with pytest.raises(ValueError, match="shortest_side must be at least 1, got 0"):
        ResizedRegions(MeanPixelRegions(), shortest_side=0)
