"""CLIM's Detic files on LVIS: recognised by their keys, and our names for their tensors."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from regionclip.checkpoints import CheckpointError
from regionclip.concepts.class_names import names_by_count
from regionclip.encoders.clip_weights import complete_clip, num_blocks
from regionclip.encoders.text_tower import text_spec_of
from regionclip.weights import WeightsEntry

from .cascade_config import BOX_WEIGHTS, CascadeConfig

TEXT = "roi_head.clip.text_encoder."
"""Beginning of the text tower's names."""
_OUR_TEXT = "encoder.clip."
_HEAD = "roi_head.bbox_head."
ROWS = tuple(f"{_HEAD}{stage}.fc_cls.zs_weight" for stage in range(len(BOX_WEIGHTS)))
"""``(D, K + 1)`` each: one column per class, and one of zeros for the background."""
_SIGNS = (*ROWS, "rpn_head.conv_cls.weight", "backbone.conv1.weight")
TRAINING_ONLY = ("roi_head.detic_tags.tag_embeddings", r"bbox_head\.\d\.freq_weight$")
"""Names, or patterns of names, of what detection does not need: classes that tags spoke of, and
how often each class occurred."""
_CLASS_LISTS = {1203: "lvis1203"}
"""The lists that detectors were released for, by their length."""

_NAMES = (
    (r"backbone\.", "backbone."),
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"pyramid.inner_blocks.\1.0."),
    (r"neck\.fpn_convs\.([012])\.conv\.", r"pyramid.layer_blocks.\1.0."),
    (r"neck\.fpn_convs\.3\.conv\.", "pyramid.extra_blocks.p6."),
    (r"neck\.fpn_convs\.4\.conv\.", "pyramid.extra_blocks.p7."),
    (r"rpn_head\.reg_convs\.(\d)\.conv\.", r"center_head.convs.\1.0."),
    (r"rpn_head\.reg_convs\.(\d)\.gn\.", r"center_head.convs.\1.1."),
    (r"rpn_head\.conv_cls\.", "center_head.heatmap."),
    (r"rpn_head\.conv_reg\.", "center_head.distances."),
    (r"rpn_head\.scales\.(\d)\.scale$", r"center_head.scales.\1"),
    (r"roi_head\.bbox_head\.(\d)\.shared_fcs\.", r"stages.\1.shared."),
    (r"roi_head\.bbox_head\.(\d)\.fc_cls\.linear\.", r"stages.\1.projection."),
    (r"roi_head\.bbox_head\.(\d)\.fc_reg\.", r"stages.\1.box_layers."),
    (r"roi_head\.mask_head\.convs\.(\d)\.conv\.", r"mask_head.convs.\1.0."),
    (r"roi_head\.mask_head\.upsample\.", "mask_head.upsample."),
    (r"roi_head\.mask_head\.conv_logits\.", "mask_head.predictor."),
    (r"roi_head\.clip\.text_encoder\.", _OUR_TEXT),
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


def is_training_only(key: str) -> bool:
    """Whether detection has no use for an original tensor."""
    return any(re.search(pattern, key) for pattern in TRAINING_ONLY)


def map_weights(
    state: Mapping[str, Tensor], *, source: str
) -> tuple[CascadeConfig, dict[str, Tensor]]:
    """Give an original detector's tensors our names.

    Args:
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file; its path.

    Returns:
        What shapes tell of it, and the tensors; those of no place keep their names.

    Raises:
        CheckpointError: It is no such detector, or one whose parts do not go together.
    """
    if not is_original(state):
        raise CheckpointError(
            f"{source} is no Detic detector with a cascade: expected tensors such as {ROWS[0]!r} "
            f"and {_SIGNS[-2]!r}, got {next(iter(state), '(none)')!r}"
        )
    rows = _class_rows(state, source)
    tensors = {our_name(key) or key: each for key, each in state.items() if key not in ROWS}
    tensors["class_embeddings"] = rows
    text = {key.removeprefix(TEXT): each for key, each in state.items() if key.startswith(TEXT)}
    # the original keeps the parts that texts go through, no scale
    if text:
        tensors |= {_OUR_TEXT + name: each for name, each in complete_clip(text).items()}
    return _config_of(tensors, text, source), tensors


def _class_rows(state: Mapping[str, Tensor], source: str) -> Tensor:
    """``(K, D)``, which all stages share."""
    first, *others = (state[name] for name in ROWS)
    for name, own in zip(ROWS[1:], others, strict=True):
        if not torch.equal(first, own):
            raise CheckpointError(
                f"{source} has other classes in {name!r} than in {ROWS[0]!r}; detectors whose "
                "stages differ in them are not supported"
            )
    if first.ndim != 2 or first[:, -1].any():
        raise CheckpointError(
            f"the last column of {ROWS[0]!r} in {source} is not the background's zeros; files of "
            "another background are not supported"
        )
    return first[:, :-1].T.contiguous()


def _config_of(
    tensors: Mapping[str, Tensor], text: Mapping[str, Tensor], source: str
) -> CascadeConfig:
    num_classes = len(tensors["class_embeddings"])
    class_names, own_class_names = names_by_count(num_classes, _CLASS_LISTS)
    first, second, third, fourth = (
        num_blocks(tensors, rf"backbone\.layer{stage}\.") for stage in (1, 2, 3, 4)
    )
    try:
        return CascadeConfig(
            layers=(first, second, third, fourth),
            width=tensors["backbone.conv1.weight"].shape[0],
            channels=tensors["center_head.heatmap.weight"].shape[1],
            head_width=len(tensors["stages.0.projection.weight"][0]),
            text=text_spec_of(text, source) if text else CascadeConfig().text,
            mask_head="mask_head.predictor.weight" in tensors,
            class_names=class_names,
            own_class_names=own_class_names,
            num_classes=num_classes,
        )
    except KeyError as error:
        raise CheckpointError(f"{source} lacks {error}; is it complete?") from error


_CLIM = "https://github.com/wusize/CLIM"
CASCADE_WEIGHTS: dict[str, WeightsEntry] = {
    "detic-ov-lvis-r50": WeightsEntry(
        file="detic_lvis_clim_centernet2.pth",
        title="Detic with CLIM's mosaics, CenterNet2 R50, LVIS's 866 base classes, with masks; any "
        "class",
        source=_CLIM,
        licence="S-Lab License 1.0, non-commercial (the repository's)",
        method="detic",
        encoder="ViT-B-32",
        preprocessing="RGB in [0, 1], ImageNet's mean and standard deviation; shorter side 800",
        how_to_get=f"download it with a browser from the folder that {_CLIM} links",
    ),
}
"""Files by names of ours: those that they have where they are linked were not seen."""
