"""The part of an image tower that makes maps, with its batch norms folded in."""

from copy import deepcopy

from open_clip.modified_resnet import ModifiedResNet
from torch import nn

from .batch_norms import fold_batch_norms

STEM = ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3", "act3", "avgpool")


def folded_map_tower(visual: ModifiedResNet) -> nn.Sequential:
    """Copy stem to layer3, frozen, with batch norms folded into the convolutions before them.

    The copy takes normalised images and equals the original in ``eval`` mode up to rounding.
    """
    stem = nn.Sequential()
    for name in STEM:
        stem.add_module(name, deepcopy(getattr(visual, name)))
    layers = [deepcopy(layer) for layer in (visual.layer1, visual.layer2, visual.layer3)]
    tower = nn.Sequential(stem, *layers).eval().requires_grad_(False)
    fold_batch_norms(tower)
    return tower
