import pytest
import torch

from regionclip.proposals.proposer import Proposer
from regionclip.proposals.random_boxes import RandomBoxes
from regionclip.structures import PreparedImage


def image(name: str, height: int, width: int) -> PreparedImage:
    return PreparedImage(torch.zeros(3, height, width), (height, width), name)


def test_it_is_a_proposer() -> None:
    assert isinstance(RandomBoxes(), Proposer)
    assert RandomBoxes().propose([]) == []
    (found,) = RandomBoxes().propose([image("a", 80, 100)])
    assert found.boxes.shape == (300, 4)
    assert found.objectness is None


def test_boxes_lie_inside_with_the_sizes_and_shapes_asked_for() -> None:
    random = RandomBoxes(count=2000, sizes=(0.1, 0.5), aspect_ratios=(0.5, 2.0))
    boxes = random.propose([image("a", 100, 300)])[0].boxes
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([300.0, 100, 300, 100])).all()
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    side, ratio = (width * height).sqrt(), height / width
    assert side.aminmax().min == pytest.approx(10, abs=0.5)
    assert side.aminmax().max == pytest.approx(50, abs=0.5)
    assert ratio.aminmax().min == pytest.approx(0.5, abs=0.01)
    assert ratio.aminmax().max == pytest.approx(2.0, abs=0.01)
    # half of them below the geometric mean, and anywhere along the image
    assert (side < 500**0.5).float().mean() == pytest.approx(0.5, abs=0.05)
    share = boxes[:, 0] / (300 - width)
    assert torch.histc(share, bins=4, min=0, max=1).min() > 400


def test_a_side_longer_than_the_image_is_cut() -> None:
    tall = RandomBoxes(count=3, sizes=(1.0, 1.0), aspect_ratios=(4.0, 4.0))
    boxes = tall.propose([image("a", 10, 20)])[0].boxes
    assert boxes[:, 1].tolist() == [0, 0, 0]
    assert boxes[:, 3].tolist() == [10, 10, 10]
    assert torch.allclose(boxes[:, 2] - boxes[:, 0], torch.full((3,), 5.0))


def test_an_image_has_its_own_boxes_whatever_is_beside_it() -> None:
    one, other = image("a", 40, 60), image("b", 40, 60)
    together = RandomBoxes(count=5).propose([one, other])
    (alone,) = RandomBoxes(count=5).propose([other])
    assert torch.equal(together[1].boxes, alone.boxes)
    assert not torch.equal(together[0].boxes, alone.boxes)
    (reseeded,) = RandomBoxes(count=5, seed=1).propose([other])
    assert not torch.equal(reseeded.boxes, alone.boxes)


def test_images_of_one_name_are_told_apart_by_their_pixels() -> None:
    black = image("image 0", 40, 60)
    grey = PreparedImage(black.pixels + 0.5, black.original_size_hw, "image 0")
    one, other = RandomBoxes(count=5).propose([black, grey])
    assert not torch.equal(one.boxes, other.boxes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"sizes": (0.5, 0.1)}, r"sizes must be positive and rise, got \(0\.5, 0\.1\)"),
        ({"aspect_ratios": (0.0, 1.0)}, "aspect_ratios must be positive and rise"),
    ],
)
def test_options_are_checked(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomBoxes(**options)
