"""Dense towers to train: opened by name or file, measured as detectors, written back."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from regionclip.checkpoints import is_native, read_checkpoint
from regionclip.data.transforms import Padding
from regionclip.detect import Detector
from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.dense_resnet import DenseClipResNet
from regionclip.encoders.text import UnitPrompts
from regionclip.encoders.vit_weights import Activation, is_clip_vit, told_activation
from regionclip.flows.models import clip_with_text
from regionclip.loading.dense import DENSE_TEMPLATES, dense_detector_of
from regionclip.loading.open_clip import (
    PADDING,
    DenseOpenClip,
    create_dense,
    create_named,
    in_dense_form,
    is_open_clip_file,
    names_resnet,
    open_clip_detector_of,
    read_dense,
    save_dense,
)
from regionclip.loading.open_clip_starts import has_own_form, own_form_of, trainable_model_of
from regionclip.loading.request import OpenFile, is_open_clip_name
from regionclip.methods import find_weights, known_entry
from regionclip.methods.clim import reading as clim
from regionclip.methods.clim.learner import BoxVectors
from regionclip.methods.clim.model import Clim
from regionclip.methods.clipself import reading as clipself
from regionclip.methods.clipself.model import ClipSelf
from regionclip.methods.fvit.towers import FrozenClip
from regionclip.regions.dense_regions import map_vectors
from regionclip.regions.layer4_regions import layer4_vectors
from regionclip.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Tower:
    """A dense image tower with the text tower of its space.

    Attributes:
        encoder: What is trained, and what has maps.
        templates: Built-in prompts that names are put into.
        padding: How images are filled up where it detects.
        detect: Makes a detector with the weights that it has at that time.
        save: Writes a file that :func:`regionclip.load` reads.
        box_vectors: How it gives boxes their vectors, from normalised images; differentiable.
        has_map_of_vectors: Whether those are of its dense map, and not pooled with attention.
    """

    encoder: DenseEncoder
    templates: str
    padding: Padding
    detect: Callable[[], Detector]
    save: Callable[[Path], None]
    box_vectors: BoxVectors
    has_map_of_vectors: bool = True

    @property
    def text(self) -> UnitPrompts:
        """What names are read with: every prompt counts the same."""
        return UnitPrompts(self.encoder)

    def naming(self, named: Vocabulary) -> Detector:
        """A detector with classes that need not be encoded again."""
        detector = self.detect()
        return Detector(replace(detector.parts, class_vocabulary=named), detector.defaults)


def open_map_tower(
    source: str, device: torch.device, *, activation: Activation | None = None
) -> Tower:
    """As :func:`open_tower`, of towers alone whose regions are cut from a map of vectors.

    Raises:
        ValueError: It is a ResNet, whose regions CLIM pools with attention.
    """
    return _with_map_of_vectors(open_tower(source, device, activation=activation), source)


def open_tower(source: str, device: torch.device, *, activation: Activation | None = None) -> Tower:
    """A tower of CLIM's or CLIPSelf's kinds on a device, in float32.

    Args:
        source: Known name or file: EVA-02's and CLIPSelf's, OpenAI's, CLIM's, or our own of these;
            or ``tag:architecture`` of any of open_clip's with a dense form.
        device: To train on.
        activation: What the towers of OpenAI's layout compute with; ``None``: what the file says.

    Raises:
        CheckpointError: It is no model with a dense map and a text tower.
        ValueError: An activation was given for a tower whose activation is known, or none for a
            file that does not tell it.
    """
    if is_open_clip_name(source):
        refuse_activation(source, activation)
        encoder = create_named(source)
        if not has_own_form(encoder):
            return _open_clip_tower(in_dense_form(encoder, source), device)
        named = own_form_of(encoder, source).float().to(device)
        if isinstance(named, ClipSelf):
            return _tower(named, lambda to: clipself.save_model(to, named))
        return _tower(named, lambda to: clim.save_model(to, named))
    path = find_weights(source)
    file = OpenFile(path, read_checkpoint(path))
    return _tower_of_file(file, source, device, activation=activation)


def _is_tower(file: OpenFile) -> bool:
    """Whether a file is a tower with a dense map, rather than RegionCLIP's ResNet."""
    path, state = file.path, file.state
    return (
        is_open_clip_file(path)
        or clipself.is_clipself_file(path, state)
        or clim.is_clim_file(path, state)
    )


def _tower_of_file(
    file: OpenFile, source: str, device: torch.device, *, activation: Activation | None
) -> Tower:
    if is_open_clip_file(file.path):
        refuse_activation(source, activation)
        return _open_clip_tower(read_dense(file.path, file.state), device)
    if clipself.is_clipself_file(file.path, file.state):
        refuse_activation(source, activation)
        own = clipself.read_model(file.path, file.state).model.float().to(device)
        return _tower(own, lambda to: clipself.save_model(to, own))
    _refuse_untold_file(file, source, activation)
    model = clim.read_model(file.path, file.state, activation=activation).model.float().to(device)
    return _tower(model, lambda to: clim.save_model(to, model))


