"""Released Detic files of CLIM's: recognised by their keys, and their names for our tensors."""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from regionclip.checkpoints import CheckpointError
from regionclip.concepts.class_names import names_by_count
from regionclip.encoders.clip_weights import num_blocks
from regionclip.encoders.text_tower import text_spec_of
from regionclip.weights import WeightsEntry

from .config import DeticConfig

TEXT = "roi_head.clip.text_encoder."
"""Beginning of the text tower's names."""
_HEAD = "roi_head.bbox_head."
_REGION_STAGE = "roi_head.shared_head.layer4."
CLASS_ROWS = _HEAD + "cls_embeddings"
TAG_ROWS = "roi_head.detic_tags.tag_embeddings"
"""Classes that tags spoke of in training, which detection does not need."""
_CLASS_LISTS = {80: "coco80"}
"""The lists that detectors were released for, by their length."""
_SIGNS = (CLASS_ROWS, _REGION_STAGE + "0.conv1.weight", "rpn_head.rpn_conv.weight")

_NAMES = (
    (r"backbone\.", "proposer.backbone."),
    (r"rpn_head\.rpn_conv\.", "proposer.head.conv.0.0."),
    (r"rpn_head\.rpn_cls\.", "proposer.head.cls_logits."),
    (r"rpn_head\.rpn_reg\.", "proposer.head.bbox_pred."),
    (r"roi_head\.shared_head\.layer4\.", "region_stage."),
    (r"roi_head\.bbox_head\.fc_cls\.", "class_layer."),
    (r"roi_head\.bbox_head\.fc_reg\.", "box_layers."),
    (r"roi_head\.bbox_head\.cls_bias$", "class_bias"),
    (r"roi_head\.bbox_head\.cls_embeddings$", "class_embeddings"),
    (r"roi_head\.bbox_head\.bg_embedding$", "background"),
    (r"roi_head\.detic_caption\.bce_bias$", "caption_bias"),
    (r"roi_head\.detic_tags\.bce_bias$", "tag_bias"),
    (r"roi_head\.clip\.text_encoder\.", "encoder.clip."),
)
"""What a name upstream begins with, and here."""


def is_original(state: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are those of such a detector, by the original names."""
    return all(name in state for name in _SIGNS)


def our_name(key: str) -> str | None:
    """The name of an original tensor; ``None`` if it has no place."""
    for pattern, ours in _NAMES:
        name, count = re.subn(f"^{pattern}", ours, key)
        if count:
            return name
    return None


def map_weights(
    state: Mapping[str, Tensor], *, source: str
) -> tuple[DeticConfig, dict[str, Tensor]]:
    """Give an original detector's tensors our names.

    Args:
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file; its path.

    Returns:
        What shapes tell of it, and the tensors; those of no place keep their names.

    Raises:
        CheckpointError: It is no such detector, or of sizes that do not go together.
    """
    if not is_original(state):
        raise CheckpointError(
            f"{source} is no Detic detector on a ResNet's one map: expected tensors such as "
            f"{CLASS_ROWS!r} and {_SIGNS[1]!r}, got {next(iter(state), '(none)')!r}"
        )
    tensors = {our_name(key) or key: tensor for key, tensor in state.items()}
    if "background" in tensors:
        tensors["background"] = tensors["background"].flatten()
    return _config_of(state, source), tensors


def _config_of(state: Mapping[str, Tensor], source: str) -> DeticConfig:
    config = DeticConfig()
    stem = state.get("backbone.conv1.weight")
    if stem is None:
        raise CheckpointError(f"{source} lacks 'backbone.conv1.weight'; is it complete?")
    layers = tuple(num_blocks(state, rf"backbone\.layer{stage}\.") for stage in (1, 2, 3))
    num_classes, width = state[CLASS_ROWS].shape
    text = {key.removeprefix(TEXT): each for key, each in state.items() if key.startswith(TEXT)}
    class_names, own_class_names = names_by_count(num_classes, _CLASS_LISTS)
    try:
        rpn = replace(config.rpn, layers=layers, width=int(stem.shape[0]))
        return replace(
            config,
            rpn=rpn,
            region_blocks=num_blocks(state, re.escape(_REGION_STAGE)),
            text=text_spec_of(text, source) if text else replace(config.text, embed_dim=width),
            class_names=class_names,
            own_class_names=own_class_names,
            num_classes=num_classes,
        )
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{source} has a backbone that is not known ({error})") from error


_CLIM = "https://github.com/wusize/CLIM"
DETIC_WEIGHTS: dict[str, WeightsEntry] = {
    "detic-ov-coco-r50": WeightsEntry(
        file="detic_coco_cap_w_tags_clim.pth",
        title="Detic with CLIM's mosaics, ResNet-50, COCO's 48 base classes; detects any class",
        source=_CLIM,
        licence="S-Lab License 1.0, non-commercial (the repository's)",
        method="detic",
        variant="detic-ov-coco-r50",
        encoder="ViT-B-32",
        preprocessing="BGR, 0 to 255, minus (103.53, 116.28, 123.675); shorter side 800",
        how_to_get=f"download it with a browser from the folder that {_CLIM} links",
    ),
}
"""Files by names of ours: those that they have where they are linked were not seen."""
