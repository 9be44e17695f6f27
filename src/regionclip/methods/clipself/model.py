"""An EVA-02 CLIP with a dense map."""

from torch import nn

from regionclip.encoders.eva import EvaClip

from .config import ClipSelfConfig


class ClipSelf(nn.Module):
    """All weights of one model: those of a CLIP, neither more nor fewer.

    Attributes:
        config: What it was built from.
        encoder: Image and text tower.

    Source:
        CLIPSelf (arXiv:2310.01403), sec. 3; wusize/CLIPSelf@1c7fe9c.
    """

    def __init__(self, config: ClipSelfConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = EvaClip(config.encoder)


def build(config: ClipSelfConfig) -> ClipSelf:
    """Build a model with random weights, in ``eval`` mode, ready for a checkpoint."""
    return ClipSelf(config).eval()
