"""Captions and images told apart by their words and names, in whatever process."""

from hashlib import blake2b


def caption_id(caption: str) -> int:
    """A number that the same words have in every process; Python's own hashes differ.

    Case and blanks do not matter, as CLIP's tokenizer does not see them.
    """
    return _number(" ".join(caption.lower().split()))


def image_id(name: str) -> int:
    """A number that images of one name have in every process."""
    return _number(name)


def _number(text: str) -> int:
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
