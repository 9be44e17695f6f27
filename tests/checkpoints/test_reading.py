import os
import pickle
import struct
import warnings
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from regionclip.checkpoints import (
    BARE_TENSOR,
    CheckpointError,
    checkpoint_format,
    read_checkpoint,
    read_training_settings,
)


def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "conv.weight": torch.randn(4, 3, 2, 2, generator=generator),
        "bn.num_batches_tracked": torch.tensor(7),
        "half": torch.randn(5, generator=generator).half(),
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def save_pth(tensors: dict[str, Tensor], path: Path) -> None:
    torch.save(tensors, path)


def save_legacy(tensors: dict[str, Tensor], path: Path) -> None:
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def save_detectron2(tensors: dict[str, Tensor], path: Path) -> None:
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    content = {"model": arrays, "__author__": "somebody", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content))


class Block(nn.Module):
    """A module of the kind that OpenAI archived."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(2)
        self.linear = nn.Linear(2, 3).half()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x)


def save_torchscript(path: Path) -> dict[str, Tensor]:
    parts = nn.Sequential(Block(), Block()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but OpenAI's archives are made like this
        torch.jit.save(torch.jit.trace(parts, torch.zeros(1, 2)), path)
    return parts.state_dict()


@pytest.mark.parametrize("save", [save_pth, save_legacy, save_file, save_detectron2])
def test_read_checkpoint_reads_every_format_by_content(
    save: Callable[[dict[str, Tensor], Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "weights.dat"
    save(state(), path)
    found = read_checkpoint(path)
    assert_same({name: found[name] for name in state()}, state())
    assert len(found) == len(state())


def test_read_checkpoint_reads_torchscript_as_its_state_dict(tmp_path: Path) -> None:
    expected = save_torchscript(tmp_path / "RN50.pt")
    found = read_checkpoint(tmp_path / "RN50.pt")
    assert found.keys() == expected.keys()
    assert_same({name: found[name] for name in expected}, dict(expected))


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_read_checkpoint_unwraps_and_leaves_the_trainer_out(wrapper: str, tmp_path: Path) -> None:
    content = {
        wrapper: OrderedDict(state()),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}},
        "trainer": {"loss": np.float64(0.5)},
        "iteration": 90000,
    }
    torch.save(content, tmp_path / "model_final.pth")
    assert_same(read_checkpoint(tmp_path / "model_final.pth"), state())


@pytest.mark.parametrize("is_zip", [True, False])
def test_read_checkpoint_forgets_the_settings_of_the_program(is_zip: bool, tmp_path: Path) -> None:
    content = {"model": state(), "args": Namespace(lr=1e-4, resume="", layers=[3, 6])}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    assert_same(read_checkpoint(tmp_path / "a.pth"), state())


def test_plain_settings_of_the_program_can_be_asked_for(tmp_path: Path) -> None:
    settings = Namespace(lr=1e-4, resume="", seed=None, layers=[3, 6], dataset_file="lvis")
    content = {"model": state(), "args": settings}
    torch.save(content, tmp_path / "a.pth")
    plain = {"lr": 1e-4, "resume": "", "seed": None, "dataset_file": "lvis"}
    assert read_training_settings(tmp_path / "a.pth") == plain
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": state(), "args": Namespace()}, tmp_path / "empty.pth")
    torch.save(state(), tmp_path / "bare.pth")
    for name in ("old.pth", "empty.pth", "bare.pth"):
        assert read_training_settings(tmp_path / name) == {}, name


@pytest.mark.parametrize(("averaged", "taken"), [(torch.ones(3), 1.0), (-1, 0.0)])
def test_read_checkpoint_takes_averaged_weights_where_there_are_some(
    averaged: Tensor | int, taken: float, tmp_path: Path
) -> None:
    is_kept = isinstance(averaged, Tensor)
    content = {"model": {"w": torch.zeros(3)}, "model_ema": {"w": averaged} if is_kept else -1}
    torch.save(content, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")["w"].tolist() == [taken] * 3


def test_read_checkpoint_removes_the_prefix_of_distributed_training(tmp_path: Path) -> None:
    torch.save({f"module.{name}": value for name, value in state().items()}, tmp_path / "a.pth")
    assert_same(read_checkpoint(tmp_path / "a.pth"), state())


def test_read_checkpoint_keeps_module_when_only_some_names_have_it(tmp_path: Path) -> None:
    tensors = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(tensors, tmp_path / "a.pth")
    assert list(read_checkpoint(tmp_path / "a.pth")) == ["module.a", "b"]


def test_read_checkpoint_names_a_tensor_without_a_name(tmp_path: Path) -> None:
    torch.save(torch.ones(65, 4), tmp_path / "emb.pth")
    np.save(tmp_path / "emb.npy", np.ones((65, 4), np.float16))
    assert read_checkpoint(tmp_path / "emb.pth")[BARE_TENSOR].shape == (65, 4)
    assert read_checkpoint(tmp_path / "emb.npy")[BARE_TENSOR].dtype == torch.float16


def test_read_checkpoint_returns_tensors_without_gradients(tmp_path: Path) -> None:
    torch.save({"w": nn.Parameter(torch.ones(2))}, tmp_path / "a.pth")
    assert not read_checkpoint(tmp_path / "a.pth")["w"].requires_grad


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_read_checkpoint_reads_arrays_of_every_pickle_and_order(
    protocol: int, tmp_path: Path
) -> None:
    arrays = {
        "big": np.arange(6, dtype=">f4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "flags": np.array([True, False]),
        "words": np.array(["no", "weights"]),
        "objects": np.array([{}, None]),
    }
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "loss": np.float32(1)}, protocol=protocol))
    found = read_checkpoint(path)
    assert list(found) == ["big", "fortran", "flags"]
    assert found["big"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["fortran"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["flags"].tolist() == [True, False]


class ForgedType:
    """A pickle of numpy's int64 that says it holds pointers to Python objects."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, ("i8", False, True), (3, "<", None, None, None, -1, -1, 63)


