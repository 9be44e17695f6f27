"""Regions of several images with gradients: what every learner of an image tower shares."""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from regionclip.data.transforms import rows_by_size
from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.frozen_norms import feature_map_with_frozen_norms
from regionclip.regions.attention_pool import attention_pool
from regionclip.regions.region_head import ImageRegions, LiftedMaps, RegionHead

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
"""Of the image tower, in the order that ``freeze_at`` counts them; the attention pool follows."""
ImageBatching = Literal["by_size", "padded"]
"""``by_size``: images of one size go through the network together, others on their own, so that
what an image teaches does not depend on its batch. ``padded``: all together, padded to the largest,
as the original does; results near right and bottom borders then do depend."""
MapOfImage = tuple[LiftedMaps, int]
"""A batch of maps, and the image's place in it."""


def check_freeze_at(freeze_at: int) -> None:
    """Refuse a number of stages that the tower does not have.

    Raises:
        ValueError: It is not from 0 to 5.
    """
    if not 0 <= freeze_at <= len(STAGES):
        raise ValueError(
            f"freeze_at must be from 0 to {len(STAGES)} ({', '.join(STAGES)}), got {freeze_at}"
        )


def unfreeze(visual: ModifiedResNet, modules: Iterable[nn.Module] = (), *, freeze_at: int) -> None:
    """Give gradients to an image tower from a stage on, to its attention pool, and to no norm.

    Args:
        visual: Without gradients so far.
        modules: Further parts to train.
        freeze_at: How many of :data:`STAGES` stay as they are.
    """
    stem = [visual.conv1, visual.conv2, visual.conv3]
    stages = [stem, *([getattr(visual, name)] for name in STAGES[1:])]
    trained = [module for stage in stages[freeze_at:] for module in stage]
    for module in (*trained, visual.attnpool, *modules):
        module.requires_grad_(True)
    for module in visual.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)


def image_groups(images: Sequence[Tensor], batching: ImageBatching) -> list[list[int]]:
    """Positions of the images ``(3, H, W)`` that go through a network together."""
    if batching == "padded":
        return [list(range(len(images)))]
    return rows_by_size([(int(image.shape[1]), int(image.shape[2])) for image in images])


def maps_of_images(
    encoder: ClipResNet,
    head: RegionHead,
    images: Sequence[Tensor],
    *,
    batching: ImageBatching,
) -> list[MapOfImage]:
    """Run the tower up to where regions are cut out.

    Args:
        encoder: Its batch norms count as constants.
        head: Of the same tower.
        images: ``(3, H, W)`` each, RGB in [0, 1].
        batching: Which images go through together.
    """
    maps: dict[int, MapOfImage] = {}
    for rows in image_groups(images, batching):
        prepared = encoder.prepare([images[row] for row in rows])
        prepared = prepared.contiguous(memory_format=torch.channels_last)
        lifted = head.lift(feature_map_with_frozen_norms(encoder.visual, prepared))
        maps.update((row, (lifted, place)) for place, row in enumerate(rows))
    return [maps[row] for row in range(len(images))]


def region_vectors(
    head: RegionHead,
    maps: Sequence[MapOfImage],
    boxes: Sequence[Float[Tensor, "_ 4"]],
    *,
    activation_budget: int | None,
) -> Float[Tensor, "N D"]:
    """Vectors of boxes, image after image, float32, not normalised.

    Args:
        head: layer4 and attention pool.
        maps: From :func:`maps_of_images`, at least one.
        boxes: Per image, ``xyxy`` in pixels of its input.
        activation_budget: Bytes that one chunk may keep for the backward pass; chunks are then
            computed a second time there. ``None`` keeps everything.
    """
    total = sum(len(own) for own in boxes)
    size = max(1, total if activation_budget is None else activation_budget // head.kept_bytes)
    image = torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(own) for own in boxes]))
    flat = torch.cat(list(boxes))
    vectors = []
    for start in range(0, max(total, 1), size):
        chunk = slice(start, start + size)
        rows, counts = image[chunk].unique_consecutive(return_counts=True)
        own = zip(rows.tolist(), flat[chunk].split(counts.tolist()), strict=True)
        parts = [(*maps[row], part) for row, part in own] or [(*maps[0], flat)]
        if activation_budget is None:
            vectors.append(_embed(head, parts))
        else:
            vectors.append(checkpoint(_embed, head, parts, use_reentrant=False))
    return with_key_bias(torch.cat(vectors).float(), head)


def with_key_bias(vectors: Float[Tensor, "N D"], head: RegionHead) -> Float[Tensor, "N D"]:
    """The same vectors, with a gradient of zero for the attention pool's key bias.

    It cancels in the softmax and is never computed; processes that average gradients still wait
    for its zero.
    """
    return vectors + 0 * head.pool.k_proj.bias.sum()


def _embed(head: RegionHead, parts: Sequence[tuple[LiftedMaps, int, Tensor]]) -> Tensor:
    cells = head.cells(
        [ImageRegions(maps, image, head.weights(maps, boxes)) for maps, image, boxes in parts]
    )
    return attention_pool(cells, head.pool)
