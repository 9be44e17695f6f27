"""What each stage of the icons model's training learns from a batch: its losses, by name."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou, clip_boxes_to_image, roi_align

from regionclip.concepts.templates import TEMPLATES, fill_template
from regionclip.data import transforms
from regionclip.data.icons.batches import BoxBatch, CaptionBatch
from regionclip.data.icons.glyphs import BASE_NAMES
from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.text import without_padding
from regionclip.losses import (
    LossSum,
    RpnLossOptions,
    caption_contrastive_loss,
    weighted_cross_entropy,
)
from regionclip.losses.loss_sum import counted
from regionclip.proposals.rpn import RegionProposalNetwork
from regionclip.regions.roi_align import roi_align_whole
from regionclip.scoring.cosine import class_logits
from regionclip.structures import DetectionBatch, Targets

from .config import RegionClipConfig
from .proposal_learner import RpnLearner, RpnTraining

MAX_LOGIT_SCALE = 100.0
"""CLIP (arXiv:2103.00020), sec. 2.5."""


class CaptionLearner(nn.Module):
    """Learns both towers from images with captions.

    The image goes the way of a region, with the whole image as its box, so that one head serves
    images of any size and, later, boxes.
    """

    def __init__(self, encoder: ClipResNet) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: CaptionBatch) -> dict[str, LossSum]:
        """The loss ``captions``, a mean over the batch."""
        encoder = self.encoder
        device = encoder.device
        tokens = without_padding(encoder.tokenize(batch.captions))
        maps = encoder.feature_map(normalized(batch.pixels.to(device), encoder))
        loss = caption_contrastive_loss(
            image_features(encoder, maps),
            encoder.encode_tokens(tokens),
            is_positive=batch.is_positive.to(device),
            is_ignored=batch.is_ignored.to(device),
            scale=encoder.clip.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE),
        )
        return {"captions": counted(loss, 1)}


class RegionLearner(nn.Module):
    """Learns the image tower from boxes of base classes, while the captions go on.

    The text tower and all batch norms' statistics are frozen: names keep their vectors, novel
    ones among them, and regions are seen as they are in detection.
    """

    def __init__(
        self, captions: CaptionLearner, config: RegionClipConfig, *, background_weight: float
    ) -> None:
        super().__init__()
        self.captions = captions
        self.background_weight = background_weight
        self.size = config.shortest_side
        self.temperature = config.temperature

    def train(self, mode: bool = True) -> "RegionLearner":
        """Freeze all but the image tower's weights; batch norms stay in ``eval`` mode."""
        super().train(mode)
        clip = self.captions.encoder.clip.eval().requires_grad_(False)
        clip.visual.requires_grad_(True)
        return self

    def forward(self, batch: tuple[CaptionBatch, BoxBatch]) -> dict[str, LossSum]:
        """The losses ``captions`` and ``regions``, each a mean over the batch."""
        captions, scenes = batch
        encoder = self.captions.encoder
        pixels, boxes = at_size(scenes, self.size, encoder.device)
        regions, index, labels = sample_regions(scenes, boxes, self.size)
        maps = encoder.feature_map(normalized(pixels, encoder))
        names = base_embeddings(encoder)
        logits = class_logits(
            region_features(encoder, maps, regions, index),
            names,
            temperature=self.temperature,
            background_embedding=names.new_zeros(names.shape[1]),
        )
        loss = weighted_cross_entropy(logits, labels, background_weight=self.background_weight)
        return {**self.captions(captions), "regions": loss}


ICON_PROPOSALS = RpnTraining(
    freeze_at=0,
    norms="trained",
    loss=RpnLossOptions(
        # a narrow network with few anchors per cell needs more anchors per object than 0.7 leaves
        foreground_iou=0.6,
        anchors_per_image=128,
        smooth_l1_beta=1 / 9,
        boxes_over="foreground",
    ),
)
"""For a network with random weights that has to fit in a few megabytes."""


class ProposalLearner(nn.Module):
    """Learns the proposal network of the icons model from scenes of base classes."""

    def __init__(self, proposer: RegionProposalNetwork, config: RegionClipConfig) -> None:
        super().__init__()
        self.learner = RpnLearner(proposer, ICON_PROPOSALS)
        self.size = config.shortest_side

    def forward(self, scenes: BoxBatch) -> dict[str, LossSum]:
        """The losses ``objectness`` and ``boxes``."""
        return self.learner(detection_batch(scenes, self.size))


