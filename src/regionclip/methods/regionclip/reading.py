"""From a checkpoint file, original or our own, to a filled model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from regionclip.checkpoints import (
    CheckpointError,
    LoadReport,
    WithoutRandomWeights,
    is_native,
    load_strict,
    read_checkpoint,
    save_native,
)
from regionclip.checkpoints.own_models import own_config, own_method
from regionclip.concepts.class_names import note_on_counted_names
from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.proposals.rpn_files import RPN_METHOD
from regionclip.proposals.rpn_weights import map_rpn_weights
from regionclip.settings import settings_to_dict

from .config import VARIANTS, ZERO_SHOT_RPN, RegionClipConfig
from .model import RegionClip, build
from .weights import RegionClipCheckpoint, recognise_checkpoint, teacher_spec

CLASS_LISTS = {
    17: "coco17",
    48: "coco48",
    65: "coco65",
    80: "coco80",
    866: "lvis866",
    1203: "lvis1203",
}
"""Built-in names by the number of class embeddings that a fine-tuned file carries."""
TEXT_TOWER = (
    "transformer.",
    "token_embedding.",
    "positional_embedding",
    "ln_final.",
    "text_projection",
    "logit_scale",
)
"""Names of an encoder that a fine-tuned original lacks."""
_FOR_OTHERS = {
    "rpn": "holds a proposal network only; give it as proposals (--proposals) beside a model",
    "embeddings": "holds class embeddings only; Vocabulary.from_embedding_file reads it",
}


@dataclass(frozen=True, slots=True)
class ReadModel:
    """A model and what became of its file.

    Attributes:
        model: Filled, in ``eval`` mode.
        has_text_tower: Fine-tuned originals carry none.
        reports: One per part that was filled.
        left_over: Names in the file that no part uses.
    """

    model: RegionClip
    has_text_tower: bool
    reports: tuple[LoadReport, ...]
    left_over: tuple[str, ...] = ()


def read_model(path: str | Path, state: Mapping[str, Tensor] | None = None) -> ReadModel:
    """Read a detector from any known file; it loads whole or not at all.

    Args:
        path: The file.
        state: Its tensors, from a caller that has read them.

    Raises:
        CheckpointError: The file is unreadable, of no known layout, incomplete, or holds no image
            tower; the message says what it looks like and what to do.
    """
    path = Path(path)
    if is_native(path):
        return _read_native(path, state)
    state = read_checkpoint(path) if state is None else state
    found = recognise_checkpoint(state, source=str(path))
    if found.kind in _FOR_OTHERS:
        raise CheckpointError(f"{path} {_FOR_OTHERS[found.kind]}")
    return model_of(found, source=str(path))


def read_teacher(path: str | Path) -> ClipResNet | None:
    """Read the teacher's image tower of a file that has one beside the student's.

    Its text tower is empty: a teacher's space is that of the file's own text tower, or, if it is
    of another architecture, of that architecture's.

    Returns:
        ``None`` for a file with one image tower.

    Raises:
        CheckpointError: As :func:`read_model`.
    """
    if is_native(path):
        return None
    found = recognise_checkpoint(read_checkpoint(path), source=str(path))
    spec = teacher_spec(found, str(path))
    if spec is None:
        return None
    with WithoutRandomWeights():
        teacher = ClipResNet(spec).eval()
    load_strict(
        teacher.clip,
        found.teacher,
        source=str(path),
        target=f"the teacher, a {spec.name}",
        allowed_missing=TEXT_TOWER,
    )
    return teacher


def save_model(path: str | Path, read: ReadModel, **extra: str) -> None:
    """Write a model in the package's own format, with all that is needed to build it again.

    Args:
        path: A ``.safetensors`` file.
        read: The model; without a text tower, none is written.
        **extra: Further metadata, such as ``licence``.
    """
    tensors = {
        name: tensor
        for name, tensor in read.model.state_dict().items()
        if read.has_text_tower or not name.removeprefix("encoder.clip.").startswith(TEXT_TOWER)
    }
    save_native(
        path,
        tensors,
        method="regionclip",
        config=settings_to_dict(read.model.config),
        encoder_id=read.model.encoder.encoder_id if read.has_text_tower else None,
        extra=extra,
    )


def model_of(found: RegionClipCheckpoint, *, source: str) -> ReadModel:
    """Build the model that a recognised checkpoint holds, and fill it.

    Each part is checked and filled on its own: a localiser's tensors can reach nothing but the
    proposer. (In the original, loading them resets the recogniser's batch norms on current
    PyTorch.)

    Raises:
        CheckpointError: A part is incomplete or of another shape.
    """
    config = _config_of(found)
    parts: dict[str, Mapping[str, Tensor]] = {
        "encoder.clip": found.encoder,
        "box_regressor": _renamed(found.box_predictor, "bbox_pred."),
        "mask_head": found.mask_head,
    }
    if found.proposer:
        rpn = map_rpn_weights(found.proposer, source=source)
        selection = rpn.config.selection
        if found.kind == "pretrained":
            selection = ZERO_SHOT_RPN.selection
        config = replace(config, rpn=replace(rpn.config, selection=selection))
        parts["proposer"] = rpn.state_dict
    with WithoutRandomWeights():
        model = build(config)
    notes: tuple[str, ...] = ()
    if config.class_names:
        num_classes = config.num_test_classes or config.num_train_classes
        notes = (note_on_counted_names(source, num_classes, config.class_names),)
    reports = tuple(
        load_strict(
            model.get_submodule(name),
            state,
            source=source,
            target=f"the {name.partition('.')[0]} of RegionCLIP {config.encoder.name}",
            allowed_missing=_may_lack(name, model, found),
        )
        for name, state in parts.items()
        if state
    )
    for name, key in _EMBEDDINGS.items():
        if key in found.box_predictor:
            model.get_parameter(name).data.copy_(found.box_predictor[key])
    left_over = (*found.left_over, *(f"teacher's {name}" for name in found.teacher))
    reports = (replace(reports[0], notes=notes), *reports[1:])
    return ReadModel(model, found.has_text_tower, reports, left_over)


_EMBEDDINGS = {"train_embeddings": "cls_score.weight", "test_embeddings": "test_cls_score.weight"}
"""Parameters of the model, and their names in a fine-tuned file's box predictor."""


