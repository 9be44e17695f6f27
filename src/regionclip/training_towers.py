"""Dense towers to train: opened by name or file, measured as detectors, written back."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from regionclip.checkpoints import read_checkpoint
from regionclip.dense_loading import dense_detector_of
from regionclip.detect import Detector
from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.text import UnitPrompts
from regionclip.encoders.unlocking import module_of
from regionclip.methods import find_weights
from regionclip.methods.clim import reading as clim
from regionclip.methods.clim.model import Clim
from regionclip.methods.clipself import reading as clipself
from regionclip.methods.clipself.model import ClipSelf
from regionclip.training_models import clip_with_text
from regionclip.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Tower:
    """A dense image tower with the text tower of its space.

    Attributes:
        encoder: What is trained, and what has maps.
        templates: Built-in prompts that names are put into.
        detect: Makes a detector with the weights that it has at that time.
        save: Writes a file that :func:`regionclip.load` reads.
    """

    encoder: DenseEncoder
    templates: str
    detect: Callable[[], Detector]
    save: Callable[[Path], None]

    @property
    def text(self) -> UnitPrompts:
        """What names are read with: every prompt counts the same."""
        return UnitPrompts(self.encoder)

    def naming(self, named: Vocabulary) -> Detector:
        """A detector with classes that need not be encoded again."""
        detector = self.detect()
        return Detector(replace(detector.parts, class_vocabulary=named), detector.defaults)


def open_tower(source: str, device: torch.device) -> Tower:
    """A dense tower on a device, in float32.

    Args:
        source: Known name or file: EVA-02's and CLIPSelf's, OpenAI's, CLIM's, or our own of these.
        device: To train on.

    Raises:
        CheckpointError: It is no model with a dense map and a text tower.
        ValueError: It is a ResNet, whose regions CLIM pools with attention.
    """
    path = find_weights(source)
    state = read_checkpoint(path)
    if clipself.is_clipself_file(path, state):
        own = clipself.read_model(path, state).model.float().to(device)
        return _tower(own, lambda to: clipself.save_model(to, own))
    model = clim.read_model(path, state).model
    if model.config.pooling == "attention":
        raise ValueError(
            f"{source} is a ResNet, whose regions are pooled with attention from layer4's map, and "
            "only towers with a map of vectors are trained here; start with a vision transformer"
        )
    model = model.float().to(device)
    return _tower(model, lambda to: clim.save_model(to, model))


def _tower(model: Clim | ClipSelf, save: Callable[[Path], None]) -> Tower:
    return Tower(
        encoder=model.encoder,
        templates=model.config.templates,
        detect=lambda: dense_detector_of(model),
        save=save,
    )


def frozen_clip(source: str) -> nn.Module:
    """A CLIP with both towers, whichever method's file it is in.

    Raises:
        ValueError: It has no text tower.
    """
    path = find_weights(source)
    state = read_checkpoint(path)
    if clipself.is_clipself_file(path, state) or clim.is_clim_file(path, state):
        encoder = open_tower(source, torch.device("cpu")).encoder
    else:
        encoder = clip_with_text(source).encoder
    return module_of(encoder)
