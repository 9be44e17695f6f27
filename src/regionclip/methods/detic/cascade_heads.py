"""What is read off the pyramid's regions: names, moved boxes, masks."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.misc import Conv2dNormActivation

ROI_GRID, MASK_GRID = 7, 14
"""Bins a side of what a stage and the mask head see; Mask R-CNN (arXiv:1703.06870), fig. 4."""
MASK_CONVS = 4


@dataclass(frozen=True, slots=True)
class StageAnswers:
    """What one stage of the cascade says of regions.

    Attributes:
        embeddings: In the space of the texts, of any length.
        deltas: Offsets of the boxes, see :func:`~regionclip.detections.box_coder.decode_boxes`.
    """

    embeddings: Float[Tensor, "R D"]
    deltas: Float[Tensor, "R 4"]


class CascadeStage(nn.Module):
    """Pooled regions to embeddings and offsets.

    Attributes:
        shared: What both branches begin with.
        projection: To the width of the texts.
        box_layers: Class-agnostic offsets.

    Source:
        Detic (arXiv:2201.02605), sec. 3.3 and 5.1: the classifier's weights are texts.
    """

    def __init__(self, channels: int, *, width: int, embed_dim: int) -> None:
        super().__init__()
        flat = channels * ROI_GRID * ROI_GRID
        self.shared = nn.ModuleList([nn.Linear(flat, width), nn.Linear(width, width)])
        self.projection = nn.Linear(width, embed_dim)
        self.box_layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
        for layer in (*self.shared, self.projection, self.box_layers[0]):
            nn.init.xavier_uniform_(layer.get_parameter("weight"))
            nn.init.zeros_(layer.get_parameter("bias"))
        last = self.box_layers[2]
        nn.init.normal_(last.get_parameter("weight"), std=0.001)
        nn.init.zeros_(last.get_parameter("bias"))

    def forward(self, cells: Float[Tensor, "R F bins bins"]) -> StageAnswers:
        """Answer for pooled regions; zero regions are fine."""
        hidden = cells.flatten(1)
        for layer in self.shared:
            hidden = F.relu(layer(hidden))
        return StageAnswers(self.projection(hidden).float(), self.box_layers(hidden).float())


class CascadeMaskHead(nn.Module):
    """Class-agnostic masks of pooled regions: ``(R, F, g, g)`` to logits ``(R, 1, 2g, 2g)``.

    Source:
        Mask R-CNN (arXiv:1703.06870), fig. 4, right.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(
                Conv2dNormActivation(channels, channels, 3, norm_layer=None)
                for _ in range(MASK_CONVS)
            )
        )
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.predictor = nn.Conv2d(channels, 1, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, cells: Float[Tensor, "R F g g"]) -> Float[Tensor, "R 1 2*g 2*g"]:
        """Logits, unbounded; zero regions are fine."""
        return self.predictor(F.relu(self.upsample(self.convs(cells))))


def mean_embeddings(stages: list[Float[Tensor, "R D"]]) -> Float[Tensor, "R D"]:
    """One vector per region: the mean of its stages' directions."""
    return torch.stack([F.normalize(own, dim=1) for own in stages]).mean(dim=0)
