"""What is read off the pyramid: proposals, named and moved boxes, masks."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops.misc import Conv2dNormActivation

from regionclip.encoders.shared_norms import SharedBatchNorm

ROI_GRID, MASK_GRID = 7, 14
"""Bins a side of what the box head and the mask head see; Mask R-CNN (arXiv:1703.06870), fig. 4."""
NUM_CONVS = 4
"""3x3 convolutions of the box head and of the mask head."""
RPN_CONVS = 2


@dataclass(frozen=True, slots=True)
class RegionAnswers:
    """What the box head says of regions.

    Attributes:
        embeddings: In the space of the texts, of any length; zeros where no unit fired.
        deltas: Offsets of the boxes, see :func:`~regionclip.detections.box_coder.decode_boxes`.
    """

    embeddings: Float[Tensor, "R D"]
    deltas: Float[Tensor, "R 4"]


def make_rpn_head(channels: int, num_anchors: int, *, norm: type[nn.Module] | None) -> RPNHead:
    """Torchvision's head that judges anchors, perhaps with norms, which torchvision's has not.

    Args:
        channels: Of every level.
        num_anchors: Per cell.
        norm: Of its convolutions, which then have no bias; ``None`` for none.
    """
    head = RPNHead(channels, num_anchors, conv_depth=RPN_CONVS)
    if norm is not None:
        head.conv = _convs(channels, RPN_CONVS, norm)
    return head


class BoxHead(nn.Module):
    """Pooled regions to embeddings and offsets.

    Attributes:
        convs: On the bins.
        shared: What both branches begin with.
        class_layer: The branch of the name. Its ReLU stays: without ``projection`` its output
            is the region's embedding, which then has no negative numbers.
        projection: To the width of the texts; ``None`` for F-ViT.
        box_layer: The branch of the offsets.
        box_offsets: Class-agnostic.
        similarity_scale: What cosines with texts are multiplied by; learned.

    Source:
        F-ViT: CLIPSelf (arXiv:2310.01403), sec. 3.3 and 4.2. With ``projection``: F-VLM
        (arXiv:2209.15639) as CLIM (arXiv:2312.11376) has it.
    """

    def __init__(
        self, channels: int, *, width: int, embed_dim: int, has_projection: bool, scale: float
    ) -> None:
        super().__init__()
        self.convs = _convs(channels, NUM_CONVS, SharedBatchNorm)
        flat = channels * ROI_GRID * ROI_GRID
        self.shared = nn.ModuleList([nn.Linear(flat, width), nn.Linear(width, width)])
        self.class_layer = nn.Linear(width, width)
        self.projection = nn.Linear(width, embed_dim) if has_projection else None
        self.box_layer = nn.Linear(width, width)
        self.box_offsets = nn.Linear(width, 4)
        self.similarity_scale = nn.Parameter(torch.tensor(scale))
        for layer in (*self.shared, self.class_layer, self.box_layer):
            nn.init.xavier_uniform_(layer.get_parameter("weight"))
            nn.init.zeros_(layer.get_parameter("bias"))
        nn.init.normal_(self.box_offsets.weight, std=0.001)
        nn.init.zeros_(self.box_offsets.bias)

    def forward(self, cells: Float[Tensor, "R F bins bins"]) -> RegionAnswers:
        """Answer for pooled regions; zero regions are fine."""
        hidden = self.convs(cells).flatten(1)
        for layer in self.shared:
            hidden = F.relu(layer(hidden))
        named = F.relu(self.class_layer(hidden))
        if self.projection is not None:
            named = self.projection(named)
        deltas = self.box_offsets(F.relu(self.box_layer(hidden)))
        return RegionAnswers(named.float(), deltas.float())


class MaskHead(nn.Module):
    """Class-agnostic masks of pooled regions: ``(R, F, g, g)`` to logits ``(R, 1, 2g, 2g)``.

    Source:
        Mask R-CNN (arXiv:1703.06870), fig. 4, right, with norms.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = _convs(channels, NUM_CONVS, SharedBatchNorm)
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.predictor = nn.Conv2d(channels, 1, 1)
        for layer in (self.upsample, self.predictor):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, cells: Float[Tensor, "R F g g"]) -> Float[Tensor, "R 1 2*g 2*g"]:
        """Logits, unbounded; zero regions are fine."""
        return self.predictor(F.relu(self.upsample(self.convs(cells))))


def _convs(channels: int, count: int, norm: type[nn.Module]) -> nn.Sequential:
    """3x3 convolutions with norm and ReLU, without biases."""
    return nn.Sequential(
        *[Conv2dNormActivation(channels, channels, 3, norm_layer=norm) for _ in range(count)]
    )
