from pathlib import Path
from typing import Any

import pytest
import torch

from regionclip import load
from regionclip.cli import main
from regionclip.vocabulary import Vocabulary


@pytest.fixture
def embed(model_file: str, workspace: Path) -> Any:
    def run(*arguments: str) -> int:
        return main(["embed-concepts", *arguments, "--model", model_file, "--device", "cpu"])

    return run


def test_a_file_of_names_becomes_a_vocabulary(embed: Any, model_file: str) -> None:
    Path("names.txt").write_text("cat\nred bus\n")
    assert embed("names.txt", "--output", "made/v.safetensors", "--templates", "a {}.") == 0
    vocabulary = Vocabulary.load("made/v.safetensors")
    assert vocabulary.names == ("cat", "red bus")
    assert vocabulary.templates == ("a {}.",)
    detector = load(model_file)
    vocabulary.check_encoder(detector.encoder_id)
    expected = detector.encode_text(["a cat.", "a red bus."])
    assert torch.allclose(vocabulary.embeddings, expected, atol=1e-6)


def test_detect_takes_the_vocabulary(embed: Any, model_file: str, photos: Path) -> None:
    assert embed("cat, dog", "--output", "v.safetensors", "--templates", "none") == 0
    options = ["--model", model_file, "--proposals", "grid", "--no-pictures"]
    assert main(["detect", "photos", "--classes", "v.safetensors", "--output", "o", *options]) == 0


@pytest.mark.parametrize("names", ["cat", "cat, dog"])
def test_the_bare_tensor_has_one_row_per_name(embed: Any, names: str) -> None:
    assert embed(names, "--output", "concept_embeds.pth") == 0
    rows = torch.load("concept_embeds.pth", weights_only=True)
    assert rows.shape == (len(names.split(",")), 12)
    assert rows.dtype == torch.float32


def test_prompts_are_averaged_without_normalising(embed: Any, model_file: str) -> None:
    Path("prompts.txt").write_text("a {}.\nthe {}.\n")
    assert embed("cat", "--output", "a.pth", "--templates", "prompts.txt") == 0
    expected = load(model_file).encode_text(["a cat.", "the cat."]).mean(dim=0)
    assert torch.allclose(torch.load("a.pth", weights_only=True)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["cat", "--output", "a.npy"], "--output a.npy: must end in .safetensors or .pth"),
        (["cat", "--output", "a.pth", "--batch-size", "0"], "--batch-size must be at least 1"),
        (["names.txt", "--output", "a.pth"], "names.txt: there is no such file of names"),
        (["cat", "--output", "a.pth", "--templates", "x"], "unknown prompt templates 'x'"),
    ],
)
def test_what_cannot_be_done_is_refused(
    embed: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert embed(*arguments) == 2
    assert reason in capsys.readouterr().err
