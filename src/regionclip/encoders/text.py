"""Words to vectors: prompt templates filled, encoded in batches, averaged per class."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from regionclip.concepts.templates import fill_template

from .clip_resnet import ClipResNet
from .tokenizer import clip_tokenizer, num_merges_of


@runtime_checkable
class TextEncoder(Protocol):
    """What :func:`class_embeddings` asks of an encoder.

    Attributes:
        reading: What it does otherwise than the tower that ``encoder_id`` names, in words; empty
            for the tower itself. Its vectors are in the tower's space, and are others.
    """

    reading: str

    @property
    def encoder_id(self) -> str:
        """Names the joint space."""
        ...

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """Token ids of ``texts``."""
        ...

    def encode_tokens(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N D"]:
        """Vectors, not normalised."""
        ...


@runtime_checkable
class CaptionEncoder(TextEncoder, Protocol):
    """A text encoder that captions of any length are read with."""

    def first_tokens(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """As :meth:`tokenize`, but a text that is too long loses its end token."""
        ...


def num_cut(encoder: CaptionEncoder, texts: Sequence[str]) -> int:
    """How many texts are longer than what an encoder reads of them."""
    if not texts:
        return 0
    return int((encoder.tokenize(texts) != encoder.first_tokens(texts)).any(dim=1).sum())


@torch.inference_mode()
def encode_texts(
    encoder: TextEncoder,
    texts: Sequence[str],
    *,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Encode any number of texts in batches of similar length, each cut to its longest text.

    Args:
        encoder: A text tower with its tokenizer.
        texts: Any number, also none.
        batch_size: Texts per forward pass.
        progress: Called after each batch with the number of texts it held; before, while they are
            taken apart into tokens, with 0. What it raises ends the work.

    Returns:
        ``(N, D)`` vectors on the CPU, float32, not normalised; ``(0, 0)`` for no texts.
    """
    if not texts:
        return torch.zeros(0, 0)
    tokenized = []
    for start in range(0, len(texts), batch_size):
        tokenized.append(encoder.tokenize(texts[start : start + batch_size]))
        if progress is not None:
            progress(0)
    tokens = torch.cat(tokenized)
    lengths = _used_columns(tokens)
    order = lengths.argsort(stable=True)
    rows = []
    for batch in order.split(batch_size):
        rows.append(encoder.encode_tokens(tokens[batch, : int(lengths[batch[-1]])]).float().cpu())
        if progress is not None:
            progress(len(batch))
    return torch.cat(rows)[order.argsort()]


def class_embeddings(
    encoder: TextEncoder,
    names: Sequence[str],
    templates: Sequence[str],
    *,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """One vector per class: the mean, over prompt templates, of raw projections.

    Args:
        encoder: A text tower with its tokenizer.
        names: Class names.
        templates: Each with ``{}`` where the name goes.
        batch_size: Prompts per forward pass; all classes times all templates are one job.
        progress: Called after each batch with the number of prompts it held.

    Returns:
        ``(C, D)``, not normalised, neither per template nor at the end.

    Source:
        RegionCLIP (arXiv:2112.09106), sec. 3.2 and appendix; the prompts are OpenAI's (CLIP,
        arXiv:2103.00020, sec. 3.1.4).
    """
    prompts = [fill_template(template, name) for name in names for template in templates]
    vectors = encode_texts(encoder, prompts, batch_size=batch_size, progress=progress)
    return vectors.reshape(len(names), len(templates), -1).mean(dim=1) if prompts else vectors


def without_padding(tokens: Int[Tensor, "N T"]) -> Int[Tensor, "N t"]:
    """The columns up to the last that is not padding in every row.

    An id of 0 is padding at the end of a row only: inside, it is ``!``.
    """
    return tokens[:, : int(_used_columns(tokens).max())] if len(tokens) else tokens


def _used_columns(tokens: Tensor) -> Tensor:
    """``(N,)`` columns up to the last one that is not padding: the causal mask reads no further."""
    positions = torch.arange(1, tokens.shape[1] + 1)
    return torch.where(tokens != 0, positions, 1).amax(dim=1)


class MissingTextTower:
    """Stands where a fine-tuned original has no text tower, and says so when it is asked.

    Attributes:
        encoder_id: No vocabulary but the file's own class embeddings is of this space.
        reading: See :class:`TextEncoder`.
    """

    reading = ""

    def __init__(self, architecture: str, *, lender: str | None = None) -> None:
        """Say where a text tower is to be had.

        Args:
            architecture: Of the image tower.
            lender: Known name of a model that has its text tower; ``None``: OpenAI's.
        """
        self.encoder_id = f"{architecture}:no-text-tower"
        self._lender = f"openai:{architecture}" if lender is None else lender

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """Raise.

        Raises:
            ValueError: Always; the message says where a text tower is to be had.
        """
        raise ValueError(
            f"this file carries no text tower, so it knows its own classes only, not "
            f"{list(texts[:1])}; load it with text_weights={self._lender!r} (the command "
            "line: --text-weights) to name any class"
        )

    def encode_tokens(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N D"]:
        """Raise; see :meth:`tokenize`."""
        raise ValueError("this file carries no text tower")


class ShortPrompts:
    """A text tower that reads few tokens of each prompt and gives every prompt the same weight.

    Its vectors are of length one, so their mean over templates (:func:`class_embeddings`) is that
    of directions. They are in the space of the tower itself, whose ``encoder_id`` they have.

    Source:
        tgxs002/CORA@c334a6d ``--text_len``.
    """

    def __init__(self, encoder: ClipResNet, *, length: int) -> None:
        """Cut prompts of ``encoder`` to ``length`` tokens, start and end included."""
        self._encoder = encoder
        self.reading = f"{length} tokens, each prompt of length one"
        self._tokenize = clip_tokenizer(
            num_merges=num_merges_of(encoder.spec.vocab_size), context_length=length
        )

    @property
    def encoder_id(self) -> str:
        """Names the joint space."""
        return self._encoder.encoder_id

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """Token ids; a text that is too long is cut and keeps its end token."""
        return self._tokenize(list(texts))

    def encode_tokens(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N D"]:
        """Vectors of length one."""
        return F.normalize(self._encoder.encode_tokens(tokens), dim=1)


class UnitPrompts:
    """A text tower that gives every prompt the same weight: its vectors are of length one.

    Their mean over templates (:func:`class_embeddings`) is that of directions. They are in the
    space of the tower itself, whose ``encoder_id`` they have.

    Source:
        ViLD (arXiv:2104.13921), sec. 3.2.
    """

    reading = "each prompt of length one"

    def __init__(self, encoder: TextEncoder) -> None:
        """Normalise what ``encoder`` gives."""
        self._encoder = encoder

    @property
    def encoder_id(self) -> str:
        """Names the joint space."""
        return self._encoder.encoder_id

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """Token ids, as the tower's own."""
        return self._encoder.tokenize(texts)

    def encode_tokens(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N D"]:
        """Vectors of length one."""
        return F.normalize(self._encoder.encode_tokens(tokens), dim=1)
