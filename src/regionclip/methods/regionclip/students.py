"""Who learns in region-text pretraining: image towers of two kinds, asked the same questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from regionclip.data.transforms import Padding, rows_by_size
from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.text import TextEncoder
from regionclip.encoders.unlocking import freeze_unread, image_groups, unlock_last_groups
from regionclip.regions.dense_regions import network_input, pool_boxes
from regionclip.regions.region_head import RegionHead

from . import training_regions
from .pretrain_config import PretrainConfig


@dataclass(frozen=True, slots=True)
class StudentOutputs:
    """What the student makes of a batch.

    Attributes:
        regions: One row per region, image after image, not normalised.
        images: One row per image, as of a region that covers it.
    """

    regions: Float[Tensor, "R D"]
    images: Float[Tensor, "B D"]


@runtime_checkable
class Student(Protocol):
    """An image tower that learns, with the frozen text tower of its space.

    Attributes:
        name: What errors call it.
        embed_dim: Width of the joint space, ``D``.
    """

    name: str
    embed_dim: int

    @property
    def encoder(self) -> TextEncoder:
        """Both towers, a torch module."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        ...

    def unfreeze(self) -> None:
        """Give gradients to what learns; nothing has any so far."""
        ...

    def groups(self, images: Sequence[Tensor]) -> list[list[int]]:
        """Positions of the images ``(3, H, W)`` that go through a network together."""
        ...

    def outputs(
        self, images: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> StudentOutputs:
        """Run on whole images ``(3, H, W)``, RGB in [0, 1], and on regions of them."""
        ...


class ResNetStudent:
    """CLIP's ResNet: regions of layer3's map through layer4 and the attention pool.

    Attributes:
        name: See :class:`Student`.
        embed_dim: See :class:`Student`.
        encoder: See :class:`Student`.
    """

    def __init__(self, encoder: ClipResNet, config: PretrainConfig) -> None:
        """Teach ``encoder``, in place.

        Raises:
            ValueError: The configuration has a setting for towers of the other kind.
        """
        if config.unlocked_groups is not None:
            raise ValueError(
                f"unlocked_groups ({config.unlocked_groups}) is about towers with a dense map; of "
                "ResNets, freeze_at says what learns"
            )
        self.encoder: ClipResNet = encoder
        self.name, self.embed_dim = encoder.spec.name, encoder.spec.embed_dim
        self._config = config

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.encoder.device

    def unfreeze(self) -> None:
        """Give gradients from a stage on, to the attention pool, and to no batch norm."""
        training_regions.unfreeze(self.encoder.visual, freeze_at=self._config.freeze_at)

    def groups(self, images: Sequence[Tensor]) -> list[list[int]]:
        """See :class:`Student`."""
        return training_regions.image_groups(images, self._config.image_batching)

    def outputs(
        self, images: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> StudentOutputs:
        """See :class:`Student`."""
        head = RegionHead(self.encoder.visual)
        batching = self._config.image_batching
        maps = training_regions.maps_of_images(self.encoder, head, images, batching=batching)
        height = max(int(image.shape[1]) for image in images)
        width = max(int(image.shape[2]) for image in images)
        is_padded = batching == "padded"
        regions = [
            _after_whole((height, width) if is_padded else _size_of(image), own)
            for image, own in zip(images, boxes, strict=True)
        ]
        budget = self._config.activation_budget
        vectors = training_regions.region_vectors(head, maps, regions, activation_budget=budget)
        return _outputs(vectors.split([len(own) for own in regions]))


class DenseStudent:
    """A tower with a map of vectors, such as a ViT or ConvNeXt: regions are means over the map.

    Attributes:
        name: See :class:`Student`.
        embed_dim: See :class:`Student`.
        encoder: See :class:`Student`.
    """

    def __init__(self, encoder: DenseEncoder, config: PretrainConfig, *, padding: Padding) -> None:
        """Teach ``encoder``, in place.

        Args:
            encoder: A torch module.
            config: What learns.
            padding: How images are filled up, as where the model detects.

        Raises:
            ValueError: The configuration has a setting for ResNets.
        """
        usual = PretrainConfig()
        for name in ("freeze_at", "image_batching", "activation_budget"):
            if getattr(config, name) != getattr(usual, name):
                raise ValueError(
                    f"{name} ({getattr(config, name)!r}) is about ResNets, and the start is a "
                    "tower with a dense map; leave it out (unlocked_groups says what learns)"
                )
        self.encoder: DenseEncoder = encoder
        self.name, self.embed_dim = f"this {type(encoder).__name__}", encoder.embed_dim
        self._config = config
        self._padding: Padding = padding

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.encoder.device

    def unfreeze(self) -> None:
        """Give gradients to the last groups of the tower, but for what maps never read."""
        count = self._config.unlocked_groups
        unlock_last_groups(
            self.encoder, len(image_groups(self.encoder)) if count is None else count
        )
        freeze_unread(self.encoder)

    def groups(self, images: Sequence[Tensor]) -> list[list[int]]:
        """See :class:`Student`."""
        return rows_by_size([_size_of(image) for image in images])

    def outputs(
        self, images: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> StudentOutputs:
        """See :class:`Student`."""
        inputs = [network_input(self.encoder, image, padding=self._padding) for image in images]
        regions = [
            _after_whole(_size_of(image), own) for image, own in zip(images, boxes, strict=True)
        ]
        vectors: dict[int, Tensor] = {}
        for rows in rows_by_size([_size_of(image[0]) for image in inputs]):
            dense = self.encoder.dense_features(torch.cat([inputs[row] for row in rows]))
            own = [regions[row] for row in rows]
            pooled = pool_boxes(dense, own, cell=self.encoder.cell)
            vectors.update(zip(rows, pooled.split([len(each) for each in own]), strict=True))
        return _outputs([vectors[row] for row in range(len(images))])


def _after_whole(size_hw: tuple[int, int], boxes: Float[Tensor, "_ 4"]) -> Float[Tensor, "_ 4"]:
    """The box of the whole image, then others."""
    height, width = size_hw
    return torch.cat([boxes.new_tensor([[0, 0, width, height]]), boxes])


def _outputs(parts: Sequence[Tensor]) -> StudentOutputs:
    """From vectors of each image, the first of which is of the whole."""
    return StudentOutputs(
        regions=torch.cat([part[1:] for part in parts]),
        images=torch.stack([part[0] for part in parts]),
    )


def _size_of(image: Tensor) -> tuple[int, int]:
    return int(image.shape[1]), int(image.shape[2])
