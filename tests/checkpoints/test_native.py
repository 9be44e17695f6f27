from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from regionclip.checkpoints import (
    CheckpointError,
    is_native,
    read_checkpoint,
    read_native_metadata,
    save_native,
    save_tensors,
    set_encoder_id,
)

CONFIG = {"encoder": {"width": 24, "layers": [1, 1, 1, 1]}, "rpn": None, "temperature": 0.01}


def test_a_native_file_gives_back_tensors_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "new" / "icons.safetensors"
    tensors = {"encoder.w": torch.randn(2, 3).half(), "empty": torch.zeros(0, 4)}
    save_native(
        path,
        tensors,
        method="regionclip",
        config=CONFIG,
        encoder_id="RN:1234",
        extra={"licence": "Apache-2.0"},
    )
    metadata = read_native_metadata(path)
    assert is_native(path)
    assert (metadata.method, metadata.config, metadata.encoder_id, metadata.extra) == (
        "regionclip",
        CONFIG,
        "RN:1234",
        {"licence": "Apache-2.0"},
    )
    found = read_checkpoint(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert found["encoder.w"].dtype == torch.float16


def test_a_joint_space_is_named_anew_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"w": torch.randn(2, 3).half(), "b": torch.randn(2)}
    extra = {"licence": "MIT"}
    save_native(path, tensors, method="regionclip", config=CONFIG, encoder_id="x:1", extra=extra)
    set_encoder_id(path, "x:2")
    metadata = read_native_metadata(path)
    assert (metadata.method, metadata.config, metadata.encoder_id, metadata.extra) == (
        "regionclip",
        CONFIG,
        "x:2",
        extra,
    )
    found = read_checkpoint(path)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert found["w"].dtype == torch.float16


def test_save_native_accepts_tied_and_strided_tensors(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": weight, "b": weight, "c": weight.T}
    save_native(tmp_path / "a.safetensors", tensors, method="regionclip", config={})
    found = read_checkpoint(tmp_path / "a.safetensors")
    assert torch.equal(found["b"], weight)
    assert torch.equal(found["c"], weight.T)


def test_save_tensors_leaves_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"w": torch.ones(2)}, {})
    with pytest.raises(TypeError):
        save_tensors(path, {"w": torch.zeros(2)}, {"number": 3})  # type: ignore[dict-item]
    assert torch.equal(read_checkpoint(path)["w"], torch.ones(2))
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_save_native_keeps_its_own_entries_to_itself(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="metadata entry 'method' belongs to the format"):
        save_native(tmp_path / "a", {}, method="x", config={}, extra={"method": "y"})


def test_a_file_of_others_is_not_native(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "a.safetensors")
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pth")
    assert not is_native(tmp_path / "a.safetensors")
    assert not is_native(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a.pth is not in this package's format; 'regionc"):
        read_native_metadata(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": "regionclip/2"}, "is in format 'regionclip/2', and this version reads"),
        ({"format": "regionclip/1"}, "has damaged metadata"),
        ({"format": "regionclip/1", "method": "x", "config": "{"}, "has damaged metadata"),
    ],
)
def test_read_native_metadata_refuses_what_it_cannot_read(
    entries: dict[str, str], message: str, tmp_path: Path
) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "a.safetensors", metadata=entries)
    with pytest.raises(CheckpointError, match=f"a.safetensors {message}"):
        read_native_metadata(tmp_path / "a.safetensors")


def test_reading_metadata_of_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors does not exist"):
        is_native(tmp_path / "gone.safetensors")
