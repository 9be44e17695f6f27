"""A short name for what a text tower computes, from all that decides it."""

from collections.abc import Mapping
from hashlib import sha256

from torch import Tensor

_NOT_OF_THE_TEXT = ("visual.", "logit_scale", "logit_bias")
"""Beginnings of names in open_clip's models that no text vector depends on."""
DIGITS = 12
"""Hexadecimal digits: two of a million towers share them with a chance of 2 in 1000."""


def text_fingerprint(state: Mapping[str, Tensor], *, settings: str = "") -> str:
    """Hash every tensor of the text tower: its name, its shape and its values in float32.

    The precision it is stored in plays no role where the values are the same. Takes 0.2 s for
    RN50's 64 million parameters on one core, so it is computed when asked, which is right for
    towers in training; what asks often, as a detector does, keeps the answer.

    Args:
        state: An open_clip model's ``state_dict``; its image tower is left out.
        settings: What decides text vectors too and no tensor tells, such as the activation.

    Returns:
        Hexadecimal digits, the same on every machine.
    """
    digest = sha256(settings.encode())
    for name in sorted(state):
        if name.startswith(_NOT_OF_THE_TEXT):
            continue
        values = state[name].detach()
        values = values.float() if values.is_floating_point() else values.long()
        digest.update(f"\n{name} {tuple(values.shape)}\n".encode())
        # little-endian bytes, as on every processor that PyTorch is built for but s390x
        digest.update(values.cpu().contiguous().numpy().reshape(-1).view("u1").data)
    return digest.hexdigest()[:DIGITS]
