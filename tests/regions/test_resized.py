import pytest
import torch

from regionclip.regions.map_regions import MapRegions
from regionclip.regions.resized import ResizedRegions
from regionclip.structures import PreparedImage
from tests.tiny_clip import tiny_clip

BOXES = torch.tensor([[8.0, 4.0, 40.0, 36.0], [0.0, 0.0, 64.0, 48.0]])


def prepared(height: int, width: int) -> PreparedImage:
    rows = torch.linspace(0, 1, height)[:, None] * torch.linspace(1, 0, width)
    return PreparedImage(rows.expand(3, -1, -1).clone(), (height, width), "ramp")


def test_an_image_of_that_size_is_seen_as_it_is() -> None:
    inner = MapRegions(tiny_clip())
    seen = ResizedRegions(inner, shortest_side=48).view([prepared(48, 64)]).of(0)
    expected = inner.view([prepared(48, 64)]).of(0)
    assert torch.equal(seen.features(BOXES), expected.features(BOXES))
    assert seen.features(BOXES[:0]).shape == (0, 12)


def test_boxes_follow_the_image() -> None:
    inner = MapRegions(tiny_clip())
    seen = ResizedRegions(inner, shortest_side=96).view([prepared(48, 64)]).of(0)
    expected = inner.view([prepared(96, 128)]).of(0)
    # a ramp is nearly the same, drawn twice as large or resized
    similar = torch.cosine_similarity(seen.features(BOXES), expected.features(2 * BOXES))
    assert (similar > 0.999).all()
    cells = expected.last_stage_cells(2 * BOXES)
    torch.testing.assert_close(seen.last_stage_cells(BOXES), cells, rtol=0.2, atol=0.05)


def test_masks_and_sizes_that_are_none_are_refused() -> None:
    inner = MapRegions(tiny_clip())
    view = ResizedRegions(inner, shortest_side=96).view([prepared(48, 64)]).of(0)
    with pytest.raises(NotImplementedError, match="masks are not resized"):
        view.features(BOXES, masks=torch.ones(2, 48, 64, dtype=torch.bool))
    with pytest.raises(ValueError, match="shortest_side must be at least 1, got 0"):
        ResizedRegions(inner, shortest_side=0)
