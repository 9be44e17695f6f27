import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from regionclip.checkpoints import CheckpointError
from regionclip.concepts.templates import TEMPLATES
from regionclip.data.images import ImageReadError
from regionclip.encoders.clip_resnet import ClipResNet, ClipResNetSpec
from regionclip.encoders.text import ShortPrompts
from regionclip.vocabulary import Vocabulary, VocabularyCache, VocabularyMemory

TINY = ClipResNetSpec(
    name="tiny",
    embed_dim=16,
    image_size=64,
    layers=(1, 1, 1, 1),
    width=8,
    text_width=64,
    text_heads=1,
    text_layers=1,
    vocab_size=600,
)


def encoder(seed: int = 0) -> ClipResNet:
    torch.manual_seed(seed)
    return ClipResNet(TINY).eval()


class LengthEncoder:
    """Words to vectors that can be worked out by hand: a text is its length and a constant."""

    encoder_id = "length:1"
    reading = ""

    def __init__(self) -> None:
        self.num_texts = 0

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        self.num_texts += len(texts)
        return torch.tensor([[len(text), 7] for text in texts])

    def first_tokens(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[len(text), 7] for text in texts])

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        return tokens.float()


def vocabulary() -> Vocabulary:
    return Vocabulary.from_names(["cat", "remote control"], encoder(), templates=["a {}", "{}!"])


def test_rows_are_means_over_templates_without_normalisation() -> None:
    made = Vocabulary.from_names(["cat", "horse"], LengthEncoder(), templates=["{}", "a {}, big"])
    # cat: 3 and 10 characters; horse: 5 and 12
    assert made.embeddings.tolist() == [[6.5, 7.0], [8.5, 7.0]]
    assert made.templates == ("{}", "a {}, big")
    assert made.encoder_id == "length:1"


def test_from_names_takes_81_templates_unless_told_otherwise() -> None:
    made = Vocabulary.from_names(["cat"], encoder())
    assert made.templates == TEMPLATES["imagenet80"]
    assert made.embeddings.shape == (1, 16)
    assert len(made) == 1


def test_from_names_reports_its_progress_in_prompts() -> None:
    steps: list[int] = []
    Vocabulary.from_names(
        ["cat", "dog"],
        LengthEncoder(),
        templates="imagenet80",
        batch_size=100,
        progress=steps.append,
    )
    assert steps == [0, 0, 100, 62]


def test_an_encoder_id_that_is_known_is_taken_as_it_is() -> None:
    made = Vocabulary.from_names(["cat"], LengthEncoder(), encoder_id="asked:before")
    assert made.encoder_id == "asked:before"


def test_embeddings_can_enter_a_loss() -> None:
    rows = vocabulary().embeddings
    assert not rows.is_inference()
    assert not rows.requires_grad


def test_a_vocabulary_survives_saving(tmp_path: Path) -> None:
    made = Vocabulary(
        ("Kühlschrank", "[red] cup"), torch.randn(2, 3), ("ein {}",), "RN50:0123456789ab"
    )
    made.save(tmp_path / "new" / "kitchen.safetensors")
    found = Vocabulary.load(tmp_path / "new" / "kitchen.safetensors")
    assert (found.names, found.templates, found.encoder_id) == (
        made.names,
        made.templates,
        made.encoder_id,
    )
    assert torch.equal(found.embeddings, made.embeddings)


def test_another_encoder_is_refused_in_a_sentence() -> None:
    made = vocabulary()
    made.check_encoder(encoder().encoder_id)
    with pytest.raises(
        ValueError,
        match=r"vocabulary \(2 names, the first 'cat'\) was made with encoder tiny:\w+, and the "
        r"model has tiny:\w+; encode",
    ):
        made.check_encoder(encoder(seed=1).encoder_id)


