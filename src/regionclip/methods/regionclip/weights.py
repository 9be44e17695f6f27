"""RegionCLIP's released files: recognised by their keys and shapes, sorted into parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from regionclip.checkpoints import BARE_TENSOR, CheckpointError
from regionclip.encoders.clip_resnet import ClipResNetSpec
from regionclip.encoders.clip_weights import clip_spec_of, complete_clip
from regionclip.weights import WeightsEntry

Part = Literal["encoder", "teacher", "proposer", "box_predictor", "mask_head"]

_TEXT_NAMES = (
    "transformer.",
    "token_embedding.weight",
    "positional_embedding",
    "ln_final.",
    "text_projection",
    "logit_scale",
)
_PLACES: tuple[tuple[str, Part, str], ...] = (
    ("backbone.", "encoder", "visual."),
    ("visual.", "encoder", "visual."),
    ("lang_encoder.", "encoder", ""),
    *((name, "encoder", name) for name in _TEXT_NAMES),
    ("teacher_backbone.", "teacher", "visual."),
    ("teacher_visual.", "teacher", "visual."),
    ("offline_backbone.", "proposer", "backbone."),
    ("offline_proposal_generator.", "proposer", "proposal_generator."),
    ("roi_heads.box_predictor.", "box_predictor", ""),
    ("roi_heads.mask_head.", "mask_head", ""),
)
"""Prefix in the file, part it belongs to, prefix there (OpenAI's names, and detectron2's)."""
_RPN_PLACES: tuple[tuple[str, Part, str], ...] = (
    ("backbone.", "proposer", "backbone."),
    ("proposal_generator.", "proposer", "proposal_generator."),
)
"""In a Mask R-CNN file, where ``backbone.`` is the localiser's and the heads are of no use."""
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives keep as tensors; attention masks are the other such thing."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RegionClipCheckpoint:
    """What a file holds, part by part; empty for what it does not hold.

    Attributes:
        kind: ``pretrained``: RegionCLIP's own, with or without teacher and localiser.
            ``finetuned``: a detector with class embeddings and box regressor. ``clip``: OpenAI's
            CLIP, once or as teacher and student. ``rpn``: a localiser only. ``embeddings``: one
            row per class.
        encoder: Image tower, and text tower if there is one, by open_clip's names.
        spec: The encoder's architecture, read from its shapes; ``None`` without an encoder.
        teacher: A second image tower, by the names ``visual.*``.
        proposer: The localiser by detectron2's names, without the prefix ``offline_``.
        box_predictor: ``cls_score.weight`` and ``test_cls_score.weight`` (class embeddings),
            ``cls_bg_score.weight``, ``bbox_pred.*``.
        mask_head: ``deconv.*`` and ``predictor.*``.
        embeddings: ``(C, D)`` of an embedding file, float32, not normalised.
        left_over: Names in the file that belong to none of these.
    """

    kind: Literal["pretrained", "finetuned", "clip", "rpn", "embeddings"]
    encoder: Mapping[str, Tensor] = field(default_factory=dict)
    spec: ClipResNetSpec | None = None
    teacher: Mapping[str, Tensor] = field(default_factory=dict)
    proposer: Mapping[str, Tensor] = field(default_factory=dict)
    box_predictor: Mapping[str, Tensor] = field(default_factory=dict)
    mask_head: Mapping[str, Tensor] = field(default_factory=dict)
    embeddings: Tensor | None = None
    left_over: tuple[str, ...] = ()

    @property
    def has_text_tower(self) -> bool:
        """Whether texts can be encoded; fine-tuned files cannot."""
        return "text_projection" in self.encoder


