import pytest
import torch

from regionclip.encoders.fingerprint import text_fingerprint
from tests.tiny_clip import tiny_clip

STATE = tiny_clip().clip.state_dict()
TEXT = [name for name in STATE if not name.startswith("visual.") and name != "logit_scale"]
REST = [name for name in STATE if name not in TEXT]


def changed(name: str) -> dict[str, torch.Tensor]:
    """The tower with the last number of one tensor changed in its last bits."""
    tensor = STATE[name].clone()
    flat = tensor.view(-1)
    flat[-1] = (
        flat[-1] + 1
        if not tensor.is_floating_point()
        else torch.nextafter(flat[-1], torch.tensor(9.0))
    )
    return {**STATE, name: tensor}


@pytest.mark.parametrize("name", TEXT)
def test_one_number_of_any_text_tensor_changes_it(name: str) -> None:
    assert text_fingerprint(changed(name)) != text_fingerprint(STATE)


def test_image_tower_and_temperature_play_no_role() -> None:
    assert len(TEXT) > 20
    assert "logit_scale" in REST
    text_only = {name: STATE[name] for name in TEXT}
    assert text_fingerprint(text_only) == text_fingerprint(STATE)
    for name in REST:
        assert text_fingerprint(changed(name)) == text_fingerprint(STATE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_only_values_count_not_the_precision_they_are_stored_in(dtype: torch.dtype) -> None:
    stored = {name: STATE[name].to(dtype) for name in STATE}
    read = {name: stored[name].float() for name in STATE}
    assert text_fingerprint(stored) == text_fingerprint(read)
    is_lossless = dtype == torch.float64
    assert (text_fingerprint(stored) == text_fingerprint(STATE)) is is_lossless


def test_layout_in_memory_and_order_of_names_play_no_role() -> None:
    turned = {name: STATE[name].t().contiguous().t() for name in TEXT if STATE[name].ndim == 2}
    assert any(not tensor.is_contiguous() for tensor in turned.values())
    shuffled = dict(reversed({**STATE, **turned}.items()))
    assert text_fingerprint(shuffled) == text_fingerprint(STATE)


def test_names_shapes_and_settings_count() -> None:
    found = {
        text_fingerprint({"a": torch.ones(2, 3)}),
        text_fingerprint({"b": torch.ones(2, 3)}),
        text_fingerprint({"a": torch.ones(3, 2)}),
        text_fingerprint({"a": torch.ones(2, 3)}, settings="gelu"),
        text_fingerprint({"a": torch.ones(2, 3), "b": torch.zeros(0)}),
        text_fingerprint({}),
    }
    assert len(found) == 6


def test_it_is_the_same_on_every_machine() -> None:
    # sha256 of "\na (2,)\n" and two little-endian float32 numbers, by Python's own struct
    assert text_fingerprint({"a": torch.tensor([1.0, -2.5])}) == "3798c0253d3c"


def test_training_a_text_tower_changes_its_encoder_id_at_once() -> None:
    encoder = tiny_clip()
    before = encoder.encoder_id
    table = encoder.clip.get_parameter("token_embedding.weight").requires_grad_()
    optimizer = torch.optim.SGD([table], lr=0.1)
    encoder.encode_tokens(encoder.tokenize(["a cat"])).sum().backward()
    optimizer.step()
    assert encoder.encoder_id != before
