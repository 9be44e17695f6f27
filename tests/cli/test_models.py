import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from regionclip import methods
from regionclip.checkpoints import read_checkpoint, read_native_metadata
from regionclip.cli import main
from regionclip.encoders.clip_resnet import ClipResNet, ClipResNetSpec
from regionclip.methods.cora.reading import read_model as read_cora
from regionclip.methods.cora.reading import save_region_prompt
from regionclip.methods.regionclip.reading import read_model
from regionclip.weights import WeightsEntry
from tests.cora_files import original_state, save_original, tiny_cora
from tests.tiny_dense import TINY_VIT, tiny_dense

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
BY_HAND = WeightsEntry(
    file="by_hand.pth",
    title="a model",
    source="https://example.org",
    licence="MIT (the code's)",
    method="regionclip",
    how_to_get="ask the authors",
)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.setattr("regionclip.cli.console.console.width", 240)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file in the layout of RegionCLIP's pretrained ones, with a teacher."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    for name, tensor in ClipResNet(TINY).clip.state_dict().items():
        if name.startswith("visual."):
            state[name.replace("visual.", "backbone.", 1)] = tensor
            state[name.replace("visual.", "teacher_backbone.", 1)] = tensor
        else:
            state[f"lang_encoder.{name}"] = tensor
    torch.save({"model": state, "iteration": 3}, tmp_path / "pretrained.pth")
    return tmp_path / "pretrained.pth"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> dict[str, WeightsEntry]:
    """A table of weights whose downloads are on this disk."""
    entries = {
        "here": replace(
            BY_HAND,
            file="here.pth",
            how_to_get="",
            url=checkpoint.as_uri(),
            sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        ),
        "by-hand": BY_HAND,
    }
    monkeypatch.setattr(methods, "known_weights", lambda: entries)
    return entries


def test_list_shows_names_and_what_is_in_the_cache(
    registry: dict[str, WeightsEntry], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "by_hand.pth").touch()
    assert main(["models", "list", "--cache", str(tmp_path / "cache")]) == 0
    rows = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if "│" in line}
    assert "to download" in rows["here"]
    assert str(tmp_path / "cache" / "by_hand.pth") in rows["by-hand"]


def test_list_takes_only_known_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--method", "torchvision"]) == 0
    out = capsys.readouterr().out
    assert "torchvision:fasterrcnn_resnet50_fpn" in out
    assert "regionclip-cc-rn50" not in out
    assert main(["models", "list", "--method", "coral"]) == 2
    refused = capsys.readouterr().err
    assert "unknown method 'coral'; expected one of clim, " in refused
    assert ", cora, " in refused
    assert ", regionclip, torchvision" in refused


def test_show_tells_licence_address_and_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "openai:RN50"]) == 0
    out = capsys.readouterr().out
    assert "MIT" in out
    assert "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt" in out
    assert "QuickGELU" in out


def test_show_says_that_no_hash_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "regionclip-cc-rn50"]) == 0
    out = capsys.readouterr().out
    assert "not published" in out
    assert "with a browser" in out


def test_show_says_what_a_file_holds(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", str(checkpoint)]) == 0
    rows = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if "│" in line]
    content = {part.strip(): what.strip() for part, what in rows}
    assert content["kind"] == "pretrained"
    assert content["architecture"] == "RN-1-1-1-1-w8"
    assert content["text tower"] == "yes"
    assert content["encoder"] == "141 tensors"


def test_show_tells_the_configuration_of_a_converted_file(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new.safetensors"
    assert main(["models", "convert", str(checkpoint), str(output)]) == 0
    capsys.readouterr()
    assert main(["models", "show", str(output)]) == 0
    out = capsys.readouterr().out
    assert "shortest_side" in out
    assert read_model(checkpoint).model.encoder.encoder_id in out


def test_show_refuses_a_file_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"fc.weight": torch.ones(1)}, tmp_path / "other.pth")
    assert main(["models", "show", str(tmp_path / "other.pth")]) == 2
    assert "other.pth looks like none of the known files" in capsys.readouterr().err


