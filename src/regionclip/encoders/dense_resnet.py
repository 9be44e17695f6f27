"""CLIP's ModifiedResNet as a dense tower: the attention pool's values, cell by cell."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from .clip_resnet import ClipResNet, ClipResNetSpec
from .dense import as_map, check_sides
from .frozen_norms import bottleneck, feature_map_with_frozen_norms
from .vit_blocks import resized_positions


class DenseClipResNet(ClipResNet):
    """The same towers and weights as a :class:`ClipResNet`; a :class:`~.dense.DenseEncoder`.

    Batch norms are constants, in training too.

    Attributes:
        embed_dim: Width of the joint space, ``D``.
        cell: Pixels per cell of layer4's map, and of the dense map.
        image_size: Side in pixels of a whole image.
    """

    cell = 32

    def __init__(self, spec: ClipResNetSpec) -> None:
        """Build both towers with random weights."""
        super().__init__(spec)
        self.embed_dim, self.image_size = spec.embed_dim, spec.image_size

    def layer4_map(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F h w"]:
        """All convolutions of normalised images, sides of which are multiples of ``cell``."""
        check_sides(images, self.cell)
        x = feature_map_with_frozen_norms(self.visual, images)
        for block in self.visual.layer4:
            x = bottleneck(x, block)
        return x

    def dense_features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Vectors of length one of all cells; see :meth:`dense_of`."""
        return self.dense_of(self.layer4_map(images))

    def encode_image(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Vectors, not normalised, of normalised images of any size; see :meth:`whole_of`."""
        return self.whole_of(self.layer4_map(images))

    def dense_and_whole(
        self, images: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B D"]]:
        """What :meth:`dense_features` and :meth:`encode_image` give, from one trunk."""
        layer4 = self.layer4_map(images)
        return self.dense_of(layer4), self.whole_of(layer4)

    def dense_of(self, layer4: Float[Tensor, "B F h w"]) -> Float[Tensor, "B D h w"]:
        """The attention pool's values of each cell, unmixed, in the joint space; length one.

        Source:
            MaskCLIP (arXiv:2112.01071), sec. 3.2.
        """
        pool = self.visual.attnpool
        cells = layer4.flatten(2).transpose(1, 2) + self._positions(layer4)[1:]
        vectors = pool.c_proj(pool.v_proj(cells))
        grid_hw = (int(layer4.shape[2]), int(layer4.shape[3]))
        return as_map(F.normalize(vectors, dim=2), grid_hw)

    def whole_of(self, layer4: Float[Tensor, "B F h w"]) -> Float[Tensor, "B D"]:
        """The attention pool over all cells, not normalised.

        On another grid than the trained one, which upstream refuses, positions are resized.
        """
        positions = {"positional_embedding": self._positions(layer4)}
        return functional_call(self.visual.attnpool, positions, (layer4,))

    def _positions(self, layer4: Tensor) -> Tensor:
        """The attention pool's positions for a map: the mean token's, then one per cell."""
        grid = self.spec.pool_grid
        size = (int(layer4.shape[2]), int(layer4.shape[3]))
        positions = self.visual.attnpool.positional_embedding
        return resized_positions(positions, (grid, grid), size).to(layer4.dtype)


def dense_resnet_of(encoder: ClipResNet) -> DenseClipResNet:
    """A dense tower with the weights of another one, which are shared, not copied."""
    with torch.device("meta"):
        dense = DenseClipResNet(encoder.spec)
    dense.clip, dense.training = encoder.clip, encoder.training
    return dense
