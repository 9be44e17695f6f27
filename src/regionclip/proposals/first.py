"""The best of another proposer's boxes."""

from collections.abc import Sequence

import torch

from regionclip.structures import PreparedImage, Proposals

from .proposer import Proposer


class FirstProposals:
    """The first rows of another proposer's, which are its best."""

    def __init__(self, proposer: Proposer, count: int) -> None:
        """Keep at most ``count`` rows of each image."""
        self._proposer = proposer
        self._count = count

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """See :class:`~regionclip.proposals.proposer.Proposer`."""
        return [
            each.select(torch.arange(min(self._count, len(each))))
            for each in self._proposer.propose(images)
        ]
