from pathlib import Path

import pytest

from regionclip.cli import main
from regionclip.cli.train import StageProgress
from tests.runs import losses
from tests.tiny_clim_recipes import write_tower

TINY = """
task = "icons"
region_captions = 4
caption_image_sizes = [64]

[run]
precision = "fp32"
num_workers = 0

[model]
shortest_side = 96
longest_side = 96

[model.encoder]
name = "tiny"
embed_dim = 16
image_size = 64
layers = [1, 1, 1, 1]
width = 8
text_width = 16
text_heads = 2
text_layers = 1
context_length = 32
vocab_size = 600

[captions]
steps = 1
batch_size = 4
learning_rate = 1e-3

[regions]
steps = 1
batch_size = 2
learning_rate = 1e-3

[proposals]
steps = 0
batch_size = 1
learning_rate = 1e-3
"""


def test_train_writes_weights_and_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY)
    assert main(["train", str(recipe), "--output", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "model.safetensors").stat().st_size > 0
    assert (tmp_path / "run" / "train.log").exists()
    assert "model.safetensors" in capsys.readouterr().out.replace("\n", "")


def test_train_refuses_a_recipe_with_an_unknown_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "odd.toml"
    recipe.write_text("learning_speed = 3\n" + TINY)
    assert main(["train", str(recipe), "--output", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "odd.toml" in error
    assert "learning_speed" in error


def test_train_says_that_a_recipe_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.toml"
    assert main(["train", str(missing), "--output", str(tmp_path / "run")]) == 2
    assert "missing.toml" in capsys.readouterr().err


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress() as progress:
        progress.step("captions", 1, 2, 0.5)
        progress.step("captions", 2, 2, 0.4)
        progress.step("regions", 1, 1, 0.3)
    output = capsys.readouterr()
    assert output.out == output.err == ""


def test_clipself_takes_what_propose_wrote(
    photos: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = write_tower(workspace / "start.safetensors")
    own = ["image_side=64", "learner.unlocked_groups=2", "run.precision=fp32", "run.num_workers=0"]
    own += [f"optimization.{each}" for each in ("steps=1", "batch_size=3", "warmup_steps=0")]
    own += [f"start={start}", f"data.train={photos}"]

    def trained(run: str, *settings: str) -> float:
        words = [word for each in (*own, *settings) for word in ("--set", each)]
        folder = workspace / run
        command = ["train", "clipself-proposals-small", *words, "--output", str(folder)]
        assert main([*command, "--device", "cpu"]) == 0
        assert (folder / "model.safetensors").exists()
        return losses(folder, "clipself")[0]

    for number in (1, 2):
        folder = str(workspace / f"boxes{number}")
        options = ["--max-proposals", str(number), "--device", "cpu", "--output", folder]
        assert main(["propose", str(photos), "--proposals", "random", *options]) == 0
    first, second = (trained(f"run{each}", f"data.proposals=boxes{each}") for each in (1, 2))
    assert first != second
    assert "lists" not in capsys.readouterr().err
