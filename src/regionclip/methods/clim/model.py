"""A CLIP with a dense map, for any of its architectures."""

from torch import nn

from regionclip.encoders.dense_resnet import DenseClipResNet
from regionclip.encoders.vit import ClipVit, ClipVitSpec

from .config import ClimConfig


class Clim(nn.Module):
    """All weights of one model: those of a CLIP, neither more nor fewer.

    Attributes:
        config: What it was built from.
        encoder: Image and text tower.

    Source:
        CLIM (arXiv:2312.11376), sec. 3; wusize/CLIM@7baade3.
    """

    def __init__(self, config: ClimConfig) -> None:
        super().__init__()
        self.config = config
        spec = config.encoder
        self.encoder: ClipVit | DenseClipResNet
        self.encoder = ClipVit(spec) if isinstance(spec, ClipVitSpec) else DenseClipResNet(spec)


def build(config: ClimConfig) -> Clim:
    """Build a model with random weights, in ``eval`` mode, ready for a checkpoint."""
    return Clim(config).eval()
