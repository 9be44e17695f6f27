from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regionclip.checkpoints import CheckpointError, save_native
from regionclip.encoders.eva import EvaClip
from regionclip.encoders.eva_weights import eva_spec_of, eva_tensors, is_eva_clip
from regionclip.methods.clipself import VARIANTS, Config
from regionclip.methods.clipself.reading import is_clipself_file, read_model, save_model
from tests.tiny_eva import TINY_EVA, eva_file, tiny_eva

# files do not tell how wide heads are: of released ones they are 64 channels
SPEC = replace(TINY_EVA, name="EVA02-2x64-8", width=64, layers=2, head_width=64)
IMAGES = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("form", ["bare", "training", "module", "prefixed", "open_clip"])
def test_files_of_every_form_give_the_same_model(form: str, tmp_path: Path) -> None:
    encoder = tiny_eva(spec=SPEC)
    state = eva_file(encoder)
    content: dict[str, object] = {
        "bare": state,
        "training": {"epoch": 6, "name": "x", "state_dict": state, "optimizer": {"state": {}}},
        "module": {"module": state},
        "prefixed": {"state_dict": {f"module.{name}": each for name, each in state.items()}},
        "open_clip": {
            name.replace("visual.", "visual.trunk."): each
            for name, each in encoder.clip.state_dict().items()
        },
    }[form]
    path = tmp_path / "anything"
    torch.save(content, path)
    read = read_model(path)
    assert read.model.config.encoder == SPEC
    assert not read.model.training
    assert set(read.report.loaded) == set(read.model.state_dict())
    assert not read.report.missing + read.report.left_over
    found = read.model.encoder
    assert torch.equal(found.dense_features(IMAGES), encoder.dense_features(IMAGES))
    tokens = encoder.tokenize(["a cat"])
    assert torch.equal(found.encode_tokens(tokens), encoder.encode_tokens(tokens))


def test_half_precision_is_read_into_float(tmp_path: Path) -> None:
    encoder = tiny_eva(spec=SPEC)
    torch.save({name: each.half() for name, each in eva_file(encoder).items()}, tmp_path / "half")
    found = read_model(tmp_path / "half").model.encoder
    assert {each.dtype for each in found.parameters()} == {torch.float32}
    expected = encoder.half().float()
    assert torch.equal(found.dense_features(IMAGES), expected.dense_features(IMAGES))
    assert found.encoder_id == replace_name(expected.encoder_id)


def replace_name(encoder_id: str) -> str:
    return f"{SPEC.name}:{encoder_id.partition(':')[2]}"


def test_our_own_file_gives_the_model_back(tmp_path: Path) -> None:
    torch.save(eva_file(tiny_eva(spec=SPEC)), tmp_path / "original.pt")
    model = read_model(tmp_path / "original.pt").model
    save_model(tmp_path / "own.safetensors", model, licence="MIT")
    again = read_model(tmp_path / "own.safetensors").model
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert is_clipself_file(tmp_path / "own.safetensors", {})


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("visual.blocks.1.mlp.w2.bias", r"lacks 1 of \d+ tensors of CLIPSelf EVA02-2x64-8"),
        ("text.ln_final.weight", r"lacks 1 of \d+ .*ln_final.weight"),
        ("text.text_projection", "has an EVA-02 CLIP without 'text_projection'"),
        ("visual.blocks.0.attn.inner_attn_ln.weight", "is no EVA-02 CLIP: expected"),
    ],
)
def test_a_file_that_lacks_a_tensor_is_refused(lost: str, message: str, tmp_path: Path) -> None:
    state = eva_file(tiny_eva(spec=SPEC))
    del state[lost]
    torch.save(state, tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match=rf"cut\.pt {message}"):
        read_model(tmp_path / "cut.pt")


def test_unknown_and_doubled_tensors_are_refused(tmp_path: Path) -> None:
    state = eva_file(tiny_eva(spec=SPEC))
    torch.save(state | {"visual.extra": torch.zeros(1)}, tmp_path / "more.pt")
    with pytest.raises(CheckpointError, match=r"more\.pt has unknown 1 of .*visual\.extra"):
        read_model(tmp_path / "more.pt")
    torch.save(state | {"ln_final.bias": torch.zeros(64)}, tmp_path / "twice.pt")
    with pytest.raises(CheckpointError, match=r"twice\.pt has ln_final\.bias under two names"):
        read_model(tmp_path / "twice.pt")


def test_a_model_of_another_method_is_refused(tmp_path: Path) -> None:
    save_native(tmp_path / "other", {"a": torch.zeros(1)}, method="cora", config={})
    with pytest.raises(CheckpointError, match="is a model of 'cora', not of CLIPSelf"):
        read_model(tmp_path / "other")
    assert not is_clipself_file(tmp_path / "other", {})


def test_released_sizes_are_known_by_their_shapes() -> None:
    spec = VARIANTS["eva-vitl14-coco"].encoder
    with torch.device("meta"):
        state = eva_file(EvaClip(spec))
    assert is_eva_clip(state)
    assert eva_spec_of(eva_tensors(state, source="a file"), "a file") == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"longest_side": 0}, "longest_side must be positive, got 0"),
        ({"temperature": 0.0}, r"temperature must be positive, got 0\.0"),
    ],
)
def test_numbers_out_of_range_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**change)  # type: ignore[arg-type]
