"""The frozen CLIP as a detector looks at it: maps of several scales, and one to name regions on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.eva import EvaClip
from regionclip.encoders.vit import ClipVit
from regionclip.regions.dense_regions import cell_shares, pool_boxes, pool_masks
from regionclip.regions.layer4_regions import pool_boxes_with_attention

from .config import TOWERS, FvitConfig

FrozenClip = ClipResNet | ClipVit | EvaClip


@dataclass(frozen=True, slots=True)
class FrozenMaps:
    """What the frozen CLIP gives of a batch of prepared images.

    Attributes:
        scales: Four maps for the pyramid.
        clip: The map that :meth:`FrozenTower.region_features` looks at.
    """

    scales: tuple[Tensor, ...]
    clip: Float[Tensor, "B F h w"]


@runtime_checkable
class FrozenTower(Protocol):
    """A frozen image tower.

    Attributes:
        name: Of its architecture.
        has_tokens: Its maps are of one size, and scales are to be made of them.
        embed_dim: Numbers of a region's vector.
        channels: Of the four maps.
        strides: Pixels per cell of the four maps once they are on their scales, finest first.
        size_divisor: Sides of its input are multiples of this.
    """

    name: str
    has_tokens: bool
    embed_dim: int
    channels: tuple[int, ...]
    strides: tuple[float, ...]
    size_divisor: int

    def maps(self, images: Float[Tensor, "B 3 H W"]) -> FrozenMaps:
        """Encode normalised images."""
        ...

    def region_features(
        self, clip_map: Float[Tensor, "B F h w"], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> Float[Tensor, "R D"]:
        """Vectors of regions, image after image, not normalised.

        Args:
            clip_map: :attr:`FrozenMaps.clip`.
            boxes: Per image, ``xyxy`` in pixels of the input.
        """
        ...


@runtime_checkable
class MaskTower(FrozenTower, Protocol):
    """A frozen tower that also names masks."""

    def mask_features(
        self, clip_map: Float[Tensor, "1 F h w"], masks: Bool[Tensor, "R H W"]
    ) -> Float[Tensor, "R D"]:
        """Vectors of masks over one image, not normalised.

        Args:
            clip_map: :attr:`FrozenMaps.clip` of the image.
            masks: Over the image before it was padded.
        """
        ...


class ResNetTower:
    """A ModifiedResNet: its four stages, and attention pooling of regions of the last.

    Source:
        F-VLM (arXiv:2209.15639), sec. 3.1 and 3.3; CLIM (arXiv:2312.11376) with RN50x64.
    """

    has_tokens = False
    strides = (4.0, 8.0, 16.0, 32.0)
    size_divisor = 32

    def __init__(self, encoder: ClipResNet) -> None:
        self._encoder = encoder
        width = encoder.spec.width
        self.name, self.embed_dim = encoder.spec.name, encoder.spec.embed_dim
        self.channels = (4 * width, 8 * width, 16 * width, 32 * width)

    def maps(self, images: Float[Tensor, "B 3 H W"]) -> FrozenMaps:
        """See :meth:`FrozenTower.maps`."""
        visual = self._encoder.visual
        stages = []
        hidden = visual.stem(images)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            hidden = layer(hidden)
            stages.append(hidden)
        return FrozenMaps(tuple(stages), hidden)

    def region_features(
        self, clip_map: Float[Tensor, "B F h w"], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> Float[Tensor, "R D"]:
        """See :meth:`FrozenTower.region_features`."""
        return pool_boxes_with_attention(clip_map.float(), boxes, self._encoder.visual.attnpool)


class TokenTower:
    """A ViT: the tokens after four of its blocks, and regions of its dense map.

    Source:
        F-ViT: CLIPSelf (arXiv:2310.01403), sec. 3.3; F-VLM on a ViT: CLIM (arXiv:2312.11376).
    """

    has_tokens = True

    def __init__(self, encoder: ClipVit | EvaClip, blocks: Sequence[int], *, name: str) -> None:
        """Look at the tokens after ``blocks``, four numbers from 0 on."""
        self._encoder, self._blocks = encoder, tuple(blocks)
        self.name, self.embed_dim = name, encoder.embed_dim
        self.channels = (encoder.width,) * len(self._blocks)
        cell = encoder.cell
        self.strides = (cell / 4, cell / 2, float(cell), 2.0 * cell)
        self.size_divisor = 2 * cell

    def maps(self, images: Float[Tensor, "B 3 H W"]) -> FrozenMaps:
        """See :meth:`FrozenTower.maps`."""
        tokens, dense = self._encoder.token_maps(images, self._blocks)
        return FrozenMaps(tuple(tokens), dense)

    def region_features(
        self, clip_map: Float[Tensor, "B F h w"], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> Float[Tensor, "R D"]:
        """See :meth:`FrozenTower.region_features`."""
        return pool_boxes(clip_map, boxes, cell=float(self._encoder.cell))

    def mask_features(
        self, clip_map: Float[Tensor, "1 F h w"], masks: Bool[Tensor, "R H W"]
    ) -> Float[Tensor, "R D"]:
        """See :meth:`MaskTower.mask_features`; each cell counts by its share."""
        size = (int(clip_map.shape[2]), int(clip_map.shape[3]))
        shares = cell_shares(masks.to(clip_map.device), size, cell=self._encoder.cell)
        return pool_masks(clip_map, [shares])


def build_encoder(config: FvitConfig) -> FrozenClip:
    """The frozen CLIP with random weights.

    Raises:
        ValueError: The configuration names none.
    """
    if config.resnet is not None:
        return ClipResNet(config.resnet)
    if config.vit is not None:
        return ClipVit(config.vit)
    if config.eva is not None:
        return EvaClip(config.eva)
    raise ValueError(f"the configuration names no frozen CLIP; set one of {', '.join(TOWERS)}")


def tower_settings(encoder: nn.Module) -> dict[str, Any]:
    """The settings of :class:`~.config.FvitConfig` that name a CLIP.

    Raises:
        ValueError: It is of no kind that a detector can be trained on.
    """
    for name, kind in (("resnet", ClipResNet), ("vit", ClipVit), ("eva", EvaClip)):
        if isinstance(encoder, kind):
            return {name: encoder.spec}
    raise ValueError(
        f"no detector can be trained on a {type(encoder).__name__}; start with a CLIP whose image "
        "tower is a ModifiedResNet or a vision transformer with a dense form"
    )


def tower_of(encoder: FrozenClip, config: FvitConfig) -> FrozenTower:
    """The image tower as a detector looks at it."""
    if isinstance(encoder, ClipResNet):
        return ResNetTower(encoder)
    return TokenTower(encoder, config.token_blocks, name=encoder.spec.name)
