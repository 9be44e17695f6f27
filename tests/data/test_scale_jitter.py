import pytest
import torch
from PIL import Image

from regionclip.data.datasets import Objects
from regionclip.data.scale_jitter import ScaleJitter


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture() -> Image.Image:
    """200 x 100, black but for a white box at (40, 20) to (80, 60)."""
    image = Image.new("RGB", (200, 100))
    image.paste((255, 255, 255), (40, 20, 80, 60))
    return image


def objects() -> Objects:
    return Objects(
        boxes=torch.tensor([[40.0, 20, 80, 60]]),
        labels=torch.tensor([3]),
        is_crowd=torch.zeros(1, dtype=torch.bool),
        is_difficult=torch.zeros(1, dtype=torch.bool),
        segmentations=([[40.0, 20, 80, 20, 80, 60, 40, 60]],),
    )


def jitter(low: float, high: float, *, flip_share: float = 0.0) -> ScaleJitter:
    return ScaleJitter(
        shortest_sides=(64,), longest_side=64, factors=(low, high), flip_share=flip_share
    )


def test_a_factor_below_one_leaves_a_small_whole_image() -> None:
    pixels, targets = jitter(0.5, 0.5).vary(picture(), objects(), generator=generator())
    assert pixels.shape == (3, 16, 32)
    torch.testing.assert_close(targets.boxes, torch.tensor([[6.4, 3.2, 12.8, 9.6]]))
    assert targets.labels.tolist() == [3]


@pytest.mark.parametrize("flip_share", [0.0, 1.0])
def test_a_large_factor_cuts_a_square_and_boxes_and_outlines_follow(flip_share: float) -> None:
    seen = 0
    for seed in range(12):
        pixels, targets = jitter(3.0, 3.0, flip_share=flip_share).vary(
            picture(), objects(), generator=generator(seed), with_polygons=True
        )
        assert pixels.shape == (3, 64, 64)
        if len(targets) == 0:
            assert pixels.mean() < 0.1
            continue
        x0, y0, x1, y1 = targets.boxes[0].round().int().tolist()
        assert 0 <= x0 < x1 <= 64
        assert 0 <= y0 < y1 <= 64
        inside = pixels[:, y0:y1, x0:x1]
        if min(y1 - y0, x1 - x0) > 4:
            assert inside.mean() > 0.8
            assert (pixels.sum() - inside.sum()) / pixels.numel() < 0.1
        assert targets.polygons is not None
        corners = targets.polygons[0][0]
        torch.testing.assert_close(
            torch.stack([corners.amin(0), corners.amax(0)]).clamp(0, 64).flatten(),
            targets.boxes[0],
        )
        seen += 1
    assert seen > 3


def test_the_same_seed_gives_the_same_and_factors_vary() -> None:
    own = jitter(0.2, 2.0)
    first, again = (own.vary(picture(), objects(), generator=generator(4))[0] for _ in range(2))
    assert torch.equal(first, again)
    sizes = {own.vary(picture(), objects(), generator=generator(n))[0].shape for n in range(5)}
    assert len(sizes) > 2


def test_factors_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="factors must be positive and in that order"):
        jitter(2.0, 0.1)
