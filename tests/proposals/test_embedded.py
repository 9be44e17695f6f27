from collections.abc import Sequence

import torch

from regionclip.proposals.embedded import EmbeddedProposals
from regionclip.proposals.proposer import Proposer
from regionclip.regions.map_regions import MapRegions
from regionclip.structures import PreparedImage, Proposals
from tests.tiny_clip import tiny_clip

WIDTH = 12


class Listed:
    """So many boxes as an image's name says, all to its lower right corner."""

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        return [self._boxes(int(image.name), image.size_hw) for image in images]

    def _boxes(self, count: int, size_hw: tuple[int, int]) -> Proposals:
        height, width = size_hw
        starts = torch.arange(20.0, 20.0 + count)
        ends = torch.tensor([[width, height]]).expand(count, 2)
        return Proposals(torch.cat([starts[:, None].expand(-1, 2), ends], dim=1), starts.flip(0))


def images(*counts: int, size_hw: tuple[int, int] = (64, 64)) -> list[PreparedImage]:
    generator = torch.Generator().manual_seed(3)
    return [
        PreparedImage(torch.rand(3, *size_hw, generator=generator), size_hw, str(count))
        for count in counts
    ]


def test_regions_come_with_what_the_tower_makes_of_them() -> None:
    regions = MapRegions(tiny_clip())
    proposer = EmbeddedProposals(Listed(), regions)
    assert isinstance(proposer, Proposer)
    assert proposer.width == WIDTH
    (image,) = images(3)
    (own,), (plain,) = proposer.propose([image]), Listed().propose([image])
    assert torch.equal(own.boxes, plain.boxes)
    assert own.objectness is not None
    assert own.features is not None
    assert not own.features.requires_grad
    expected = regions.view([image]).of(0).features(plain.boxes)
    torch.testing.assert_close(own.features, expected)


def test_an_image_has_the_same_vectors_in_whatever_batch() -> None:
    proposer = EmbeddedProposals(Listed(), MapRegions(tiny_clip()))
    batch = [*images(2, 1), *images(4, size_hw=(64, 96)), *images(3, size_hw=(96, 64))]
    for image, together in zip(batch, proposer.propose(batch), strict=True):
        (alone,) = proposer.propose([image])
        assert together.features is not None
        assert alone.features is not None
        assert len(together.features) == len(together)
        torch.testing.assert_close(together.features, alone.features, rtol=1e-4, atol=1e-5)


def test_no_boxes_and_no_images_are_fine() -> None:
    proposer = EmbeddedProposals(Listed(), MapRegions(tiny_clip()))
    none, two = proposer.propose(images(0, 2))
    assert none.features is not None
    assert none.features.shape == (0, WIDTH)
    assert two.features is not None
    assert two.features.shape == (2, WIDTH)
    assert proposer.propose([]) == []