def recognise_checkpoint(state: Mapping[str, Tensor], *, source: str) -> RegionClipCheckpoint:
    """Sort a file's tensors into parts by their names and shapes; the file's name plays no role.

    Args:
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file; its path.

    Raises:
        CheckpointError: It is none of RegionCLIP's, OpenAI's or detectron2's layouts, it has a
            teacher but no student, or its image tower is incomplete.
    """
    if BARE_TENSOR in state and len(state) == 1:
        embeddings = _embedding_rows(state[BARE_TENSOR], source)
        return RegionClipCheckpoint(kind="embeddings", embeddings=embeddings)
    if any(key.startswith("proposal_generator.") for key in state):
        parts, left_over = _sort(state, _RPN_PLACES)
        return RegionClipCheckpoint(kind="rpn", proposer=parts["proposer"], left_over=left_over)
    parts, left_over = _sort(state, _PLACES)
    encoder = parts["encoder"]
    if "visual.attnpool.c_proj.weight" not in encoder:
        raise CheckpointError(_unrecognised(state, parts, source))
    spec = clip_spec_of(encoder, source)
    return RegionClipCheckpoint(
        kind=_kind_of(state, parts),
        encoder=complete_clip(encoder),
        spec=spec,
        teacher=complete_clip(parts["teacher"]),
        proposer=parts["proposer"],
        box_predictor=parts["box_predictor"],
        mask_head=parts["mask_head"],
        left_over=left_over,
    )


def teacher_spec(found: RegionClipCheckpoint, source: str) -> ClipResNetSpec | None:
    """The architecture of a file's teacher, which need not be the student's.

    Args:
        found: What the file holds.
        source: How errors call it.

    Returns:
        ``None`` without a teacher.

    Raises:
        CheckpointError: It is neither the student's nor a released one.
    """
    if not found.teacher:
        return None
    # counters of batches are in some towers and not in others
    shapes = {name: each.shape for name, each in found.encoder.items() if each.ndim > 0}
    if all(shapes.get(name) == each.shape for name, each in found.teacher.items() if each.ndim > 0):
        return found.spec
    return clip_spec_of(found.teacher, f"the teacher in {source}")


def _sort(
    state: Mapping[str, Tensor], places: tuple[tuple[str, Part, str], ...]
) -> tuple[dict[Part, dict[str, Tensor]], tuple[str, ...]]:
    parts: dict[Part, dict[str, Tensor]] = {
        "encoder": {},
        "teacher": {},
        "proposer": {},
        "box_predictor": {},
        "mask_head": {},
    }
    left_over = []
    for key, tensor in state.items():
        if key in _OPENAI_EXTRAS or key.endswith("attn_mask"):
            continue
        for prefix, part, prefix_there in places:
            if key.startswith(prefix):
                parts[part][prefix_there + key.removeprefix(prefix)] = tensor
                break
        else:
            left_over.append(key)
    return parts, tuple(left_over)


def _kind_of(
    state: Mapping[str, Tensor], parts: Mapping[Part, Mapping[str, Tensor]]
) -> Literal["pretrained", "finetuned", "clip"]:
    if "cls_score.weight" in parts["box_predictor"]:
        return "finetuned"
    return "clip" if "text_projection" in state else "pretrained"


def _embedding_rows(tensor: Tensor, source: str) -> Tensor:
    """The export of one concept alone has a single axis (upstream squeezes it)."""
    rows = tensor[None] if tensor.ndim == 1 else tensor
    if rows.ndim != 2 or not rows.is_floating_point():
        raise CheckpointError(
            f"{source} holds one tensor of shape {tuple(tensor.shape)} and type {tensor.dtype}; "
            "expected class embeddings, (C, D) floating-point numbers"
        )
    return rows.float()


def _unrecognised(
    state: Mapping[str, Tensor], parts: Mapping[Part, Mapping[str, Tensor]], source: str
) -> str:
    if parts["teacher"]:
        return (
            f"{source} has a teacher's image tower ({len(parts['teacher'])} tensors) but no "
            "student's: expected it under 'backbone.' or 'visual.' too"
        )
    if "visual.proj" in state or any(key.startswith("visual.transformer.") for key in state):
        return (
            f"{source} is a CLIP with a vision transformer; expected a ModifiedResNet (RN50, "
            "RN50x4, ...), whose layer4 and attention pool RegionCLIP runs on regions"
        )
    return (
        f"{source} looks like none of the known files: {len(state)} tensors, the first named "
        f"{next(iter(state))!r}; expected a RegionCLIP checkpoint ('backbone.*'), an OpenAI CLIP "
        "('visual.*'), or a detectron2 proposal network ('proposal_generator.*')"
    )


