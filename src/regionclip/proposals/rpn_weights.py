"""Read a localiser out of detectron2's names: RPN files, and ``offline_*`` of RegionCLIP's files.

What the file holds is read from its keys and shapes. Only backbone and proposal network are
taken; box and mask heads of the same Mask R-CNN are left over.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regionclip.checkpoints import CheckpointError, WithoutRandomWeights, load_strict

from .rpn import RPN_FORMS, RegionProposalNetwork, RpnConfig

_PREFIXES = (
    ("offline_backbone.", "offline_proposal_generator.rpn_head."),
    ("backbone.", "proposal_generator.rpn_head."),
)
"""Inside RegionCLIP's files, where ``backbone.`` is the recogniser; in a Mask R-CNN file."""

_BACKBONE_NAMES = (
    # the first pattern that matches is applied; bottom_up is the trunk below a pyramid
    (r"fpn_lateral(\d)\.norm\.", lambda m: f"pyramid.inner_blocks.{int(m[1]) - 2}.1."),
    (r"fpn_lateral(\d)\.", lambda m: f"pyramid.inner_blocks.{int(m[1]) - 2}.0."),
    (r"fpn_output(\d)\.norm\.", lambda m: f"pyramid.layer_blocks.{int(m[1]) - 2}.1."),
    (r"fpn_output(\d)\.", lambda m: f"pyramid.layer_blocks.{int(m[1]) - 2}.0."),
    (r"(?:bottom_up\.)?stem\.conv1\.norm\.", lambda m: "backbone.bn1."),
    (r"(?:bottom_up\.)?stem\.conv1\.", lambda m: "backbone.conv1."),
    (
        r"(?:bottom_up\.)?res(\d)\.(\d+)\.shortcut\.norm\.",
        lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.downsample.1.",
    ),
    (
        r"(?:bottom_up\.)?res(\d)\.(\d+)\.shortcut\.",
        lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.downsample.0.",
    ),
    (
        r"(?:bottom_up\.)?res(\d)\.(\d+)\.conv(\d)\.norm\.",
        lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.bn{m[3]}.",
    ),
    (
        r"(?:bottom_up\.)?res(\d)\.(\d+)\.conv(\d)\.",
        lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.conv{m[3]}.",
    ),
    (r"bottom_up\.", lambda m: "backbone."),  # a CLIP trunk keeps OpenAI's names
)
_HEAD_NAMES = (
    (r"conv\.conv(\d)\.", lambda m: f"head.conv.{m[1]}.0."),
    (r"conv\.", lambda m: "head.conv.0.0."),
    (r"objectness_logits\.", lambda m: "head.cls_logits."),
    (r"anchor_deltas\.", lambda m: "head.bbox_pred."),
)


@dataclass(frozen=True, slots=True)
class RpnWeights:
    """A localiser found in a checkpoint.

    Attributes:
        form: Which of :data:`~regionclip.proposals.rpn.RPN_FORMS` it is.
        config: The form with the depth and widths of these tensors.
        state_dict: By the names of :class:`RegionProposalNetwork`; neither names nor shapes are
            checked against it yet.
        leftover: Keys of the checkpoint that are no part of the localiser.
    """

    form: str
    config: RpnConfig
    state_dict: dict[str, Tensor]
    leftover: tuple[str, ...]


