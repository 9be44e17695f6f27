"""What the stages ask of a tower that gives every place of an image a vector in the words' space.

Such a map is cut into regions in ``regions/dense_regions.py``. Which towers have one, and in which
form: ``docs/dense_encoders.md``.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .text import TextEncoder


@runtime_checkable
class DenseEncoder(TextEncoder, Protocol):
    """An image tower with a text-aligned map, and the text tower of the same space.

    Attributes:
        embed_dim: Width of the joint space, ``D``.
        cell: Pixels of the input per cell of the map and side.
        image_size: Side in pixels of a whole image, which :meth:`encode_image` was trained on.
        mean: Per channel, of RGB in [0, 1].
        std: Per channel, of RGB in [0, 1].
    """

    embed_dim: int
    cell: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        ...

    def dense_features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """A map with a vector of length one per cell; differentiable.

        Args:
            images: Normalised with ``mean`` and ``std``; sides are multiples of ``cell``, and need
                not be equal.

        Raises:
            ValueError: A side is no multiple of ``cell``.
        """
        ...

    def encode_image(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """One vector per whole image, not normalised.

        Args:
            images: As :meth:`dense_features` takes, or squares of ``image_size``.
        """
        ...

    def dense_and_whole(
        self, images: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B D"]]:
        """What :meth:`dense_features` and :meth:`encode_image` give, from one trunk."""
        ...


@runtime_checkable
class DenseViT(DenseEncoder, Protocol):
    """A dense tower made of equal blocks over patches, whose maps of any block can be had.

    Attributes:
        width: Channels of a block's output, ``F``.
        num_blocks: Blocks in all; the last has number ``num_blocks - 1``.
    """

    width: int
    num_blocks: int

    def token_maps(
        self, images: Float[Tensor, "B 3 H W"], blocks: Sequence[int]
    ) -> tuple[list[Float[Tensor, "B F h w"]], Float[Tensor, "B D h w"]]:
        """Patch tokens after some blocks, as maps, and what :meth:`dense_features` gives.

        Args:
            images: As :meth:`dense_features` takes.
            blocks: Increasing numbers from 0 on. After the last block, tokens are those of the
                dense form, before the norm and the projection.

        Returns:
            A map per block, without the class token, not normalised; then the dense map.
        """
        ...


class NoDenseFormError(TypeError):
    """An image tower is of a kind that a dense form is not for."""


def usual_longest_side(cell: int) -> int:
    """Pixels of an image's longer side: 64 cells, but no more than 1024 pixels.

    Source:
        CLIPSelf (arXiv:2310.01403), sec. 4.1: 1024 for patches of 16, 896 for patches of 14.
    """
    return min(64 * cell, 1024 // cell * cell)


def check_sides(images: Tensor, cell: int) -> tuple[int, int]:
    """Rows and columns of cells of a batch of images.

    Raises:
        ValueError: A side is no multiple of ``cell``, or shorter.
    """
    height, width = images.shape[-2:]
    if height < cell or width < cell or height % cell or width % cell:
        raise ValueError(
            f"images of {height} x {width} pixels do not divide into cells of {cell}; pad them to "
            f"multiples of {cell}"
        )
    return height // cell, width // cell


def as_map(
    tokens: Float[Tensor, "B N F"], grid_hw: tuple[int, int]
) -> Float[Tensor, "B F {grid_hw[0]} {grid_hw[1]}"]:
    """Tokens of cells, row by row, to a map."""
    return tokens.transpose(1, 2).unflatten(2, grid_hw)
