"""Released F-ViT and F-VLM files: recognised by their keys, and their names for our tensors."""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from regionclip.checkpoints import CheckpointError
from regionclip.concepts.class_names import names_by_count
from regionclip.encoders.eva import EVA_SPECS, EvaClipSpec
from regionclip.encoders.eva_weights import eva_tensors
from regionclip.encoders.vit import VIT_SPECS, ClipVitSpec
from regionclip.weights import WeightsEntry

from .config import FVIT_COCO, FVIT_LVIS, FVLM_COCO, FVLM_LVIS, FvitConfig, enlarged

TOWER = "backbone.visual."
"""Beginning of the frozen image tower's names; there is no text tower in these files."""
_HEAD = "roi_head.bbox_head."
TEXT_ROWS = _HEAD + "all_embeddings"
"""F-ViT's ``(D, K + 1)``: one column per class, the background last."""
CLASS_ROWS = _HEAD + "cls_embeddings"
"""F-VLM's ``(K, D)``."""
_LEARNED_BACKGROUND = (_HEAD + "bg_embedding.weight", _HEAD + "bg_embedding.bias")
UNUSED = _HEAD + "fc_cls."
"""A layer that F-ViT inherits and never runs; F-VLM's is the projection."""

_CLASS_LISTS = {65: "coco65", 80: "coco80", 1203: "lvis1203"}
"""The lists that detectors were released for, by their length."""
LARGE_LAYERS = 24
"""Blocks of a large tower."""

_NAMES = (
    (r"backbone\.interpolate1\.", "scales.finest."),
    (r"backbone\.interpolate2\.", "scales.finer."),
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"neck.pyramid.inner_blocks.\1.0."),
    (r"neck\.lateral_convs\.(\d)\.bn\.", r"neck.pyramid.inner_blocks.\1.1."),
    (r"neck\.fpn_convs\.(\d)\.conv\.", r"neck.pyramid.layer_blocks.\1.0."),
    (r"neck\.fpn_convs\.(\d)\.bn\.", r"neck.pyramid.layer_blocks.\1.1."),
    (r"rpn_head\.rpn_conv\.(\d)\.conv\.", r"rpn_head.conv.\1.0."),
    (r"rpn_head\.rpn_conv\.(\d)\.bn\.", r"rpn_head.conv.\1.1."),
    (r"rpn_head\.rpn_cls\.", "rpn_head.cls_logits."),
    (r"rpn_head\.rpn_reg\.", "rpn_head.bbox_pred."),
    (r"roi_head\.bbox_head\.shared_convs\.(\d)\.conv\.", r"box_head.convs.\1.0."),
    (r"roi_head\.bbox_head\.shared_convs\.(\d)\.bn\.", r"box_head.convs.\1.1."),
    (r"roi_head\.bbox_head\.shared_fcs\.(\d)\.", r"box_head.shared.\1."),
    (r"roi_head\.bbox_head\.cls_fcs\.0\.", "box_head.class_layer."),
    (r"roi_head\.bbox_head\.fc_cls\.", "box_head.projection."),
    (r"roi_head\.bbox_head\.reg_fcs\.0\.", "box_head.box_layer."),
    (r"roi_head\.bbox_head\.fc_reg\.", "box_head.box_offsets."),
    (r"roi_head\.bbox_head\.(detect_temperature|cls_temp)$", "box_head.similarity_scale"),
    (r"roi_head\.mask_head\.convs\.(\d)\.conv\.", r"mask_head.convs.\1.0."),
    (r"roi_head\.mask_head\.convs\.(\d)\.bn\.", r"mask_head.convs.\1.1."),
    (r"roi_head\.mask_head\.upsample\.", "mask_head.upsample."),
    (r"roi_head\.mask_head\.conv_logits\.", "mask_head.predictor."),
)
"""What a name upstream begins with, and here."""