@pytest.mark.parametrize(
    ("names", "rows", "message"),
    [
        (("cat",), torch.ones(2, 3), "1 names for 2 embeddings; give one name per row"),
        ((), torch.ones(0, 3), "the class names are empty"),
        (("cat", "cat"), torch.ones(2, 3), "are both 'cat'"),
        (("cat", "dog"), torch.tensor([[1.0], [float("nan")]]), "the embedding of 'dog' holds NaN"),
    ],
)
def test_a_vocabulary_that_does_not_fit_together_is_refused(
    names: tuple[str, ...], rows: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary(names, rows, (), "RN50:1")


@pytest.mark.parametrize("suffix", [".pth", ".npy"])
def test_an_original_embedding_file_is_read_in_float32(suffix: str, tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.float16).reshape(2, 3)
    path = tmp_path / f"emb{suffix}"
    if suffix == ".npy":
        np.save(path, rows)
    else:
        torch.save(torch.from_numpy(rows), path)
    made = Vocabulary.from_embedding_file(path, ["cat", "dog"], encoder_id="tiny:1")
    assert made.embeddings.dtype == torch.float32
    assert made.embeddings.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert made.templates == ()


def test_the_export_of_a_single_concept_is_one_row(tmp_path: Path) -> None:
    torch.save(torch.arange(3.0), tmp_path / "emb.pth")
    made = Vocabulary.from_embedding_file(tmp_path / "emb.pth", ["cat"], encoder_id="tiny:1")
    assert made.embeddings.shape == (1, 3)


@pytest.mark.parametrize(
    ("content", "names", "encoder_id", "message"),
    [
        (torch.ones(3, 4), ["cat"], "tiny:1", r"emb\.pth has 3 rows, and 1 names are given"),
        (
            torch.ones(1, 512),
            ["cat"],
            "RN50x4:0123",
            r"emb\.pth has rows of 512 numbers, and encoder RN50x4:0123 makes 640: they were made "
            "with another encoder",
        ),
        ({"w": torch.ones(1)}, ["cat"], "tiny:1", r"emb\.pth holds tensors with names; expected"),
        (torch.ones(1, 2, 2), ["cat"], "tiny:1", r"holds a \(1, 2, 2\) tensor; expected class emb"),
    ],
)
def test_an_embedding_file_that_does_not_fit_is_refused(
    content: Tensor | dict[str, Tensor],
    names: list[str],
    encoder_id: str,
    message: str,
    tmp_path: Path,
) -> None:
    torch.save(content, tmp_path / "emb.pth")
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_embedding_file(tmp_path / "emb.pth", names, encoder_id=encoder_id)


def test_pictures_make_a_class_that_is_nearest_to_them() -> None:
    generator = np.random.default_rng(0)
    red, noise = np.zeros((40, 60, 3), np.uint8), generator.integers(0, 255, (50, 30, 3), np.uint8)
    red[..., 0] = 255
    made = Vocabulary.from_images({"red": [red, red[:20]], "noise": [noise]}, encoder())
    query = Vocabulary.from_images({"query": [red[:, :50]]}, encoder()).embeddings
    similarity = torch.cosine_similarity(query, made.embeddings)
    assert made.names == ("red", "noise")
    assert similarity[0] > similarity[1]
    # one picture alone: its direction, of length one
    assert made.embeddings[1].norm().item() == pytest.approx(1, abs=1e-5)


def test_pictures_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="class 'red' has no picture; give at least one"):
        Vocabulary.from_images({"red": []}, encoder())
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageReadError, match=r"broken\.jpg"):
        Vocabulary.from_images({"red": [tmp_path / "broken.jpg"]}, encoder())


def save_model(path: Path) -> None:
    save_file({"w": torch.ones(1)}, path, metadata={"format": "regionclip/1"})


def save_text(path: Path) -> None:
    path.write_text("cat\ndog\n")


def save_cut(path: Path) -> None:
    vocabulary().save(path)
    path.write_bytes(path.read_bytes()[:-8])


def save_without_names(path: Path) -> None:
    save_file(
        {"embeddings": torch.ones(1, 2)}, path, metadata={"format": "regionclip-vocabulary/1"}
    )


