"""Captions of batches before, which regions are compared with too."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class CaptionQueue(nn.Module):
    """The last captions of a run, newest first; a part of its checkpoints.

    Where processes train together each keeps the same: what is pushed is to be that of all.

    Attributes:
        rows: Room for all captions, the kept ones first.
        row_ids: Of the images that they are of.
        num_kept: How many rows are captions.

    Source:
        wusize/CLIM@7baade3 (``DeticCaptionWithComposition``): 256 captions, there per process and
        not saved.
    """

    rows: Tensor
    row_ids: Tensor
    num_kept: Tensor

    def __init__(self, size: int, *, width: int) -> None:
        """Keep at most ``size`` captions of ``width`` numbers; a size of 0 keeps none."""
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, width))
        self.register_buffer("row_ids", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("num_kept", torch.tensor(0))

    def __len__(self) -> int:
        return int(self.num_kept)

    @property
    def vectors(self) -> Float[Tensor, "N D"]:
        """One row per caption; none has a gradient."""
        return self.rows[: len(self)]

    @property
    def image_ids(self) -> Int[Tensor, " N"]:
        """What image each is of."""
        return self.row_ids[: len(self)]

    def before(
        self, vectors: Float[Tensor, "K D"], image_ids: Int[Tensor, " K"]
    ) -> tuple[Float[Tensor, "N D"], Int[Tensor, " N"]]:
        """Captions of a batch, and behind them those of batches before."""
        own = self.vectors.to(vectors), self.image_ids.to(image_ids)
        return torch.cat([vectors, own[0]]), torch.cat([image_ids, own[1]])

    @torch.no_grad()
    def push(self, vectors: Float[Tensor, "K D"], image_ids: Int[Tensor, " K"]) -> None:
        """Take the captions of a batch; the oldest go."""
        vectors, image_ids = self.before(vectors, image_ids)
        count = min(len(vectors), len(self.rows))
        self.rows[:count] = vectors[:count].to(self.rows)
        self.row_ids[:count] = image_ids[:count].to(self.row_ids)
        self.num_kept.fill_(count)