def is_original(state: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are those of such a detector, by the original names."""
    return (TEXT_ROWS in state or CLASS_ROWS in state) and any(
        key.startswith(TOWER) for key in state
    )


def our_name(key: str) -> str | None:
    """The name of an original tensor of the detector; ``None`` if it has no place."""
    for pattern, ours in _NAMES:
        name, count = re.subn(f"^{pattern}", ours, key)
        if count:
            return name
    return None


def map_detector(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """All tensors but those of the frozen tower, by the names of :class:`~.model.Fvit`.

    Args:
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file; its path.

    Raises:
        CheckpointError: It is none of these detectors, or has no background that is known here.
    """
    if not is_original(state):
        raise CheckpointError(
            f"{source} is no F-ViT or F-VLM detector: expected {TEXT_ROWS!r} or {CLASS_ROWS!r} and "
            f"'{TOWER}*' among its {len(state)} tensors, the first named "
            f"{next(iter(state), '(none)')!r}"
        )
    is_fvit = TEXT_ROWS in state
    tensors = _class_rows(state, source)
    read = {TEXT_ROWS, CLASS_ROWS, *_LEARNED_BACKGROUND}
    for key, tensor in state.items():
        if key.startswith(TOWER) or key in read:
            continue
        is_unused = is_fvit and key.startswith(UNUSED)
        tensors[key if is_unused else our_name(key) or key] = tensor
    return tensors


def map_weights(
    state: Mapping[str, Tensor], *, source: str
) -> tuple[FvitConfig, dict[str, Tensor]]:
    """Give an original detector's tensors our names.

    Args:
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file; its path.

    Returns:
        What shapes tell of it, and the tensors. Which classes had boxes in training is not in the
        file: those of the benchmark that its number of classes belongs to.

    Raises:
        CheckpointError: It is none of these detectors, or one of parts that are not supported.
    """
    tensors = map_detector(state, source=source)
    tower = {key.removeprefix(TOWER): each for key, each in state.items() if key.startswith(TOWER)}
    config = _head_config(tensors, is_fvit=TEXT_ROWS in state)
    if "class_embedding" in tower:
        config = replace(config, vit=_vit_spec(tower, source))
        visual = {f"visual.{key}": each for key, each in tower.items()}
    elif "cls_token" in tower:
        spec = _eva_spec(tower, source)
        config = enlarged(config) if spec.layers == LARGE_LAYERS else config
        config = replace(config, eva=spec, head_width=len(tensors["box_head.class_layer.weight"]))
        visual = eva_tensors({f"visual.{key}": each for key, each in tower.items()}, source=source)
    else:
        raise CheckpointError(
            f"{source} has a frozen image tower of a kind that is not read: expected "
            f"'{TOWER}class_embedding' (OpenAI's transformer) or '{TOWER}cls_token' (EVA-02's); "
            "CLIM's detector on the ResNet RN50x64 can be trained, its file not be read"
        )
    return config, tensors | {f"encoder.clip.{name}": each for name, each in visual.items()}


def _vit_spec(tower: Mapping[str, Tensor], source: str) -> ClipVitSpec:
    """OpenAI's tower of these sizes, with GELU, as CLIM's detectors run it."""
    positions = tower.get("positional_embedding")
    sizes = (tower["class_embedding"].numel(), 0 if positions is None else len(positions))
    for spec in VIT_SPECS.values():
        if sizes == (spec.width, 1 + (spec.image_size // spec.patch_size) ** 2):
            return replace(spec, quick_gelu=False)
    raise _no_released_size(sizes, source)


def _eva_spec(tower: Mapping[str, Tensor], source: str) -> EvaClipSpec:
    """EVA-02's tower of these sizes."""
    positions = tower.get("pos_embed")
    sizes = (tower["cls_token"].numel(), 0 if positions is None else positions.shape[1])
    for spec in EVA_SPECS.values():
        if sizes == (spec.width, 1 + (spec.image_size // spec.patch_size) ** 2):
            return spec
    raise _no_released_size(sizes, source)


def _no_released_size(sizes: tuple[int, int], source: str) -> CheckpointError:
    return CheckpointError(
        f"{source} has a frozen image tower of a size that was never released: {sizes[0]} wide, "
        f"{sizes[1]} positions"
    )


def _head_config(tensors: Mapping[str, Tensor], *, is_fvit: bool) -> FvitConfig:
    """What names and shapes of the detector's own tensors tell; benchmarks tell the rest."""
    num_classes = len(tensors["class_embeddings"])
    if num_classes == FVIT_LVIS.num_classes:
        config = FVIT_LVIS if is_fvit else FVLM_LVIS
    else:
        config = FVIT_COCO if is_fvit else FVLM_COCO
    class_names, own_class_names = names_by_count(num_classes, _CLASS_LISTS)
    return replace(
        config,
        channels=tensors["rpn_head.cls_logits.weight"].shape[1],
        head_width=len(tensors["box_head.class_layer.weight"]),
        rpn_norm="rpn_head.conv.0.1.weight" in tensors,
        mask_head="mask_head.predictor.weight" in tensors,
        class_names=class_names,
        own_class_names=own_class_names,
        num_classes=num_classes,
    )


def _class_rows(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    if TEXT_ROWS in state:
        rows = state[TEXT_ROWS].T
        return {"class_embeddings": rows[:-1], "background": rows[-1]}
    missing = [name for name in _LEARNED_BACKGROUND if name not in state]
    if missing:
        raise CheckpointError(
            f"{source} lacks {missing[0]!r}: F-VLM detectors whose background was not learned are "
            "not supported"
        )
    weight, bias = (state[name] for name in _LEARNED_BACKGROUND)
    # a layer that is fed the number 1
    return {"class_embeddings": state[CLASS_ROWS], "background": weight[:, 0] + bias}


_CLIPSELF = "https://github.com/wusize/CLIPSelf"
_CLIM = "https://github.com/wusize/CLIM"


def _entry(
    file: str, title: str, *, page: str, encoder: str, preprocessing: str, variant: str = ""
) -> WeightsEntry:
    return WeightsEntry(
        file=file,
        title=title,
        source=page,
        licence="S-Lab License 1.0, non-commercial (the repository's)",
        method="fvit",
        variant=variant,
        encoder=encoder,
        preprocessing=f"RGB in [0, 1], {preprocessing}, padded to a square with the mean",
        how_to_get=f"download it with a browser from the folder that {page} links",
    )


_IMAGENET = "ImageNet's mean and standard deviation; longer side"
_CLIP = "CLIP's mean and standard deviation; longer side"
WEIGHTS: dict[str, WeightsEntry] = {
    "fvit-ov-coco-vitb16": _entry(
        "fvit_eva_vitb16_ov_coco.pth",
        "F-ViT on CLIPSelf's EVA-02 B/16, COCO's 48 base classes; detects any class",
        page=_CLIPSELF,
        encoder="EVA02-B-16",
        variant="fvit-ov-coco-vitb16",
        preprocessing=f"{_IMAGENET} 640",
    ),
    "fvit-ov-lvis-vitb16": _entry(
        "fvit_eva_vitb16_ov_lvis.pth",
        "F-ViT on CLIPSelf's EVA-02 B/16, LVIS's 866 base classes, with masks; any class",
        page=_CLIPSELF,
        encoder="EVA02-B-16",
        variant="fvit-ov-lvis-vitb16",
        preprocessing=f"{_IMAGENET} 1024",
    ),
    "fvlm-ov-coco-vitb16": _entry(
        "ovdet_openai_vitb16_ov_coco_clim.pth",
        "F-VLM on CLIM's OpenAI ViT-B/16, COCO's 48 base classes; detects any class",
        page=_CLIM,
        encoder="ViT-B-16",
        variant="fvlm-ov-coco-vitb16",
        preprocessing=f"{_CLIP} 640",
    ),
}
"""Files by names of ours: those that they have where they are linked were not seen."""
