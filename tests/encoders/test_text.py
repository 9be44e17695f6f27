from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from regionclip.encoders import class_embeddings
from regionclip.encoders.text import ShortPrompts, encode_texts, without_padding
from regionclip.vocabulary import Vocabulary
from tests.tiny_clip import TINY, tiny_clip

NAMES = ["cat", "remote control", "dog"]
TEMPLATES = ["a photo of a {}.", "{}"]


class LetterCounts:
    """Encodes a text as its numbers of ``a`` and of letters; remembers how it was asked."""

    encoder_id = "letters"
    reading = ""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        self.batches.append(len(texts))
        return torch.tensor([[text.count("a") + 1, len(text) + 1] for text in texts])

    def first_tokens(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[text.count("a") + 1, len(text) + 1] for text in texts])

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        return (tokens - 1).float()


def test_class_embeddings_are_means_over_templates_of_raw_vectors() -> None:
    # "a cat": 2 of 5, "cat": 1 of 3; "a dog": 1 of 5, "dog": 0 of 3
    found = class_embeddings(LetterCounts(), ["cat", "dog"], ["a {}", "{}"])
    assert found.tolist() == [[1.5, 4.0], [0.5, 4.0]]


def test_an_exclamation_mark_in_a_text_is_no_padding() -> None:
    # ids: start, !, a letter, end, padding
    tokens = torch.tensor([[8, 0, 5, 9, 0, 0], [8, 0, 9, 0, 0, 0]])
    assert torch.equal(without_padding(tokens), tokens[:, :4])
    assert torch.equal(without_padding(tokens[1:]), tokens[1:, :3])
    assert without_padding(tokens[:0]).shape[0] == 0


def test_class_embeddings_equal_encoding_one_prompt_at_a_time() -> None:
    encoder = tiny_clip()
    found = class_embeddings(encoder, NAMES, TEMPLATES, batch_size=4)
    rows = []
    for name in NAMES:
        prompts = [template.format(name) for template in TEMPLATES]
        vectors = [encoder.encode_tokens(encoder.tokenize([prompt])) for prompt in prompts]
        rows.append(torch.cat(vectors).mean(dim=0))
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-4, atol=1e-5)


def test_names_and_templates_are_one_job_in_full_batches() -> None:
    encoder = LetterCounts()
    steps: list[int] = []
    class_embeddings(encoder, NAMES, ["{}"] * 5, batch_size=4, progress=steps.append)
    assert encoder.batches == [4, 4, 4, 3]
    assert steps == [0, 0, 0, 0, *encoder.batches]


def test_order_of_names_is_order_of_rows() -> None:
    encoder = tiny_clip()
    forward = class_embeddings(encoder, NAMES, TEMPLATES)
    backward = class_embeddings(encoder, NAMES[::-1], TEMPLATES)
    torch.testing.assert_close(backward, forward.flip(0), rtol=1e-4, atol=1e-5)


def test_texts_are_encoded_as_they_are() -> None:
    encoder = tiny_clip()
    found = encode_texts(encoder, NAMES)
    assert found.shape == (3, TINY.embed_dim)
    torch.testing.assert_close(found, class_embeddings(encoder, NAMES, ["{}"]))


def test_no_texts_and_no_names_give_no_rows() -> None:
    assert len(encode_texts(tiny_clip(), [])) == 0
    assert len(class_embeddings(tiny_clip(), [], TEMPLATES)) == 0


def test_vectors_carry_no_gradient() -> None:
    encoder = tiny_clip().requires_grad_(True)
    assert not encode_texts(encoder, NAMES).requires_grad


def test_short_prompts_are_cut_and_keep_their_end() -> None:
    encoder = tiny_clip()
    short = ShortPrompts(encoder, length=6)
    tokens = short.tokenize(["cat", "a photo of a very large cat"])
    assert tokens.shape == (2, 6)
    assert tokens[1, -1] == tokens.max() == encoder.tokenize(["cat"]).max()
    assert torch.equal(tokens[1, :-1], encoder.tokenize(["a photo of a very large cat"])[0, :5])
    assert short.encoder_id == encoder.encoder_id


def test_short_prompts_average_directions() -> None:
    encoder = tiny_clip()
    found = class_embeddings(ShortPrompts(encoder, length=16), ["cat"], TEMPLATES)
    each = [encode_texts(encoder, [template.format("cat")]) for template in TEMPLATES]
    expected = torch.stack([one / one.norm() for one in each]).mean(dim=0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_names_that_are_longer_than_what_is_read_are_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each of these letters is a token."""
    encoder = ShortPrompts(tiny_clip(), length=8)
    class_embeddings(encoder, ["zq", "zqzq"], ["{}", "a {}"])
    assert caplog.messages == []
    # start, a, five letters, end are eight
    names = ["zqzqz", "zqzqzx", "zqzqzj", "xjxjxj", "zqzqzqzq"]
    found = class_embeddings(encoder, names, ["{}", "a {}"], batch_size=3)
    assert caplog.messages == [
        "4 of 5 names are longer than what this model reads, 8 tokens with start and end: in the "
        "prompt 'a {}' they lose their end (zqzqzx, zqzqzj, xjxjxj, ...)"
    ]
    # a prompt that is read whole tells two names apart, or nothing does
    assert not found[1].equal(found[2])
    cut = class_embeddings(encoder, ["zqzqzx", "zqzqzj"], ["a {}"])
    assert cut[0].equal(cut[1])


def test_a_whole_tower_says_what_it_cuts(caplog: pytest.LogCaptureFixture) -> None:
    encoder = tiny_clip()
    Vocabulary.from_names(["x" * (TINY.context_length - 2)], encoder, templates=["{}"])
    assert caplog.messages == []
    Vocabulary.from_names(["x" * (TINY.context_length - 1)], encoder, templates=["{}"])
    assert len(caplog.messages) == 1
    assert (
        f"1 of 1 names are longer than what this model reads, {TINY.context_length} tokens"
        in (caplog.messages[0])
    )
