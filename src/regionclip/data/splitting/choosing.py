"""A share of named things, chosen by their names: their order does not matter."""

from collections.abc import Sequence
from hashlib import blake2b


def chosen(names: Sequence[str], share: float, *, seed: int) -> set[int]:
    """Choose by a hash of seed and name.

    A thing that is added or removed changes the choice of few others.

    Args:
        names: Different ones.
        share: Of them, in (0, 1), rounded; at least one, and never all.
        seed: Another one chooses others.

    Returns:
        Indices.

    Raises:
        ValueError: The share is not in (0, 1), or there are less than two names.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share must be between 0 and 1, got {share:g}")
    if len(names) < 2:
        raise ValueError(f"{len(names)} cannot be parted in two")
    number = min(max(round(share * len(names)), 1), len(names) - 1)
    ranked = sorted(range(len(names)), key=lambda row: _hash(seed, names[row]))
    return set(ranked[:number])


def _hash(seed: int, name: str) -> bytes:
    return blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()