def save_newer(path: Path) -> None:
    save_file(
        {"embeddings": torch.ones(1, 2)}, path, metadata={"format": "regionclip-vocabulary/2"}
    )


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (save_model, "is no vocabulary, or damaged"),
        (save_text, "is no vocabulary, or damaged"),
        (save_cut, "is no vocabulary, or damaged"),
        (save_without_names, r"is damaged \('names'\); encode the names again"),
        (save_newer, r"is no vocabulary of format 'regionclip-vocabulary/1' \(its format: 'region"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(
    save: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    save(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=rf"a\.safetensors {message}"):
        Vocabulary.load(tmp_path / "a.safetensors")


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors does not exist or is no file"):
        Vocabulary.load(tmp_path / "gone.safetensors")


def test_the_cache_encodes_once(tmp_path: Path) -> None:
    cache, words = VocabularyCache(tmp_path / "cache"), LengthEncoder()
    first = cache.from_names(["cat", "horse"], words, templates="photo")
    again = cache.from_names(["cat", "horse"], words, templates="photo")
    assert words.num_texts == 2
    assert torch.equal(first.embeddings, again.embeddings)
    assert again.names == ("cat", "horse")


def test_the_cache_tells_names_templates_and_encoders_apart(tmp_path: Path) -> None:
    cache, words = VocabularyCache(tmp_path), LengthEncoder()
    other = LengthEncoder()
    other.encoder_id = "length:2"
    made = [
        cache.from_names(["cat", "horse"], words, templates="photo"),
        cache.from_names(["horse", "cat"], words, templates="photo"),
        cache.from_names(["cat", "horse"], words, templates="none"),
        cache.from_names(["cat", "horse"], other, templates="photo"),
    ]
    assert len(list(tmp_path.iterdir())) == 4
    assert made[0].embeddings.tolist() == made[1].embeddings.flip(0).tolist()
    assert made[2].embeddings.tolist() == [[3, 7], [5, 7]]
    assert made[3].encoder_id == "length:2"


def test_the_cache_tells_ways_of_reading_apart(tmp_path: Path) -> None:
    cache, whole = VocabularyCache(tmp_path), encoder()
    for words in (whole, ShortPrompts(whole, length=77), ShortPrompts(whole, length=5)):
        kept = [cache.from_names(["a red cat"], words, templates="photo") for _ in range(2)]
        expected = Vocabulary.from_names(["a red cat"], words, templates="photo")
        for each in kept:
            torch.testing.assert_close(each.embeddings, expected.embeddings)
            assert each.encoder_id == whole.encoder_id


def test_a_damaged_cache_file_is_replaced_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, words = VocabularyCache(tmp_path), LengthEncoder()
    first = cache.from_names(["cat"], words)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:40])
    with caplog.at_level(logging.WARNING):
        again = cache.from_names(["cat"], words)
    assert "encoding 1 names again" in caplog.text
    assert torch.equal(again.embeddings, first.embeddings)
    assert Vocabulary.load(path).names == ("cat",)


def test_a_memory_encodes_a_list_once_and_forgets_the_longest_unused() -> None:
    words = LengthEncoder()
    # a vocabulary of one name is two numbers of four bytes
    memory = VocabularyMemory(words, "length:1", num_bytes=2 * 8)
    cat = memory.from_names(["cat"], "none")
    memory.from_names(["dog"], "none")
    assert memory.from_names(["cat"], "none") is cat
    assert words.num_texts == 2
    memory.from_names(["horse"], "none")
    assert memory.from_names(["cat"], "none") is cat
    assert words.num_texts == 3
    memory.from_names(["dog"], "none")
    assert words.num_texts == 4


def test_a_memory_keeps_the_latest_whatever_its_size() -> None:
    words = LengthEncoder()
    memory = VocabularyMemory(words, "length:1", num_bytes=1)
    first = memory.from_names(["cat", "dog"], "none")
    assert memory.from_names(["cat", "dog"], "none") is first
    memory.from_names(["horse"], "none")
    assert memory.from_names(["cat", "dog"], "none") is not first


def test_a_memory_tells_names_and_templates_apart_and_names_the_encoder() -> None:
    memory = VocabularyMemory(LengthEncoder(), "known:1")
    plain = memory.from_names(["cat"], ["{}"])
    assert plain.encoder_id == "known:1"
    assert memory.from_names(["cat"], "none") is plain
    assert memory.from_names(["cat"], ["a {}"]).embeddings.tolist() == [[5, 7]]
    assert memory.from_names(["cat", "dog"], ["{}"]).names == ("cat", "dog")