def has_rpn(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint holds a localiser, alone or beside a recogniser."""
    return any(key.startswith(head) for _, head in _PREFIXES for key in state_dict)


def map_rpn_weights(state_dict: Mapping[str, Tensor], *, source: str) -> RpnWeights:
    """Find the localiser of a checkpoint and rename its tensors.

    Args:
        state_dict: The checkpoint's tensors, without a surrounding ``{"model": ...}``.
        source: How errors call the checkpoint; its path.

    Raises:
        CheckpointError: There is no localiser, or one of no known form.
    """
    prefixes = next(
        (pair for pair in _PREFIXES if any(key.startswith(pair[1]) for key in state_dict)), None
    )
    if prefixes is None:
        raise CheckpointError(
            f"{source} holds no region proposal network (no key starts with "
            "'proposal_generator.rpn_head.' or 'offline_proposal_generator.rpn_head.'); use one of "
            "RegionCLIP's rpn_*.pth files or a RegionCLIP checkpoint with offline_* keys"
        )
    mapped: dict[str, Tensor] = {}
    leftover = []
    for key, tensor in state_dict.items():
        name = _renamed(key, prefixes)
        if name is None:
            leftover.append(key)
        else:
            mapped[name] = tensor
    for name in list(mapped):
        if name.endswith(".running_var"):  # detectron2's frozen norms count no batches
            counter = name.removesuffix("running_var") + "num_batches_tracked"
            mapped.setdefault(counter, torch.tensor(0))
    form = _form_of(mapped)
    return RpnWeights(
        form=form,
        config=_config_of(form, mapped, source),
        state_dict=mapped,
        leftover=tuple(leftover),
    )


def load_rpn(
    state_dict: Mapping[str, Tensor], *, source: str
) -> tuple[RegionProposalNetwork, tuple[str, ...]]:
    """Build the localiser of a checkpoint, frozen and made fast for inference.

    Nothing but the new network is written to: a recogniser's batch norms cannot be touched, as
    they are by the original code on current PyTorch.

    Args:
        state_dict: As for :func:`map_rpn_weights`.
        source: How errors call the checkpoint; its path.

    Returns:
        The network on the CPU in ``eval`` mode, and the checkpoint's keys that it has no use for.

    Raises:
        CheckpointError: There is no localiser, it lacks tensors, or it is of a kind not known
            here, such as one with other anchors.
    """
    network, leftover = load_unfolded_rpn(state_dict, source=source)
    return network.requires_grad_(False).fold_batch_norms(), leftover


def load_unfolded_rpn(
    state_dict: Mapping[str, Tensor], *, source: str
) -> tuple[RegionProposalNetwork, tuple[str, ...]]:
    """As :func:`load_rpn`, but with batch norms as they are: one that can be trained and saved.

    Args:
        state_dict: As for :func:`map_rpn_weights`.
        source: How errors call the checkpoint; its path.

    Raises:
        CheckpointError: As :func:`load_rpn`.
    """
    weights = map_rpn_weights(state_dict, source=source)
    with WithoutRandomWeights():
        network = RegionProposalNetwork(weights.config)
    target = f"a proposal network of form {weights.form!r}"
    load_strict(network, weights.state_dict, source=source, target=target)
    return network.eval(), weights.leftover


def _renamed(key: str, prefixes: tuple[str, str]) -> str | None:
    backbone, head = prefixes
    for prefix, names in ((backbone, _BACKBONE_NAMES), (head, _HEAD_NAMES)):
        if key.startswith(prefix):
            rest = key.removeprefix(prefix)
            for pattern, new_name in names:
                match = re.match(pattern, rest)
                if match is not None:
                    return new_name(match) + rest[match.end() :]
    return None


def _form_of(mapped: Mapping[str, Tensor]) -> str:
    """Which of :data:`RPN_FORMS` the names belong to."""
    if "backbone.conv2.weight" in mapped:
        return "fpn_clip"
    if "pyramid.inner_blocks.0.0.weight" not in mapped:
        return "c4"
    return "fpn_lsj" if "pyramid.inner_blocks.0.1.weight" in mapped else "fpn"


def _config_of(form: str, mapped: Mapping[str, Tensor], source: str) -> RpnConfig:
    """The form with depth and widths read from names and shapes."""
    last_block: dict[int, int] = {}
    for name in mapped:
        match = re.match(r"backbone\.layer(\d)\.(\d+)\.", name)
        if match is not None:
            stage, block = int(match[1]), int(match[2])
            last_block[stage] = max(last_block.get(stage, 0), block)
    layers = tuple(
        last_block.get(stage, 0) + 1 for stage in range(1, max(last_block, default=0) + 1)
    )
    stem = mapped.get("backbone.conv3.weight", mapped.get("backbone.conv1.weight"))
    head_convs = len({name for name in mapped if re.match(r"head\.conv\.\d+\.0\.weight", name)})
    lateral = mapped.get("pyramid.inner_blocks.0.0.weight")
    try:
        return replace(
            RPN_FORMS[form],
            layers=layers,
            width=64 if stem is None else int(stem.shape[0]),
            pyramid_channels=None if lateral is None else int(lateral.shape[0]),
            head_convs=max(head_convs, 1),
        )
    except ValueError as error:
        raise CheckpointError(
            f"the region proposal network in {source} is of no known form: its backbone has "
            f"stages of {layers} blocks; expected a ResNet with or without a feature "
            f"pyramid, or a CLIP ResNet with one ({error})"
        ) from error
