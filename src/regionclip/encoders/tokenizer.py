"""CLIP's byte-pair tokenizer, whole or with its first merges only."""

import gzip
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from jaxtyping import Int
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from torch import Tensor

NUM_BYTES = 256
NUM_SPECIAL_TOKENS = 2
CLIP_VOCAB_SIZE = 49408
"""256 bytes, each also as the end of a word, 48894 merges, start and end of text."""


def num_merges_of(vocab_size: int) -> int:
    """Merges of a vocabulary: what is left after the bytes and the two special tokens.

    Raises:
        ValueError: ``vocab_size`` is below 514 or above CLIP's 49408.
    """
    num_merges = vocab_size - 2 * NUM_BYTES - NUM_SPECIAL_TOKENS
    if not 0 <= num_merges <= CLIP_VOCAB_SIZE - 2 * NUM_BYTES - NUM_SPECIAL_TOKENS:
        raise ValueError(
            f"vocab_size must be in [514, {CLIP_VOCAB_SIZE}] (CLIP's bytes and merges), "
            f"got {vocab_size}"
        )
    return num_merges


@cache
def clip_tokenizer(*, num_merges: int, context_length: int) -> SimpleTokenizer:
    """CLIP's tokenizer with the ``num_merges`` most frequent merges.

    Fewer merges mean a smaller embedding table; rare words then become more, shorter pieces, so
    any text can still be encoded. Padding is 0 and the end token has the highest id, as in CLIP.

    Source:
        CLIP (arXiv:2103.00020), sec. 2.4; openai/CLIP ``clip/simple_tokenizer.py``.
    """
    header, *merges = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "merges.txt.gz"
        path.write_bytes(gzip.compress("\n".join([header, *merges[:num_merges]]).encode()))
        return SimpleTokenizer(bpe_path=str(path), context_length=context_length)


def first_tokens(
    tokenize: Callable[..., Tensor], texts: Sequence[str], *, context_length: int
) -> Int[Tensor, "N T"]:
    """The first tokens of texts, whatever they are: a text that is too long loses its end token.

    Args:
        tokenize: An open_clip tokenizer, which gives a text that is too long its end token back.
        texts: Any number.
        context_length: Tokens to take, ``T``.

    Source:
        microsoft/RegionCLIP@4b8513b, which cuts so and then reads another position than the end.
    """
    # with one more position, the end token of a text that is too long is in that one
    return tokenize(list(texts), context_length=context_length + 1)[:, :context_length]
