r"""A frozen CLIP with a detector on top of its maps.

    images -> frozen maps -> scales -> pyramid -> proposals -> box head -> embeddings and offsets
                          \-> the frozen CLIP's own vectors of the same regions

:class:`Fvit` holds the parts; ``detecting.py`` and ``learner.py`` run them in order.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from regionclip.data.transforms import normalize_and_pad
from regionclip.detections.box_coder import bounded
from regionclip.encoders.shared_norms import SharedBatchNorm
from regionclip.proposals.rpn import RpnLevel, judge_anchors, select_proposals
from regionclip.regions.pyramid_align import pyramid_roi_align
from regionclip.structures import Proposals

from .config import Benchmark, FvitConfig, transfer_config
from .heads import MASK_GRID, ROI_GRID, BoxHead, MaskHead, RegionAnswers, make_rpn_head
from .nas_pyramid import NasNeck
from .pyramid import Neck, TokenScales
from .towers import FrozenMaps, FrozenTower, build_encoder, tower_of

ASPECT_RATIOS = (0.5, 1.0, 2.0)
"""Height over width of anchors; FPN (arXiv:1612.03144), sec. 4.1."""
ANCHOR_CELLS = 8
"""Side of a level's anchors in its cells: 32 pixels where the stride is 4."""
INITIAL_SCALE = 50.0
"""What cosines are multiplied by before training; CLIPSelf's F-ViT and CLIM's F-VLM."""


