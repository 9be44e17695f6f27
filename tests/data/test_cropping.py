from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.data.cropping import CroppingAugmentation, GeneratorChance, crop_and_resize
from regionclip.data.datasets import Objects
from regionclip.data.transforms import pixels_of
from regionclip.structures import Targets

PICTURE = Image.fromarray(
    np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8)  # height 20, width 40
)
OBJECTS = Objects.from_rows([[4, 2, 14, 12], [30, 10, 50, 18], [10, 25, 20, 30]], [2, 0, 1])


class Given:
    """Chance that is written down."""

    def __init__(self, *answers: bool | int | tuple[int, int]) -> None:
        self._answers: Iterator = iter(answers)

    def happens(self, share: float) -> bool:
        return bool(next(self._answers))

    def index(self, count: int) -> int:
        answer = next(self._answers)
        assert 0 <= answer < count
        return answer

    def between(self, low: int, high: int) -> int:
        answer = next(self._answers)
        assert low <= answer <= high
        return answer

    def corner(self, room_hw: tuple[int, int]) -> tuple[int, int]:
        answer = next(self._answers)
        assert all(0 <= own <= room for own, room in zip(answer, room_hw, strict=True))
        return answer


def plain(**changes: object) -> CroppingAugmentation:
    options = {
        "shortest_sides": (20, 40),
        "longest_side": 80,
        "crop_from_sides": (20,),
        "crop_sides": (8, 16),
    }
    return CroppingAugmentation(**(options | changes))  # type: ignore[arg-type]


def varied(*answers: bool | int | tuple[int, int]) -> tuple[torch.Tensor, Targets]:
    return crop_and_resize(PICTURE, OBJECTS, plain(), chance=Given(*answers))


def test_a_whole_image_is_resized_with_its_boxes_clipped() -> None:
    pixels, targets = varied(False, True, 1)
    assert pixels.shape == (3, 40, 80)
    # the third lies below the image
    assert targets.boxes.tolist() == [[8, 4, 28, 24], [60, 20, 80, 36]]
    assert targets.labels.tolist() == [2, 0]


def test_a_mirrored_image_has_mirrored_boxes() -> None:
    pixels, targets = varied(True, True, 0)
    assert torch.equal(pixels, pixels_of(PICTURE).flip(2))
    assert targets.boxes.tolist() == [[26, 2, 36, 12], [0, 10, 10, 18]]


def test_a_part_of_the_image_keeps_the_objects_in_it() -> None:
    # 16 wide, 10 high, from (1, 3) on; then the shorter side becomes 20
    pixels, targets = varied(False, False, 0, 16, 10, (1, 3), 0)
    assert pixels.shape == (3, 20, 32)
    # the second lies at the right of the part, the first ends below it
    assert targets.labels.tolist() == [2]
    assert targets.boxes.tolist() == [[2, 2, 22, 20]]


def test_a_part_may_be_without_objects() -> None:
    _, targets = varied(False, False, 0, 8, 8, (12, 16), 0)
    assert targets.boxes.shape == (0, 4)
    assert targets.labels.shape == (0,)


def test_the_parts_pixels_are_those_of_the_image() -> None:
    pixels, _ = crop_and_resize(
        PICTURE,
        OBJECTS,
        plain(shortest_sides=(8,)),
        chance=Given(False, False, 0, 8, 12, (5, 30), 0),
    )
    assert torch.equal(pixels, pixels_of(PICTURE)[:, 5:17, 30:38])


def test_crowds_teach_nothing() -> None:
    crowd = Objects(
        OBJECTS.boxes, OBJECTS.labels, torch.tensor([True, False, False]), torch.zeros(3).bool()
    )
    _, targets = crop_and_resize(PICTURE, crowd, plain(), chance=Given(False, True, 0))
    assert targets.labels.tolist() == [0]


def test_an_image_smaller_than_a_part_is_taken_whole_on_that_side() -> None:
    augmentation = plain(crop_sides=(30, 60), crop_share=1.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        pixels, targets = augmentation.vary(PICTURE, OBJECTS, generator=generator)
        assert min(pixels.shape[1:]) in (20, 40)
        assert (targets.boxes[:, 2:] > targets.boxes[:, :2]).all()


def test_a_seed_gives_one_variation_and_seeds_give_many() -> None:
    def sizes(seed: int) -> list[tuple[int, ...]]:
        generator = torch.Generator().manual_seed(seed)
        return [
            tuple(plain().vary(PICTURE, OBJECTS, generator=generator)[0].shape) for _ in range(30)
        ]

    assert sizes(1) == sizes(1)
    assert len(set(sizes(1))) > 5


def test_chance_takes_both_ends_and_keeps_its_share() -> None:
    chance = GeneratorChance(torch.Generator().manual_seed(0))
    assert {chance.between(3, 5) for _ in range(50)} == {3, 4, 5}
    assert {chance.corner((1, 0)) for _ in range(50)} == {(0, 0), (1, 0)}
    assert 350 < sum(chance.happens(0.4) for _ in range(1000)) < 450


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_share": 1.5}, r"crop_share must be in \[0, 1\], got 1.5"),
        ({"crop_from_sides": ()}, "crop_from_sides must be positive"),
        ({"crop_sides": (20, 10)}, "crop_sides must be positive and in that order"),
        ({"flip_share": -0.5}, "flip_share must be in"),
    ],
)
def test_augmentations_that_cannot_be_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain(**change)


def test_outlines_are_refused() -> None:
    with pytest.raises(ValueError, match="come without outlines; train without masks"):
        plain().vary(PICTURE, OBJECTS, generator=torch.Generator(), with_polygons=True)
