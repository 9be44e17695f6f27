import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.data.augmentation import Augmentation, augment
from regionclip.data.datasets import Objects

PICTURE = Image.fromarray(
    np.arange(20 * 40 * 3, dtype=np.uint8).reshape(20, 40, 3)  # height 20, width 40
)


def objects(*, crowd: bool = False) -> Objects:
    return Objects(
        boxes=torch.tensor([[4.0, 2, 14, 12], [30, 10, 50, 18], [10, 25, 20, 30]]),
        labels=torch.tensor([2, 0, 1]),
        is_crowd=torch.tensor([crowd, False, False]),
        is_difficult=torch.tensor([False, True, False]),
        segmentations=(
            [[4, 2, 14, 2, 14, 12]],
            {"size": [20, 40], "counts": "x"},
            [[1, 1, 2, 2, 3, 1]],
        ),
    )


def plain(**changes: object) -> Augmentation:
    options = {"shortest_sides": (40,), "longest_side": 80, "flip_share": 0.0}
    return Augmentation(**(options | changes))  # type: ignore[arg-type]


def test_boxes_are_resized_with_the_image_and_clipped() -> None:
    pixels, targets = augment(PICTURE, objects(), plain(), generator=torch.Generator())
    assert pixels.shape == (3, 40, 80)
    # the third lies below the image
    assert targets.boxes.tolist() == [[8, 4, 28, 24], [60, 20, 80, 36]]
    assert targets.labels.tolist() == [2, 0]
    assert targets.polygons is None


def test_a_mirrored_image_has_mirrored_boxes_and_outlines() -> None:
    straight, _ = augment(PICTURE, objects(), plain(), generator=torch.Generator())
    pixels, targets = augment(
        PICTURE,
        objects(),
        plain(flip_share=1.0),
        generator=torch.Generator(),
        with_polygons=True,
    )
    assert torch.equal(pixels, straight.flip(2))
    # the second has a run-length encoding, not an outline
    assert targets.boxes.tolist() == [[52, 4, 72, 24]]
    assert targets.polygons is not None
    assert targets.polygons[0][0].tolist() == [[72, 4], [52, 4], [52, 24]]


def test_crowds_teach_nothing() -> None:
    _, targets = augment(PICTURE, objects(crowd=True), plain(), generator=torch.Generator())
    assert targets.labels.tolist() == [0]


def test_no_objects_are_fine() -> None:
    _, targets = augment(
        PICTURE, Objects.empty(), plain(), generator=torch.Generator(), with_polygons=True
    )
    assert targets.boxes.shape == (0, 4)
    assert targets.polygons == ()


def test_chance_is_the_generators() -> None:
    own = Augmentation(shortest_sides=(20, 30, 40), longest_side=80)
    shapes = [
        augment(PICTURE, objects(), own, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1, 2, 3, 4, 5)
    ]
    assert torch.equal(shapes[0][0], shapes[1][0])
    assert len({pixels.shape for pixels, _ in shapes}) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shortest_sides": ()}, "shortest_sides must be positive"),
        ({"longest_side": 10}, "longest_side 10 is less than the shortest side 40"),
        ({"flip_share": 2.0}, "flip_share must be in"),
    ],
)
def test_augmentation_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain(**change)


def test_outlines_without_area_are_left_out() -> None:
    odd = Objects(
        boxes=torch.tensor([[4.0, 2, 14, 12]] * 3),
        labels=torch.tensor([0, 1, 2]),
        is_crowd=torch.zeros(3, dtype=torch.bool),
        is_difficult=torch.zeros(3, dtype=torch.bool),
        segmentations=([[4, 2, 14, 2]], [[4, 2, 14, 2, 14, 12, 3]], [[4, 2, 14, 2, 14, 12]]),
    )
    _, targets = augment(PICTURE, odd, plain(), generator=torch.Generator(), with_polygons=True)
    assert targets.labels.tolist() == [2]