def test_download_leaves_the_file_in_the_cache(
    registry: dict[str, WeightsEntry],
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = tmp_path / "cache"
    assert main(["models", "download", "here", "--cache", str(cache)]) == 0
    assert (cache / "here.pth").read_bytes() == checkpoint.read_bytes()
    assert "here.pth" in capsys.readouterr().out


def test_download_goes_on_after_a_failure_and_says_so_at_the_end(
    registry: dict[str, WeightsEntry], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    assert main(["models", "download", "by-hand", "here", "--cache", str(cache)]) == 1
    captured = capsys.readouterr()
    assert "by-hand: by_hand.pth cannot be downloaded by program" in captured.err
    assert (cache / "here.pth").is_file()


def test_download_checks_all_names_before_it_starts(
    registry: dict[str, WeightsEntry], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "download", "here", "her", "--cache", str(tmp_path / "cache")]) == 2
    assert "did you mean here?" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_show_tells_what_coras_files_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_cora()
    save_original(tmp_path / "detector.pth", original_state(model), dataset_file="lvis")
    assert main(["models", "show", str(tmp_path / "detector.pth")]) == 0
    shown = capsys.readouterr().out
    for words in ("CORA detector", "RN-1-1-1-2-w8", "lvis866", "40"):
        assert words in shown
    save_region_prompt(tmp_path / "prompt.pth", model.region_prompt)
    assert main(["models", "show", str(tmp_path / "prompt.pth")]) == 0
    shown = capsys.readouterr().out
    assert "region prompt" in shown
    assert " x ".join(map(str, model.region_prompt.shape)) in shown


def test_convert_keeps_every_weight_and_says_where_it_is_from(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new.safetensors"
    assert main(["models", "convert", str(checkpoint), str(output)]) == 0
    old, new = read_model(checkpoint).model, read_model(output).model
    assert new.config == old.config
    assert new.state_dict().keys() == old.state_dict().keys()
    assert all(map(torch.equal, new.state_dict().values(), old.state_dict().values()))
    metadata = read_native_metadata(output)
    assert metadata.encoder_id == old.encoder.encoder_id
    assert metadata.extra == {
        "source": "pretrained.pth",
        "source_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    }
    out = capsys.readouterr().out
    assert "teacher" in out
    assert "new.safetensors" in out


def test_convert_of_known_weights_notes_their_licence(
    registry: dict[str, WeightsEntry], tmp_path: Path
) -> None:
    output = tmp_path / "new.safetensors"
    assert main(["models", "convert", "here", str(output), "--cache", str(tmp_path / "c")]) == 0
    assert read_native_metadata(output).extra["licence"] == "MIT (the code's)"


def test_a_converted_file_converts_to_itself(checkpoint: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert main(["models", "convert", str(checkpoint), str(first)]) == 0
    assert main(["models", "convert", str(first), str(second)]) == 0
    one, two = read_checkpoint(first), read_checkpoint(second)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert json.dumps(read_native_metadata(first).config) == json.dumps(
        read_native_metadata(second).config
    )


def test_convert_takes_a_cora_detector_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_cora()
    original = save_original(tmp_path / "checkpoint.pth", original_state(model))
    output = tmp_path / "cora.safetensors"
    assert main(["models", "convert", str(original), str(output)]) == 0
    assert f"{len(model.state_dict())}" in capsys.readouterr().out
    assert read_native_metadata(output).method == "cora"
    assert torch.equal(read_cora(output).model.anchors, model.anchors)


def test_show_and_convert_take_a_clip_with_a_vision_transformer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = replace(TINY_VIT, width=64, head_width=64, text_width=64, text_heads=1)
    encoder = tiny_dense(spec)
    torch.save({"state_dict": encoder.clip.state_dict(), "epoch": 3}, tmp_path / "epoch_3.pt")
    assert main(["models", "show", str(tmp_path / "epoch_3.pt")]) == 0
    assert "ViT-2x64-8" in capsys.readouterr().out
    converted = tmp_path / "own.safetensors"
    assert main(["models", "convert", str(tmp_path / "epoch_3.pt"), str(converted)]) == 0
    written = read_checkpoint(converted)
    for name, tensor in encoder.clip.state_dict().items():
        assert torch.equal(written["encoder.clip." + name], tensor)
    assert read_native_metadata(converted).method == "clim"
    assert "does not say" in capsys.readouterr().out
    arguments = ["models", "convert", str(tmp_path / "epoch_3.pt"), str(converted)]
    assert main([*arguments, "--activation", "gelu"]) == 0
    assert read_native_metadata(converted).config["vit"]["quick_gelu"] is False
    assert "does not say" not in capsys.readouterr().out


def test_convert_takes_a_resnet_for_clims_if_it_is_told_or_the_name_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    state = ClipResNet(TINY).clip.state_dict()
    entry = methods.known_weights()["clim-cc3m-rn50x64"]
    torch.save({"state_dict": state}, tmp_path / entry.file)
    monkeypatch.setattr("regionclip.weights.registry.default_cache_folder", lambda: tmp_path)
    output = tmp_path / "own.safetensors"
    for source, options, method in (
        ("clim-cc3m-rn50x64", [], "clim"),
        (str(tmp_path / entry.file), ["--method", "clim"], "clim"),
        (str(tmp_path / entry.file), [], "regionclip"),
    ):
        assert main(["models", "convert", source, str(output), *options]) == 0
        metadata = read_native_metadata(output)
        assert metadata.method == method
        if method == "clim":
            assert metadata.config["pooling"] == "attention"
    capsys.readouterr()
    again = tmp_path / "again.safetensors"
    for options, message in (
        (["--method", "clim"], "is no CLIP of OpenAI's layout"),
        (["--activation", "gelu"], "--activation is about CLIPs with OpenAI's vision transformer"),
    ):
        assert main(["models", "convert", str(output), str(again), *options]) == 2
        assert message in capsys.readouterr().err


def test_convert_does_not_write_over_its_input_or_under_a_wrong_name(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "convert", str(checkpoint), str(tmp_path / "new.pth")]) == 2
    assert "new.pth must end in .safetensors" in capsys.readouterr().err
    output = tmp_path / "new.safetensors"
    assert main(["models", "convert", str(checkpoint), str(output)]) == 0
    assert main(["models", "convert", str(output), str(output)]) == 2
    assert "is the file to convert" in capsys.readouterr().err


def test_convert_points_embeddings_to_the_vocabulary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(torch.ones(2, 3), tmp_path / "emb.pth")
    assert (
        main(["models", "convert", str(tmp_path / "emb.pth"), str(tmp_path / "a.safetensors")]) == 2
    )
    assert "Vocabulary.from_embedding_file" in capsys.readouterr().err
