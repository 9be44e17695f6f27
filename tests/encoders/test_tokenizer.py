import open_clip
import pytest

from regionclip.encoders.tokenizer import (
    CLIP_VOCAB_SIZE,
    clip_tokenizer,
    first_tokens,
    num_merges_of,
)

TEXTS = ["a photo of a remote control.", "Übergröße 42", "", "umbrella"]


def test_all_merges_give_clips_own_tokens() -> None:
    whole = clip_tokenizer(num_merges=num_merges_of(CLIP_VOCAB_SIZE), context_length=77)
    assert whole(TEXTS).equal(open_clip.get_tokenizer("RN50")(TEXTS))


def test_fewer_merges_make_more_tokens_of_the_same_words() -> None:
    few = clip_tokenizer(num_merges=100, context_length=77)
    whole = clip_tokenizer(num_merges=num_merges_of(CLIP_VOCAB_SIZE), context_length=77)
    assert int((few(TEXTS) != 0).sum()) > int((whole(TEXTS) != 0).sum())
    assert few.decode(few.encode("a remote control")) == "a remote control "


def test_ids_stay_below_the_vocabulary_and_the_end_has_the_highest() -> None:
    tokens = clip_tokenizer(num_merges=num_merges_of(600), context_length=20)(TEXTS)
    assert int(tokens.max()) == 599
    assert tokens.max(dim=1).values.tolist() == [599] * len(TEXTS)


def test_a_long_text_keeps_its_end_token() -> None:
    tokens = clip_tokenizer(num_merges=86, context_length=8)(["a very long text about nothing"])
    assert tokens.shape == (1, 8)
    assert int(tokens[0, -1]) == 599


def test_as_in_the_original_a_long_text_loses_its_end_token() -> None:
    tokenize = clip_tokenizer(num_merges=86, context_length=8)
    short, long = "hut", "a very long text about nothing"
    cut = first_tokens(tokenize, [short, long], context_length=8)
    assert cut[0].equal(tokenize([short])[0])
    assert cut[1].tolist() == [598, *tokenize.encode(long)[:7]]


def test_a_text_that_just_fits_is_cut_by_neither() -> None:
    tokenize = clip_tokenizer(num_merges=86, context_length=8)
    fits, longer = "of " * 6, "of " * 7
    cut = first_tokens(tokenize, [fits, longer], context_length=8)
    assert cut[0].equal(tokenize([fits])[0])
    assert int(cut[0, -1]) == 599
    assert int(cut[1, -1]) == int(cut[1, -2]) < 598


@pytest.mark.parametrize("vocab_size", [513, 49409])
def test_a_vocabulary_out_of_range_is_refused(vocab_size: int) -> None:
    with pytest.raises(ValueError, match=rf"must be in \[514, 49408\] .* got {vocab_size}"):
        num_merges_of(vocab_size)
