"""Words to vectors: prompt templates filled, encoded in batches, averaged per class."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from regionclip.concepts.templates import fill_template

from .clip_resnet import ClipResNet
from .tokenizer import clip_tokenizer, first_tokens, num_merges_of

NAMES_SHOWN = 3
"""Of those that are too long."""

_log = logging.getLogger(__name__)


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
        """Token ids of ``texts``; one that is too long is cut and keeps its end token."""
        ...

    def first_tokens(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """As :meth:`tokenize`, but a text that is too long loses its end token."""
        ...

    def encode_tokens(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N D"]:
        """Vectors, not normalised."""
        ...


def num_cut(encoder: TextEncoder, texts: Sequence[str]) -> int:
    """How many texts are longer than what an encoder reads of them."""
    if not texts:
        return 0
    return int((encoder.tokenize(texts) != encoder.first_tokens(texts)).any(dim=1).sum())


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
    tokens = _tokenized(encoder, texts, batch_size, progress)
    return _encoded(encoder, tokens, batch_size, progress)


def _tokenized(
    encoder: TextEncoder,
    texts: Sequence[str],
    batch_size: int,
    progress: Callable[[int], None] | None,
) -> Int[Tensor, "N T"]:
    tokenized = []
    for start in range(0, len(texts), batch_size):
        tokenized.append(encoder.tokenize(texts[start : start + batch_size]))
        if progress is not None:
            progress(0)
    return torch.cat(tokenized)


@torch.inference_mode()
def _encoded(
    encoder: TextEncoder,
    tokens: Int[Tensor, "N T"],
    batch_size: int,
    progress: Callable[[int], None] | None,
) -> Float[Tensor, "N D"]:
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

    Names that are too long to be read to their end are said in the log.

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
    if not prompts:
        return torch.zeros(0, 0)
    tokens = _tokenized(encoder, prompts, batch_size, progress)
    _say_what_is_cut(encoder, names, templates, tokens)
    vectors = _encoded(encoder, tokens, batch_size, progress)
    return vectors.reshape(len(names), len(templates), -1).mean(dim=1)


def _say_what_is_cut(
    encoder: TextEncoder,
    names: Sequence[str],
    templates: Sequence[str],
    tokens: Int[Tensor, "N T"],
) -> None:
    """Warn of names that are not read to their end in the prompt that is the longest."""
    lengths = _used_columns(tokens).reshape(len(names), len(templates))
    longest = int(lengths.sum(dim=0).argmax())
    template, context = templates[longest], tokens.shape[1]
    # most have room left, so that next to nothing is taken apart twice
    full: list[int] = (lengths[:, longest] == context).nonzero()[:, 0].tolist()
    if not full:
        return
    whole = encoder.first_tokens([fill_template(template, names[row]) for row in full])
    read = tokens.reshape(len(names), len(templates), context)[full, longest]
    differs = (whole != read).any(dim=1).tolist()
    cut = [names[row] for row, lost_its_end in zip(full, differs, strict=True) if lost_its_end]
    if cut:
        _log.warning(
            "%d of %d names are longer than what this model reads, %d tokens with start and end: "
            "in the prompt %r they lose their end (%s)",
            *(len(cut), len(names), context, template),
            ", ".join(cut[:NAMES_SHOWN]) + (", ..." if len(cut) > NAMES_SHOWN else ""),
        )


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

    def first_tokens(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """Raise; see :meth:`tokenize`."""
        return self.tokenize(texts)

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
        self._length = length
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

    def first_tokens(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """As :meth:`tokenize`, but a text that is too long loses its end token."""
        return first_tokens(self._tokenize, texts, context_length=self._length)

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

    def first_tokens(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """As :meth:`tokenize`, but a text that is too long loses its end token."""
        return self._encoder.first_tokens(texts)

    def encode_tokens(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N D"]:
        """Vectors of length one."""
        return F.normalize(self._encoder.encode_tokens(tokens), dim=1)