class Fvit(nn.Module):
    """All weights of one detector.

    Attributes:
        config: What it was built from.
        encoder: The frozen CLIP, both towers.
        scales: Learned; makes four scales of tokens. ``None`` for a tower that has them.
        neck: The feature pyramid.
        rpn_head: Judges anchors.
        box_head: Names and moves regions.
        mask_head: Draws their masks; ``None`` if it does not.
        background: The row that stands for no class, of any length.
        class_embeddings: Rows of the classes that the model carries, or none.

    Source:
        F-VLM (arXiv:2209.15639), sec. 3; F-ViT: CLIPSelf (arXiv:2310.01403), sec. 3.3.
    """

    class_embeddings: Tensor

    def __init__(self, config: FvitConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config).requires_grad_(False)
        tower = self.tower
        if not config.projection and config.head_width != tower.embed_dim:
            raise ValueError(
                f"without projection, head_width must be {tower.embed_dim}, the width of "
                f"the frozen CLIP's texts, got {config.head_width}"
            )
        self.scales = TokenScales(tower.channels[0]) if tower.has_tokens else None
        self.neck: Neck | NasNeck
        if config.neck == "fpn":
            self.neck = Neck(tower.channels, config.channels)
        else:
            self.neck = NasNeck(tower.channels, config.channels, num_passes=config.neck_passes)
        norm = SharedBatchNorm if config.rpn_norm else None
        self.rpn_head = make_rpn_head(config.channels, len(ASPECT_RATIOS), norm=norm)
        self.box_head = BoxHead(
            config.channels,
            width=config.head_width,
            embed_dim=tower.embed_dim,
            has_projection=config.projection,
            scale=INITIAL_SCALE,
        )
        self.mask_head = MaskHead(config.channels) if config.mask_head else None
        self.background = nn.Parameter(
            torch.randn(tower.embed_dim), requires_grad=config.background == "learned"
        )
        rows = torch.zeros(config.num_classes, tower.embed_dim)
        self.register_buffer("class_embeddings", rows)

    @property
    def tower(self) -> FrozenTower:
        """The frozen image tower."""
        return tower_of(self.encoder, self.config)

    @property
    def strides(self) -> tuple[float, ...]:
        """Pixels per cell of the pyramid's five levels, finest first."""
        strides = self.tower.strides
        return (*strides, 2 * strides[-1])

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.background.device

    def train(self, mode: bool = True) -> "Fvit":
        """Put the detector into ``train`` mode; the frozen CLIP stays in ``eval``."""
        super().train(mode)
        self.encoder.eval()
        return self

    def prepare(self, images: Sequence[Tensor]) -> Float[Tensor, "B 3 S S"]:
        """Normalise RGB images ``(3, H, W)`` in [0, 1] and pad them to the model's square.

        Always to that size (to a larger one, if an image is larger), since the positions of
        EVA-02's tokens are shares of the map's sides: otherwise an image would have other tokens
        beside others. What is padded is the mean pixel.
        """
        side = max(self.config.image_size, *(max(image.shape[1:]) for image in images))
        divisor = self.tower.size_divisor
        side = -(-side // divisor) * divisor
        own = [image.to(self.device) for image in images]
        batch = normalize_and_pad(own, mean=self.config.mean, std=self.config.std)
        return F.pad(batch, (0, side - batch.shape[3], 0, side - batch.shape[2]))

    @torch.no_grad()
    def maps(self, images: Float[Tensor, "B 3 S S"]) -> FrozenMaps:
        """What the frozen CLIP makes of prepared images; without gradients."""
        return self.tower.maps(images)

    def levels(self, maps: FrozenMaps) -> list[Tensor]:
        """The pyramid's five levels, finest first."""
        return self.neck(maps.scales if self.scales is None else self.scales(maps.scales))

    def judge(self, levels: Sequence[Tensor]) -> list[RpnLevel]:
        """Objectness and offsets of all anchors."""
        return judge_anchors(
            self.rpn_head,
            levels,
            anchor_sizes=[(ANCHOR_CELLS * stride,) for stride in self.strides],
            aspect_ratios=ASPECT_RATIOS,
            strides=self.strides,
        )

    @torch.no_grad()
    def propose(
        self, judged: Sequence[RpnLevel], sizes_hw: Sequence[tuple[int, int]]
    ) -> list[Proposals]:
        """The best boxes of each image, inside it.

        Args:
            judged: Of a batch.
            sizes_hw: Of its images, before they were padded.
        """
        found = []
        for image, size_hw in enumerate(sizes_hw):
            own = [
                RpnLevel(each.logits[image, None], bounded(each.deltas[image, None]), each.anchors)
                for each in judged
            ]
            found += select_proposals(own, size_hw, self.config.proposals)
        return found

    def answer(
        self, levels: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> RegionAnswers:
        """What the box head says of boxes in prepared images, image after image."""
        return self.box_head(self.cells(levels, boxes, num_bins=ROI_GRID))

    def cells(
        self,
        levels: Sequence[Tensor],
        boxes: Sequence[Float[Tensor, "_ 4"]],
        *,
        num_bins: int = MASK_GRID,
    ) -> Float[Tensor, "R F bins bins"]:
        """Bins of boxes, from the four finest levels; by default those of the mask head."""
        strides = self.tower.strides
        return pyramid_roi_align(levels[: len(strides)], boxes, strides=strides, num_bins=num_bins)


def build(config: FvitConfig) -> Fvit:
    """Build a detector with random weights, in ``eval`` mode, ready for a checkpoint."""
    return Fvit(config).eval()


def carry_classes(
    model: Fvit, names: Sequence[str], class_embeddings: Float[Tensor, "C D"]
) -> None:
    """Let a model, in place, carry classes that it names when it is given none.

    Args:
        model: Gets the rows, whatever it had.
        names: One per row.
        class_embeddings: In the space of its regions.
    """
    rows = class_embeddings.detach().to(model.device, torch.float32, copy=True)
    model.class_embeddings = rows
    model.config = replace(
        model.config, num_classes=len(rows), class_names="", own_class_names=tuple(names)
    )


def transfer_to(model: Fvit, benchmark: Benchmark) -> None:
    """Let a model, in place, detect as published on a benchmark that it was not trained for.

    Its masks and its own classes go: name the benchmark's.
    """
    model.config = transfer_config(model.config, benchmark)
    model.mask_head = None
    model.class_embeddings = model.class_embeddings[:0]