class ForgedArray:
    """Two numbers that numpy would take for the addresses of Python objects."""

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, arguments = np.empty(0).__reduce__()[:2]
        return rebuild, arguments, (1, (2,), ForgedType(), False, np.array([1, 2]).tobytes())


def test_read_checkpoint_does_not_take_numbers_for_addresses(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"model": {"w": ForgedArray()}}))
    assert read_checkpoint(path)["w"].tolist() == [1, 2]


class Payload:
    """Writes a file when it is unpickled by a careless reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def save_payload_pth(payload: Payload, path: Path) -> None:
    torch.save({"model": state(), "hook": payload}, path)


def save_payload_in_settings(payload: Payload, path: Path) -> None:
    torch.save({"model": state(), "args": Namespace(hook=payload)}, path)


def save_payload_legacy(payload: Payload, path: Path) -> None:
    torch.save({"hook": payload}, path, _use_new_zipfile_serialization=False)


def save_payload_pickle(payload: Payload, path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": {"w": np.ones(2)}, "hook": payload}))


def save_payload_torchscript(payload: Payload, path: Path) -> None:
    save_torchscript(path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, pickle.dumps(payload) if name.endswith("/data.pkl") else data)


@pytest.mark.parametrize(
    "save",
    [
        save_payload_pth,
        save_payload_in_settings,
        save_payload_legacy,
        save_payload_pickle,
        save_payload_torchscript,
    ],
)
def test_read_checkpoint_refuses_code_and_does_not_run_it(
    save: Callable[[Payload, Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "evil.pth"
    save(Payload(tmp_path / "was_here"), path)
    with pytest.raises(CheckpointError, match=r"evil.pth holds Python objects \(\w+\.mkdir\)"):
        read_checkpoint(path)
    assert not (tmp_path / "was_here").exists()


@pytest.mark.parametrize("save", [save_pth, save_legacy, save_file, save_detectron2])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_read_checkpoint_says_that_a_truncated_file_is_damaged(
    save: Callable[[dict[str, Tensor], Path], None], share: float, tmp_path: Path
) -> None:
    path = tmp_path / "cut.pth"
    save(state(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"cut.pth is damaged or incomplete .* again$"):
        read_checkpoint(path)


def test_read_checkpoint_raises_nothing_else_on_flipped_bytes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    path = tmp_path / "flipped"
    for save in (save_pth, save_legacy, save_file, save_detectron2):
        save(state(), path)
        whole = path.read_bytes()
        for _ in range(60):
            data = bytearray(whole)
            for position in generator.integers(0, len(data), 3):
                data[position] = generator.integers(256)
            path.write_bytes(bytes(data))
            with suppress(CheckpointError):
                read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\); download or copy it again"),
        (b"<!DOCTYPE html><html>Virus scan warning", "is a web page, not the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        (b"not a checkpoint", "is of no known format; expected a .pth or .pt of PyTorch"),
        (struct.pack("<Q", 1 << 60) + b"{" + bytes(9), "is damaged or incomplete"),
    ],
)
def test_read_checkpoint_says_what_a_wrong_file_is(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"weights.pth {message}"):
        read_checkpoint(path)


def test_read_checkpoint_says_that_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.pth does not exist"):
        read_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(CheckpointError, match="is a folder; give a file inside it"):
        read_checkpoint(tmp_path)


def test_read_checkpoint_says_what_a_file_without_tensors_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "args": "x"}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"holds no tensors \(its entries: args, epoch\)"):
        read_checkpoint(tmp_path / "a.pth")
    torch.save([1, 2], tmp_path / "b.pth")
    with pytest.raises(
        CheckpointError, match=r"b.pth holds an object of type list; expected tensors by name"
    ):
        read_checkpoint(tmp_path / "b.pth")


def test_a_header_whose_length_reads_as_a_blank_and_a_bracket_is_no_web_page(
    tmp_path: Path,
) -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    length = int.from_bytes(b" <", "little")
    path = tmp_path / "weights.safetensors"
    data = struct.pack("<f", 2.5)
    path.write_bytes(struct.pack("<Q", length) + header.ljust(length) + data)
    assert read_checkpoint(path)["w"].tolist() == [2.5]


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        (save_pth, "zip"),
        (save_legacy, "legacy"),
        (save_file, "safetensors"),
        (save_detectron2, "pickle"),
    ],
)
def test_checkpoint_format_goes_by_content(
    save: Callable[[dict[str, Tensor], Path], None], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "names.txt"
    save(state(), path)
    assert checkpoint_format(path) == expected


@pytest.mark.parametrize(
    "content",
    [
        b"PKW\ncat",
        b'[{"id": {}}]',
        b"an apple{",
        b"PAR1\x15\0\x15\x80{",
        b"\x08\x07\x12\x07pytorch",
    ],
)
def test_checkpoint_format_takes_nothing_else_for_a_checkpoint(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert checkpoint_format(path) is None


def test_checkpoint_format_refuses_what_stands_for_a_file(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(CheckpointError, match=r"names.txt is a Git LFS pointer"):
        checkpoint_format(path)
