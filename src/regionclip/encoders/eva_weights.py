"""EVA-CLIP's files, also as CLIPSelf trained them on or open_clip names them, for our towers."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from regionclip.checkpoints import CheckpointError

from .clip_weights import num_blocks, text_shapes_of, untold
from .eva import EVA_SPECS, EvaClipSpec

_BEGINNINGS = (("visual.trunk.", "visual."), ("text.", ""))
"""Beginning of a name in a file, and here. Files of EVA-CLIP's and open_clip's keep the text tower
under ``text.``, older ones beside the image tower as here."""
_PARTS = {
    "attn.q_bias": "attn.q_proj.bias",
    "attn.v_bias": "attn.v_proj.bias",
    "attn.inner_attn_ln.": "attn.norm.",
    "mlp.w1.": "mlp.fc1_g.",
    "mlp.w2.": "mlp.fc1_x.",
    "mlp.ffn_ln.": "mlp.norm.",
    "mlp.w3.": "mlp.fc2.",
}
"""Parts of a block in EVA-CLIP's files, and in timm's modules; timm ``models/eva.py``
(``checkpoint_filter_fn``)."""
_INNER_NORM = re.compile(r"visual\.(trunk\.)?blocks\.0\.attn\.(inner_attn_ln|norm)\.weight")


def is_eva_clip(state: Mapping[str, Tensor]) -> bool:
    """Whether a file is an EVA-02 CLIP of base or large size, in EVA-CLIP's or timm's layout."""
    return any(_INNER_NORM.fullmatch(name) for name in state)


def eva_tensors(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """The tensors of a file by the names in ``EvaClip.clip``.

    Tables of rotations, which trained files keep once per block, are left out: they are computed.

    Args:
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file.

    Raises:
        CheckpointError: Two tensors of the file have one name here.
    """
    tensors: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if re.search(r"\brope\.freqs_(cos|sin)$", key):
            continue
        name = key
        for beginning, ours in _BEGINNINGS:
            if name.startswith(beginning):
                name = ours + name.removeprefix(beginning)
        if re.match(r"visual\.blocks\.\d+\.", name):
            for theirs, ours in _PARTS.items():
                name = name.replace(theirs, ours)
        if name in tensors:
            raise CheckpointError(f"{source} has {name} under two names, one of them {key}")
        tensors[name] = tensor
    return tensors


def eva_spec_of(tensors: Mapping[str, Tensor], source: str) -> EvaClipSpec:
    """Read the architecture from shapes; heads are 64 channels wide, as in every released one.

    Args:
        tensors: From :func:`eva_tensors`.
        source: How errors call the file.

    Raises:
        CheckpointError: A tensor that tells is missing or of another number of axes.
    """
    try:
        width, _, patch_size, _ = tensors["visual.patch_embed.proj.weight"].shape
        grid = math.isqrt(tensors["visual.pos_embed"].shape[1] - 1)
        seen = EvaClipSpec(
            name="",
            embed_dim=tensors["text_projection"].shape[1],
            image_size=grid * patch_size,
            patch_size=patch_size,
            width=width,
            layers=num_blocks(tensors, r"visual\.blocks\."),
            **text_shapes_of(tensors),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise untold(error, f"{source} has an EVA-02 CLIP") from error
    named = f"EVA02-{seen.layers}x{width}-{patch_size}"
    for name, spec in EVA_SPECS.items():
        if replace(spec, name="") == seen:
            named = name
    return replace(seen, name=named)