_PAGE = "https://github.com/microsoft/RegionCLIP/blob/main/docs/MODEL_ZOO.md"
_FOLDER = "https://drive.google.com/drive/folders/1hzrJBvcCrahoRcqJRqzkIGFO_HUSJIii"
_RGB = "RGB in [0, 1], CLIP's mean and standard deviation; shorter side 800, longer at most 1333"
_BGR = "BGR in [0, 255], means 103.53, 116.28, 123.675; shorter side 800, longer at most 1333"


def _entry(
    file: str, title: str, *, folder: str, variant: str = "", encoder: str = ""
) -> WeightsEntry:
    return WeightsEntry(
        file=file,
        title=title,
        source=_PAGE,
        licence="Apache-2.0 (the repository's; none stated for the weights)",
        method="regionclip",
        variant=variant,
        encoder=encoder,
        preprocessing=_RGB if encoder else _BGR,
        how_to_get=f"download it with a browser from the folder {folder}/ of {_FOLDER}, which "
        f"{_PAGE} links",
    )


def _models(size: str) -> dict[str, WeightsEntry]:
    name = size.lower()
    return {
        f"regionclip-cc-{name}": _entry(
            f"regionclip_pretrained-cc_{name}.pth",
            "pretrained on region-text pairs of CC3M; zero-shot detection of any class",
            folder="regionclip",
            variant=f"cc-{name}",
            encoder=size,
        ),
        f"regionclip-coco-{name}": _entry(
            f"regionclip_finetuned-coco_{name}.pth",
            "fine-tuned on COCO's 48 base classes; names 65",
            folder="regionclip",
            variant=f"ov-coco-{name}",
            encoder=size,
        ),
        f"regionclip-lvis-{name}": _entry(
            f"regionclip_finetuned-lvis_{name}.pth",
            "fine-tuned on LVIS's 866 base classes; names 1203, with masks",
            folder="regionclip",
            variant=f"ov-lvis-{name}",
            encoder=size,
        ),
        f"regionclip-init-{name}": _entry(
            f"teacher_{size}_student_{size}_OAI_CLIP.pth",
            "OpenAI's CLIP twice, as teacher and student; where pretraining starts",
            folder="clip",
            encoder=size,
        ),
    }


WEIGHTS: dict[str, WeightsEntry] = {
    "icons": WeightsEntry(
        file="icons.safetensors",
        title="small detector of generated pictograms; comes with the package",
        source="recipes/icons.toml",
        licence="Apache-2.0",
        method="regionclip",
        bundled=True,
    ),
    **_models("RN50"),
    **_models("RN50x4"),
    **{
        f"regionclip-rpn-{name}": _entry(f"rpn_{name.replace('-', '_')}.pth", title, folder="rpn")
        for name, title in (
            ("coco-48", "proposals, ResNet-50 C4, trained on COCO's 48 base classes"),
            ("coco-65", "proposals, ResNet-50 C4, trained on 65 COCO classes, novel ones too"),
            ("coco-80", "proposals, ResNet-50 C4, trained on all COCO classes"),
            ("lvis-866", "proposals, ResNet-50 FPN, trained on LVIS's 866 base classes"),
            ("lvis-866-lsj", "the same trained for 400 epochs with large-scale jitter"),
            ("lvis-1203-clipbackbone", "proposals, CLIP ResNet-50 FPN, all LVIS classes"),
        )
    },
}
"""Files by friendly names; the originals' are linked to, not mirrored, so no hash is known."""
