"""Another proposer's boxes with the vectors that an image tower makes of them."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from regionclip.data.transforms import rows_by_size
from regionclip.regions.embedder import RegionEmbedder, embed_regions
from regionclip.structures import PreparedImage, Proposals

from .proposer import Proposer


class EmbeddedProposals:
    """A proposer whose regions come with their vectors.

    Attributes:
        width: Numbers in a vector.
    """

    def __init__(self, proposer: Proposer, regions: RegionEmbedder) -> None:
        """Take the boxes of ``proposer``, and their vectors by ``regions``."""
        self._proposer = proposer
        self._regions = regions
        # only the tower knows
        grey = PreparedImage(torch.full((3, 32, 32), 0.5), (32, 32), "grey")
        (none,) = embed_regions(regions, [grey], [torch.zeros(0, 4)], groups=[[0]])
        self.width = int(none.shape[1])

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """See :class:`~regionclip.proposals.proposer.Proposer`."""
        found = self._proposer.propose(images)
        groups = rows_by_size([image.size_hw for image in images])
        boxes = [own.boxes for own in found]
        vectors = embed_regions(self._regions, images, boxes, groups=groups)
        return [replace(own, features=each) for own, each in zip(found, vectors, strict=True)]
