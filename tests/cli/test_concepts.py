import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from regionclip import load
from regionclip.cli import main
from regionclip.cli.concepts import evenly_spread
from regionclip.concepts.pool import ConceptPool
from regionclip.methods.regionclip import Config, build
from regionclip.methods.regionclip.reading import ReadModel, save_model
from tests.data.readers.test_webdataset import captions, png, write_shard
from tests.tiny_clip import TINY, tiny_clip

TEXTS = (
    "a dog beside two cats",
    "the dogs",
    "a small dog",
    " ",
    "a cat &amp; an umbrella",
    "3 , 4",
)


@pytest.fixture
def build_pool(model_file: str, workspace: Path) -> Any:
    def run(*arguments: str) -> int:
        options = ["--output", "pool.safetensors", "--student", model_file, "--device", "cpu"]
        return main(["concepts", "build", *arguments, *options, "--templates", "a {}."])

    return run


def write_captions(*texts: str) -> str:
    rows = [{"id": n, "image_id": 1, "caption": text} for n, text in enumerate(texts)]
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": rows}
    Path("captions.json").write_text(json.dumps(content))
    return "captions.json"


def test_captions_become_a_pool(
    build_pool: Any, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_captions(*TEXTS, "a hat " * 150, "a dog and a b\ufffdll")
    assert build_pool(source, "--min-count", "2") == 0
    shown = capsys.readouterr().out
    assert (
        "8 captions of 1 images read, 1 empty, 1 cut at 200 words, 1 with bytes that are no UTF-8, "
        "1 without a concept\n"
    ) in shown
    assert "4 different concepts: 2 in the pool, 2 in fewer than 2 captions\n" in shown
    pool = ConceptPool.load("pool.safetensors")
    assert (pool.names, pool.counts, pool.num_captions) == (("dog", "cat"), (4, 2), 8)
    assert pool.teacher is None
    detector = load(model_file)
    pool.check_encoders(detector.encoder_id, detector.encoder_id)
    expected = detector.encode_text(["a dog.", "a cat."])
    assert torch.allclose(pool.student.embeddings, expected, atol=1e-6)


def test_a_teacher_of_its_own_has_vectors_of_its_own(build_pool: Any, workspace: Path) -> None:
    model = build(Config(encoder=TINY, shortest_side=64, longest_side=96))
    model.encoder.load_state_dict(tiny_clip(seed=1).state_dict())
    save_model("teacher.safetensors", ReadModel(model, has_text_tower=True, reports=()))
    source = write_captions(*TEXTS)
    assert build_pool(source, "--min-count", "1", "--teacher", "teacher.safetensors") == 0
    pool = ConceptPool.load("pool.safetensors")
    teacher = load("teacher.safetensors")
    assert pool.teacher is not None
    assert pool.teacher.encoder_id == teacher.encoder_id != pool.student.encoder_id
    expected = teacher.encode_text([f"a {name}." for name in pool.names])
    assert torch.allclose(pool.teacher.embeddings, expected, atol=1e-6)


def test_the_same_model_as_teacher_is_stored_once(build_pool: Any, model_file: str) -> None:
    assert build_pool(write_captions(*TEXTS), "--min-count", "1", "--teacher", model_file) == 0
    assert ConceptPool.load("pool.safetensors").teacher is None


def test_options_decide_what_is_in_the_pool(
    build_pool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("synonyms.txt").write_text("cat = feline\n")
    Path("stop.txt").write_text("umbrella\n")
    source = write_captions(*TEXTS, "a beach umbrella by the sea")
    options = ("--min-count", "1", "--synonyms", "synonyms.txt", "--stop-words", "stop.txt")
    assert build_pool(source, *options, "--keep", "phrases", "--exclude", "sea, dogs") == 0
    pool = ConceptPool.load("pool.safetensors")
    assert dict(zip(pool.names, pool.counts, strict=True)) == {"feline": 2, "beach": 1}
    assert pool.made_with["exclude"] == ["sea", "dogs"]
    assert pool.made_with["synonyms"] == {"cat": "feline"}
    assert "3 excluded" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["names.txt", "voc20"])
def test_a_plain_list_keeps_its_names_and_order(build_pool: Any, source: str) -> None:
    Path("names.txt").write_text("zebra\nRed Umbrella\nbird\n")
    assert build_pool(source, "--exclude", "bird, bicycle") == 0
    pool = ConceptPool.load("pool.safetensors")
    expected = ("zebra", "Red Umbrella") if source == "names.txt" else ("aeroplane", "boat")
    assert pool.names[:2] == expected
    assert set(pool.counts) == {0}
    assert pool.num_captions == 0


def test_a_txt_with_a_header_is_a_table_of_captions(build_pool: Any) -> None:
    Path("captions.txt").write_text("image,caption\na.jpg,a dog\n")
    assert build_pool("captions.txt", "--min-count", "1") == 0
    assert ConceptPool.load("pool.safetensors").names == ("dog",)


def test_captions_that_cannot_be_read_are_left_out_and_said_so(
    build_pool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("shards").mkdir()
    members = {"a.png": png(1), "a.json": b'{"cap', "b.png": png(2), "b.json": captions("a dog")}
    write_shard(Path("shards/train-0.tar"), members)
    assert build_pool("shards", "--min-count", "1") == 1
    shown = capsys.readouterr()
    assert "left out: shards/train-0.tar/a.json cannot be read" in shown.err
    assert "1 images without a caption, 1 unreadable (the first are named above)" in shown.out


def test_a_broken_shard_is_left_out_and_said_so(
    build_pool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("shards").mkdir()
    for number in (0, 1):
        members = {"a.png": png(number), "a.json": captions(f"a {('dog', 'cat')[number]}")}
        write_shard(Path(f"shards/train-{number}.tar"), members)
    broken = Path("shards/train-0.tar")
    broken.write_bytes(broken.read_bytes()[:700])
    assert build_pool("shards", "--min-count", "1") == 1
    shown = capsys.readouterr()
    assert "left out: shards/train-0.tar" in shown.err
    assert "1 captions of 1 images read, 1 shards left out (named above)" in shown.out
    assert ConceptPool.load("pool.safetensors").names == ("cat",)


def test_fetched_shards_are_kept_in_the_folder_that_was_named(build_pool: Any) -> None:
    shard = write_shard(Path("a.tar"), {"a.png": png(0), "a.json": captions("a dog")})
    fsspec.filesystem("memory").pipe("/pool/s.tar", shard.read_bytes())
    assert build_pool("memory://pool/s.tar", "--min-count", "1", "--cache", "kept") == 0
    assert [each.name.endswith("-s.tar") for each in Path("kept").glob("*.tar")] == [True]
    assert ConceptPool.load("pool.safetensors").names == ("dog",)


def test_captions_are_shown_beside_their_concepts(
    build_pool: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert build_pool(write_captions(*TEXTS), "--min-count", "1", "--show-captions", "2") == 0
    shown = capsys.readouterr().out
    assert "a dog beside two cats" in shown
    assert "dog, cat" in shown
    assert "the dogs" not in shown


def test_texts_are_taken_from_the_whole_list() -> None:
    assert evenly_spread("abcdefg", 3) == ["a", "c", "e"]
    assert evenly_spread("ab", 5) == ["a", "b"]
    assert evenly_spread("ab", 0) == []


def test_a_pool_is_shown_and_taken_as_classes(
    build_pool: Any, model_file: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build_pool(write_captions(*TEXTS), "--min-count", "1") == 0
    assert main(["concepts", "show", "pool.safetensors", "--top", "1"]) == 0
    shown = capsys.readouterr().out
    assert "dog" in shown
    assert "50.00%" in shown
    assert "umbrella" not in shown
    assert "3 concepts from 6 captions" in shown
    assert "keep nouns, min_count 1" in shown
    options = ["--model", model_file, "--proposals", "grid", "--no-pictures", "--output", "o"]
    assert main(["detect", "photos", "--classes", "pool.safetensors", *options]) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["captions.json", "--min-count", "0"], "--min-count must be at least 1, got 0"),
        (["captions.json", "--show-captions", "-1"], "--show-captions must be at least 0, got -1"),
        (["captions.json", "--min-count", "9"], "is named by 9 captions; give more captions or"),
        (["captions.json", "--templates", "x"], "unknown prompt templates 'x'"),
        (["captions.json", "--synonyms", "x"], "x cannot be read as a file of synonyms"),
        (["captions.json", "--stop-words", "x"], "x cannot be read as a list of words"),
        (["nothing.json"], "nothing.json does not exist"),
        (["names.txt", "--exclude", "bird"], "--exclude keeps out all 1 names of names.txt"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_written(
    model_file: str,
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    write_captions(*TEXTS)
    Path("names.txt").write_text("bird\n")
    options = ["--output", "pool.safetensors", "--student", model_file, "--device", "cpu"]
    assert main(["concepts", "build", *arguments, *options]) == 2
    assert reason in capsys.readouterr().err
    assert not Path("pool.safetensors").exists()


def test_files_that_are_no_pool_are_refused(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["concepts", "build", "voc20", "--output", "pool.pth"]) == 2
    assert "--output pool.pth: must end in .safetensors" in capsys.readouterr().err
    assert main(["concepts", "show", "nothing.safetensors"]) == 2
    assert "nothing.safetensors does not exist" in capsys.readouterr().err
    assert main(["concepts", "show", "nothing.safetensors", "--top", "0"]) == 2
    assert "--top must be at least 1, got 0" in capsys.readouterr().err
