"""Captions of batches before, which regions are compared with too."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class CaptionQueue:
    """The last captions that a process has seen, newest first.

    Each process has its own, and it is no part of a checkpoint: a resumed run fills it anew within
    a few steps.

    Attributes:
        vectors: One row per caption; none has a gradient.
        image_ids: What image each is of.

    Source:
        wusize/CLIM@7baade3 (``DeticCaptionWithComposition``): 256 captions, per process, not saved.
    """

    def __init__(self, size: int) -> None:
        """Keep at most ``size`` captions; 0 keeps none."""
        self._size = size
        self.vectors = torch.zeros(0, 0)
        self.image_ids = torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return int(self.image_ids.shape[0])

    def before(
        self, vectors: Float[Tensor, "K D"], image_ids: Int[Tensor, " K"]
    ) -> tuple[Float[Tensor, "N D"], Int[Tensor, " N"]]:
        """Captions of a batch, and behind them those of batches before."""
        if len(self) == 0:
            return vectors, image_ids
        own = self.vectors.to(vectors), self.image_ids.to(image_ids)
        return torch.cat([vectors, own[0]]), torch.cat([image_ids, own[1]])

    def push(self, vectors: Float[Tensor, "K D"], image_ids: Int[Tensor, " K"]) -> None:
        """Take the captions of a batch; the oldest go."""
        vectors, image_ids = self.before(vectors.detach(), image_ids)
        self.vectors, self.image_ids = vectors[: self._size], image_ids[: self._size]