def _with_map_of_vectors(tower: Tower, source: str) -> Tower:
    if not tower.has_map_of_vectors:
        raise ValueError(
            f"{source} is a ResNet, whose regions are pooled with attention from layer4's map, and "
            "of such towers there is only CLIM's training; start with a vision transformer"
        )
    return tower


def _refuse_untold_file(file: OpenFile, source: str, activation: Activation | None) -> None:
    """Raise for a file of which nobody says what its towers compute with; training bakes it in.

    Raises:
        ValueError: Neither the name, nor the file, nor the caller says it.
    """
    is_told = activation is not None or known_entry(source) is not None or is_native(file.path)
    if not is_told and is_clip_vit(file.state) and told_activation(file.state) is None:
        raise ValueError(
            f"{source} does not say whether its towers were trained with QuickGELU, as OpenAI's "
            "and CLIM's, or GELU, as most of open_clip's: set activation to 'quick_gelu' or 'gelu' "
            "(of a teacher teacher_activation, of text_weights text_activation), or write a file "
            "that says it with 'regionclip models convert FILE own.safetensors --activation "
            "quick_gelu'"
        )


def refuse_untold(source: str, activation: Activation | None) -> None:
    """Raise for a file of which nobody says what its towers compute with.

    Args:
        source: Anything that :func:`regionclip.load` takes.
        activation: What the recipe says; ``None``: nothing.

    Raises:
        ValueError: Neither the name, nor the file, nor the recipe says it.
    """
    if activation is not None or is_open_clip_name(source) or known_entry(source) is not None:
        return
    path = find_weights(source)
    _refuse_untold_file(OpenFile(path, read_checkpoint(path)), source, activation)


def open_tower_as_named(
    source: str, device: torch.device, *, activation: Activation | None = None
) -> Tower | None:
    """As :func:`open_tower`, but open_clip's by name stay open_clip's.

    Their text towers then have the id that :func:`regionclip.load` gives the name, and with it the
    concept pools that were made by it.

    Args:
        source: As :func:`open_tower` takes it.
        device: To train on.
        activation: As of :func:`open_tower`.

    Returns:
        ``None`` for RegionCLIP's ResNet, which has no map of vectors.

    Raises:
        CheckpointError: It is no model with a dense map and a text tower.
        ValueError: There is no such file and no such name, no sound dense form of it is known, or
            as of :func:`open_tower`.
    """
    if is_open_clip_name(source):
        if names_resnet(source):
            return None
        refuse_activation(source, activation)
        return _open_clip_tower(create_dense(source), device)
    path = find_weights(source)
    file = OpenFile(path, read_checkpoint(path))
    if not _is_tower(file):
        return None
    return _with_map_of_vectors(_tower_of_file(file, source, device, activation=activation), source)


def refuse_activation(source: str, activation: Activation | None) -> None:
    """Raise for a tower whose activation is known.

    Raises:
        ValueError: One was given.
    """
    if activation is not None:
        raise ValueError(
            f"{source} is no file of a CLIP with OpenAI's vision transformer; leave out its "
            f"activation, {activation!r}"
        )


def _tower(model: Clim | ClipSelf, save: Callable[[Path], None]) -> Tower:
    encoder = model.encoder
    box_vectors: BoxVectors = partial(map_vectors, encoder)
    has_map_of_vectors = True
    if isinstance(encoder, DenseClipResNet) and model.config.map_regions == "layer4":
        box_vectors, has_map_of_vectors = partial(layer4_vectors, encoder), False
    return Tower(
        encoder=encoder,
        templates=model.config.templates,
        padding=model.config.padding,
        detect=lambda: dense_detector_of(model),
        save=save,
        box_vectors=box_vectors,
        has_map_of_vectors=has_map_of_vectors,
    )


def frozen_clip(source: str, *, activation: Activation | None = None) -> FrozenClip:
    """A CLIP with both towers, whichever method's file it is in, in float32.

    Args:
        source: Known name or file, or ``tag:architecture`` of open_clip.
        activation: What a vision transformer's towers compute with; ``None``: what the file says.

    Raises:
        ValueError: It has no text tower, an activation was given and it is no such transformer, or
            none for a file that does not tell it.
    """
    if is_open_clip_name(source):
        refuse_activation(source, activation)
        if names_resnet(source):
            return clip_with_text(source).encoder
        return trainable_model_of(source).float().encoder
    path = find_weights(source)
    state = read_checkpoint(path)
    if clim.is_clim_file(path, state):
        file = OpenFile(path, state)
        _refuse_untold_file(file, source, activation)
        return clim.read_model(path, state, activation=activation).model.float().encoder
    refuse_activation(source, activation)
    if clipself.is_clipself_file(path, state):
        return clipself.read_model(path, state).model.float().encoder
    return clip_with_text(source).encoder


def _open_clip_tower(model: DenseOpenClip, device: torch.device) -> Tower:
    model.weights.to(device)
    return Tower(
        encoder=model.encoder,
        templates=DENSE_TEMPLATES,
        padding=PADDING,
        detect=lambda: open_clip_detector_of(model.encoder),
        save=lambda to: save_dense(to, model),
        box_vectors=partial(map_vectors, model.encoder),
    )