def _config_of(found: RegionClipCheckpoint) -> RegionClipConfig:
    """The model that a file's parts make; without a localiser for now."""
    if found.spec is None:
        raise CheckpointError(f"a file of kind {found.kind!r} holds no image tower")
    if found.kind != "finetuned":
        return replace(VARIANTS["cc-rn50"], encoder=found.spec, rpn=None)
    counts = {
        name: len(found.box_predictor[key]) if key in found.box_predictor else 0
        for name, key in _EMBEDDINGS.items()
    }
    named = counts["test_embeddings"] or counts["train_embeddings"]
    like = VARIANTS["ov-lvis-rn50" if found.mask_head or named > 80 else "ov-coco-rn50"]
    return replace(
        like,
        encoder=found.spec,
        rpn=None,
        mask_head=bool(found.mask_head),
        num_train_classes=counts["train_embeddings"],
        num_test_classes=counts["test_embeddings"],
        class_names=CLASS_LISTS.get(named, ""),
    )


def _may_lack(part: str, model: RegionClip, found: RegionClipCheckpoint) -> tuple[str, ...]:
    """Counters of batches, which frozen norms do not have, and a text tower, if there is none."""
    counters = tuple(
        name
        for name in model.get_submodule(part).state_dict()
        if name.endswith("num_batches_tracked")
    )
    is_wordless = part == "encoder.clip" and not found.has_text_tower
    return (*counters, *TEXT_TOWER) if is_wordless else counters


def _renamed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _read_native(path: Path, state: Mapping[str, Tensor] | None) -> ReadModel:
    if own_method(path) == RPN_METHOD:
        raise CheckpointError(f"{path} {_FOR_OTHERS['rpn']}")
    config = own_config(path, RegionClipConfig, method="regionclip", title="RegionCLIP")
    with WithoutRandomWeights():
        model = build(config)
    state = read_checkpoint(path) if state is None else state
    has_text_tower = "encoder.clip.text_projection" in state
    report = load_strict(
        model,
        state,
        source=str(path),
        target=f"RegionCLIP {model.config.encoder.name}",
        allowed_missing=() if has_text_tower else tuple(f"encoder.clip.{t}" for t in TEXT_TOWER),
    )
    return ReadModel(model, has_text_tower, (report,))
