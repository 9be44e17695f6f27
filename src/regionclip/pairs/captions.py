"""Captions told apart by their words, in whatever process."""

from hashlib import blake2b


def caption_id(caption: str) -> int:
    """A number that the same words have in every process; Python's own hashes differ.

    Case and blanks do not matter, as CLIP's tokenizer does not see them.
    """
    digest = blake2b(" ".join(caption.lower().split()).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
