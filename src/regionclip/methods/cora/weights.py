"""CORA's released files: recognised by their keys and shapes, and their names for our tensors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regionclip.checkpoints import CheckpointError
from regionclip.encoders.clip_weights import clip_spec_of, complete_clip
from regionclip.weights import WeightsEntry

from .config import VARIANTS, CoraConfig

CLIP = "encoder.clip."
PROMPT = "encoder.clip.visual.attnpool.positional_embedding"
"""The region prompt among the detector's tensors."""
PROMPT_KEYS = (
    "attnpool.positional_embedding",
    "backbone.0.attnpool.positional_embedding",
    "backbone.0.attn_pool.positional_embedding",
)
"""The region prompt in upstream's file of it, in its prompt training's checkpoint, and in a
detector."""

_PLACES = (
    ("backbone.0.body.", "encoder.clip.visual."),
    ("backbone.0.layer4.", "encoder.clip.visual.layer4."),
    ("backbone.0.attn_pool.", "encoder.clip.visual.attnpool."),
    ("classifier.", CLIP),
    ("transformer.encoder.", "map_encoder."),
    ("transformer.decoder.bbox_embed.", "decoder.box_heads."),
    ("bbox_embed.", "decoder.box_heads."),
    ("transformer.decoder.", "decoder."),
    ("query_embed.weight", "anchors"),
    ("input_proj.0.0.", "input_proj."),
    ("objectness_embed.", "objectness."),
    ("text_proj.", "text_proj."),
)
"""Beginning of a name upstream, and here. layer4 and the box heads are there twice."""
_LAYER_PARTS = {
    "map_encoder": {
        "self_attn": "attention",
        "norm1": "attention_norm",
        "norm2": "feedforward_norm",
    },
    "decoder": {
        "sa_qcontent_proj": "self_attention.query_content",
        "sa_qpos_proj": "self_attention.query_position",
        "sa_kcontent_proj": "self_attention.key_content",
        "sa_kpos_proj": "self_attention.key_position",
        "sa_v_proj": "self_attention.value",
        "self_attn.out_proj": "self_attention.out",
        "norm1": "self_norm",
        "ca_qcontent_proj": "cross_attention.query_content",
        "ca_qpos_proj": "cross_attention.query_position",
        "ca_qpos_sine_proj": "cross_attention.query_sine",
        "ca_kcontent_proj": "cross_attention.key_content",
        "ca_kpos_proj": "cross_attention.key_position",
        "ca_v_proj": "cross_attention.value",
        "cross_attn.out_proj": "cross_attention.out",
        "norm2": "cross_norm",
        "norm3": "feedforward_norm",
    },
}
"""Parts of a transformer layer upstream, and here."""
_FEEDFORWARD_PARTS = {
    "linear1": "feedforward.expand",
    "activation": "feedforward.activation",
    "linear2": "feedforward.contract",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CoraCheckpoint:
    """What an original file holds.

    Attributes:
        config: Read from shapes; what shapes do not tell is as in the paper's detectors.
        tensors: By the names of :class:`~.model.Cora`.
    """

    config: CoraConfig
    tensors: Mapping[str, Tensor]


def is_cora(state: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are those of a CORA detector, by its original names."""
    return "query_embed.weight" in state and any(
        key.startswith("backbone.0.body.") for key in state
    )


def is_region_prompt(state: Mapping[str, Tensor]) -> bool:
    """Whether a file holds a region prompt and nothing else."""
    return list(state) == [PROMPT_KEYS[0]]


def our_name(key: str) -> str | None:
    """The name of an original tensor in :class:`~.model.Cora`; ``None`` if it has no place."""
    for beginning, ours in _PLACES:
        if key.startswith(beginning):
            return _with_our_layer_parts(ours + key.removeprefix(beginning))
    return None


def map_weights(
    state: Mapping[str, Tensor], *, source: str, dataset: str = "coco"
) -> CoraCheckpoint:
    """Give an original detector's tensors our names.

    Args:
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file; its path.
        dataset: What it was trained on (``--dataset_file``): ``lvis``, else COCO, as the released
            ones were. Says which classes had boxes in training, and how many detections are kept.

    Raises:
        CheckpointError: It is no CORA detector, one with parts that are not supported, it lacks
            what tells its sizes, or tensors that are one and the same upstream differ in it.
    """
    if not is_cora(state):
        raise CheckpointError(
            f"{source} is no CORA detector: expected 'query_embed.weight' and 'backbone.0.body.*' "
            f"among its {len(state)} tensors, the first named {next(iter(state), '(none)')!r}"
        )
    if any(key.startswith("input_proj.0.1.") for key in state):
        raise CheckpointError(
            f"{source} has a group norm after its input projection, as upstream's --add_gn and its "
            "runs of fewer than 25 epochs make; such files are not supported"
        )
    tensors: dict[str, Tensor] = {}
    first_key: dict[str, str] = {}
    for key, tensor in state.items():
        name = our_name(key) or key
        if name in tensors and not torch.equal(tensors[name], tensor):
            raise CheckpointError(
                f"{source} has two values for one tensor: {first_key[name]!r} and {key!r} differ; "
                "is it damaged?"
            )
        tensors[name] = tensor
        first_key.setdefault(name, key)
    clip = {
        name.removeprefix(CLIP): each for name, each in tensors.items() if name.startswith(CLIP)
    }
    tensors |= {CLIP + name: each for name, each in complete_clip(clip).items()}
    like = VARIANTS["ov-lvis-rn50" if dataset == "lvis" else "ov-coco-rn50"]
    return CoraCheckpoint(config=_config_of(tensors, clip, source, like), tensors=tensors)


def _config_of(
    tensors: Mapping[str, Tensor], clip: Mapping[str, Tensor], source: str, like: CoraConfig
) -> CoraConfig:
    spec = clip_spec_of(clip, source)
    try:
        return replace(
            like,
            encoder=spec,
            num_queries=len(tensors["anchors"]),
            width=len(tensors["input_proj.weight"]),
            feedforward=len(tensors["decoder.layers.0.feedforward.expand.weight"]),
            encoder_layers=_num_layers(tensors, "map_encoder"),
            decoder_layers=_num_layers(tensors, "decoder"),
            text_bottleneck=len(tensors["text_proj.layers.0.weight"]),
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{source} is an incomplete or unusual CORA detector: {error}"
        ) from error


def _num_layers(tensors: Mapping[str, Tensor], part: str) -> int:
    pattern = rf"{part}\.layers\.(\d+)\."
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def _with_our_layer_parts(name: str) -> str:
    match = re.fullmatch(r"(map_encoder|decoder)(\.layers\.\d+\.)(.+)", name)
    if match is None:
        return name
    module, layer, rest = match.groups()
    for theirs, ours in (_LAYER_PARTS[module] | _FEEDFORWARD_PARTS).items():
        if rest.startswith(f"{theirs}."):
            return module + layer + ours + rest.removeprefix(theirs)
    return name


_PAGE = "https://github.com/tgxs002/CORA"
_PREPROCESSING = (
    "RGB in [0, 1], CLIP's mean and standard deviation; shorter side 800, longer at most 1333"
)


def _entry(file: str, title: str, *, encoder: str, variant: str = "") -> WeightsEntry:
    return WeightsEntry(
        file=file,
        title=title,
        source=_PAGE,
        licence="Apache-2.0 (the repository's; none stated for the weights)",
        method="cora",
        variant=variant,
        encoder=encoder,
        preprocessing=_PREPROCESSING,
        how_to_get=f"download it with a browser from the folder that {_PAGE} links",
    )


WEIGHTS: dict[str, WeightsEntry] = {
    f"cora-{size.lower()}": _entry(
        f"cora_{size}.pth",
        "localiser trained on COCO's 48 base classes; detects any class",
        encoder=size,
        variant=f"ov-coco-{size.lower()}",
    )
    for size in ("RN50", "RN50x4")
}
"""Files by friendly names; the originals' are linked to, not mirrored, so no hash is known."""
