"""Transformers over patches with a class token: their maps and vectors, whoever wrote the blocks.

The last block mixes patches for the class token's sake alone. In the dense form each patch keeps
its own values there, so that the map says what is where.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxtyping import Float
from open_clip.model import CLIPVisionCfg
from torch import Tensor
from torch.nn import functional as F

from .clip_towers import OPENAI_MEAN, OPENAI_STD, ClipTowers
from .dense import as_map, check_sides

State = TypeVar("State")
"""What goes from block to block: the tokens, and what else the blocks need."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchTowersSpec:
    """All that fixes the shapes and the mathematics of :class:`PatchTowers`."""

    name: str
    embed_dim: int
    """Width of the joint space, ``D``."""
    image_size: int
    """Side in pixels of a whole image."""
    patch_size: int
    """Pixels per patch and side: a cell of the map."""
    width: int
    """Channels of the image tower, ``F``."""
    layers: int
    """Blocks of the image tower."""
    text_width: int
    text_heads: int
    text_layers: int
    head_width: int = 64
    """Channels per attention head of the image tower."""
    context_length: int = 77
    vocab_size: int = 49408
    quick_gelu: bool
    """QuickGELU for GELU; part of a checkpoint's entry, which no tensor tells."""
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size must be a multiple of patch_size = {self.patch_size}, "
                f"got {self.image_size}"
            )
        if self.width % self.head_width:
            raise ValueError(
                f"width must be a multiple of head_width = {self.head_width}, got {self.width}"
            )


class ClassTokenMaps(ABC, Generic[State]):
    """Maps and vectors of a tower whose vector of an image is its class token's.

    With a text tower, a :class:`~.dense.DenseViT`. What the blocks are made of is told by the
    methods that begin with an underscore.

    Attributes:
        cell: Pixels per patch and side.
        width: Channels of a block's output, ``F``.
        num_blocks: Blocks in all.
    """

    cell: int
    width: int
    num_blocks: int

    def dense_features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Vectors of length one of all patches, unmixed in the last block (value-only form)."""
        return self.token_maps(images, ())[1]

    def encode_image(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Class token's vectors, not normalised; sides are multiples of ``cell``."""
        state, _ = self._before_last(images)
        return self._joint(self._last_class_token(state)[:, 0])

    def dense_and_whole(
        self, images: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B D"]]:
        """What :meth:`dense_features` and :meth:`encode_image` give, from one trunk."""
        state, grid_hw = self._before_last(images)
        vectors = self._joint(self._last_class_token_and_values(state))
        return as_map(F.normalize(vectors[:, 1:], dim=2), grid_hw), vectors[:, 0]

    def token_maps(
        self, images: Float[Tensor, "B 3 H W"], blocks: Sequence[int]
    ) -> tuple[list[Float[Tensor, "B F h w"]], Float[Tensor, "B D h w"]]:
        """Patch tokens after some blocks, and the map; see :class:`~.dense.DenseViT`.

        Raises:
            ValueError: A side is no multiple of ``cell``, or ``blocks`` are not increasing or not
                among the tower's.
        """
        if list(blocks) != sorted(set(blocks)) or not set(blocks) <= set(range(self.num_blocks)):
            raise ValueError(
                f"blocks must be increasing numbers below {self.num_blocks}, got {list(blocks)}"
            )
        maps: dict[int, Tensor] = {}

        def keep(number: int, patches: Tensor) -> None:
            if number in blocks:
                maps[number] = patches

        state, grid_hw = self._before_last(images, keep)
        # no other patch is asked in the last block, so the class token is of no use there
        last = self._last_values(self._patches(state))
        kept = [as_map(maps.get(number, last), grid_hw) for number in blocks]
        return kept, as_map(F.normalize(self._joint(last), dim=2), grid_hw)

    def plain_features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """The map that the tower gives as it was trained, mixed in the last block too."""
        state, grid_hw = self._before_last(images)
        patches = self._patches(self._run_block(self.num_blocks - 1, state))
        return as_map(F.normalize(self._joint(patches), dim=2), grid_hw)

    def _before_last(
        self, images: Tensor, keep: Callable[[int, Tensor], None] | None = None
    ) -> tuple[State, tuple[int, int]]:
        """What enters the last block, and the grid; ``keep`` is shown each block's patches."""
        grid_hw = check_sides(images, self.cell)
        state = self._embed(images)
        for number in range(self.num_blocks - 1):
            state = self._run_block(number, state)
            if keep is not None:
                keep(number, self._patches(state))
        return state, grid_hw

    @abstractmethod
    def _embed(self, images: Tensor) -> State:
        """What enters the first block."""

    @abstractmethod
    def _run_block(self, number: int, state: State) -> State:
        """A block as it was trained."""

    @abstractmethod
    def _patches(self, state: State) -> Tensor:
        """``(B, N, F)``, tokens without the class token."""

    @abstractmethod
    def _last_values(self, patches: Tensor) -> Tensor:
        """``(B, N, F)``, the last block, in which every patch attends to itself alone."""

    @abstractmethod
    def _last_class_token(self, state: State) -> Tensor:
        """``(B, 1, F)``, the last block's class token."""

    @abstractmethod
    def _last_class_token_and_values(self, state: State) -> Tensor:
        """``(B, 1 + N, F)``, both."""

    @abstractmethod
    def _joint(self, tokens: Tensor) -> Tensor:
        """Tokens after the last block, to the joint space."""


class PatchTowers(ClassTokenMaps[State], ClipTowers):
    """A CLIP whose image tower is such a transformer; a :class:`~.dense.DenseViT`.

    Attributes:
        spec: Shapes, preprocessing and activation.
        embed_dim: Width of the joint space, ``D``.
        image_size: Side in pixels of a whole image.
        image_size_hw: The same twice.
        mean: Per channel, of RGB in [0, 1].
        std: Per channel, of RGB in [0, 1].
    """

    spec: PatchTowersSpec

    def __init__(self, spec: PatchTowersSpec, vision: CLIPVisionCfg) -> None:
        """Build both towers with random weights; see :class:`~.clip_towers.ClipTowers`."""
        super().__init__(spec, vision)
        self.cell, self.width, self.num_blocks = spec.patch_size, spec.width, spec.layers
        self.embed_dim, self.image_size = spec.embed_dim, spec.image_size
        self.image_size_hw = (spec.image_size, spec.image_size)
        self.mean, self.std = spec.mean, spec.std