def normalized(images: Float[Tensor, "B 3 H W"] | Tensor, encoder: ClipResNet) -> Tensor:
    """RGB, uint8 or in [0, 1], with the encoder's mean and deviation; channels last."""
    if images.dtype == torch.uint8:
        images = images.float() / 255
    own = transforms.normalized(images, mean=encoder.spec.mean, std=encoder.spec.std)
    return own.contiguous(memory_format=torch.channels_last)


def at_size(scenes: BoxBatch, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scenes in [0, 1] and their boxes, scaled to the size at which the detector looks."""
    pixels = scenes.pixels.to(device).float() / 255
    scale = size / pixels.shape[-1]
    pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    return pixels, scenes.boxes.to(device) * scale


def detection_batch(scenes: BoxBatch, size: int) -> DetectionBatch:
    """Scenes as any detector learns from them; seeds come from torch's own generator."""
    pixels, boxes = at_size(scenes, size, scenes.pixels.device)
    rows = [(scenes.image_index == image).nonzero()[:, 0] for image in range(len(pixels))]
    return DetectionBatch(
        images=tuple(pixels),
        targets=tuple(Targets(boxes[own], scenes.labels[own]) for own in rows),
        seeds=tuple(torch.randint(1 << 31, (len(rows),)).tolist()),
    )


def image_features(encoder: ClipResNet, maps: Float[Tensor, "B F h w"]) -> Float[Tensor, "B D"]:
    """Vectors of regions that are the whole images, with gradients."""
    with torch.autocast(maps.device.type, enabled=False):
        cells = roi_align_whole(maps.float(), num_bins=encoder.spec.roi_grid)
    return _head(encoder, cells)


def region_features(
    encoder: ClipResNet,
    maps: Float[Tensor, "B F h w"],
    boxes: Float[Tensor, "R 4"],
    image_index: Int[Tensor, " R"],
) -> Float[Tensor, "R D"]:
    """Vectors of boxes given in pixels of the network's input, with gradients."""
    rows = torch.cat([image_index[:, None].float(), boxes], dim=1)
    with torch.autocast(maps.device.type, enabled=False):
        cells = roi_align(
            maps.float(), rows, encoder.spec.roi_grid, spatial_scale=1 / 16, aligned=True
        )
    return _head(encoder, cells)


def _head(encoder: ClipResNet, cells: Float[Tensor, "R F bins bins"]) -> Float[Tensor, "R D"]:
    visual = encoder.visual
    return visual.attnpool(visual.layer4(cells.contiguous(memory_format=torch.channels_last)))


@torch.no_grad()
def base_embeddings(encoder: ClipResNet) -> Float[Tensor, "C D"]:
    """One vector per base class."""
    template = TEMPLATES["imagenet80"][1]
    tokens = encoder.tokenize([fill_template(template, name) for name in BASE_NAMES])
    return encoder.encode_tokens(without_padding(tokens))


def sample_regions(
    scenes: BoxBatch, boxes: Float[Tensor, "R 4"], size: int
) -> tuple[Float[Tensor, "N 4"], Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Regions such as a proposal network gives: boxes, boxes moved about, and background.

    Returns:
        Regions, the scene of each, and the base label of each; ``len(BASE_NAMES)`` where no box
        overlaps by half.
    """
    device = boxes.device
    index, labels = scenes.image_index.to(device), scenes.labels.to(device)
    side = torch.cat([boxes[:, 2:] - boxes[:, :2]] * 2, dim=1)
    near = boxes + side * (0.12 * torch.randn_like(boxes)).clamp(-0.3, 0.3)
    far = boxes + side * 0.5 * torch.randn(len(boxes), 2, device=device).repeat(1, 2)
    num_free = 2 * len(scenes.pixels)
    free_index = torch.arange(num_free, device=device) // 2
    center = torch.rand(num_free, 2, device=device) * size
    half = (0.1 + 0.2 * torch.rand(num_free, 2, device=device)) * size
    free = torch.cat([center - half, center + half], dim=1)
    regions = clip_boxes_to_image(torch.cat([boxes, near, far, free]), (size, size))
    region_index = torch.cat([index, index, index, free_index])
    overlaps = box_iou(regions, boxes)
    overlaps[region_index[:, None] != index[None, :]] = 0
    # background goes first, with the overlap that a box must reach: it is never short of rows
    overlaps = F.pad(overlaps, (1, 0), value=0.5)
    region_labels = F.pad(labels, (1, 0), value=len(BASE_NAMES))[overlaps.argmax(dim=1)]
    kept = (regions[:, 2:] - regions[:, :2]).amin(dim=1) >= 8
    return regions[kept], region_index[kept], region_labels[kept]
