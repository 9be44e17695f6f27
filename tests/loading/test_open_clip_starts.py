"""open_clip's towers by name as starts of training."""

from pathlib import Path

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, set_model_preprocess_cfg

import regionclip
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.tokenizer import clip_tokenizer
from regionclip.flows.towers import frozen_clip, open_tower, open_tower_as_named
from regionclip.loading.open_clip_starts import trainable_model_of
from regionclip.methods.clim import reading as clim
from regionclip.methods.clim.model import Clim


def encoder_of(*, quick: bool = False, pool: str = "tok") -> OpenClipEncoder:
    """As open_clip makes it, with heads of 64 channels."""
    torch.manual_seed(0)
    model = CLIP(
        embed_dim=10,
        vision_cfg=CLIPVisionCfg(
            layers=2, width=64, head_width=64, patch_size=8, image_size=32, pool_type=pool
        ),
        text_cfg=CLIPTextCfg(context_length=16, vocab_size=600, width=64, heads=1, layers=1),
        quick_gelu=quick,
    )
    pixels = {"size": (32, 32), "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.25, 0.2)}
    set_model_preprocess_cfg(model, pixels)
    tokenize = clip_tokenizer(num_merges=86, context_length=16)
    return OpenClipEncoder(model.eval(), name="ViT-X", tokenize=tokenize)


@pytest.mark.parametrize("quick", [True, False])
def test_a_named_transformer_becomes_a_model_of_ours(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(quick=quick)
    monkeypatch.setattr(OpenClipEncoder, "create", lambda *_: encoder)
    model = trainable_model_of("nowhere:ViT-X")
    assert isinstance(model, Clim)
    spec = model.config.vit
    assert spec is not None
    assert spec.quick_gelu == quick
    assert (spec.mean, spec.std) == ((0.5, 0.4, 0.3), (0.25, 0.25, 0.2))
    open_tower("nowhere:ViT-X", torch.device("cpu")).save(tmp_path / "own.safetensors")
    again = clim.read_model(tmp_path / "own.safetensors").model
    assert again.config == model.config
    images = torch.randn(1, 3, 32, 32)
    expected = encoder.encode_image(images)
    torch.testing.assert_close(again.encoder.encode_image(images), expected)
    frozen = frozen_clip("nowhere:ViT-X").state_dict()
    assert frozen.keys() == again.encoder.state_dict().keys()
    with pytest.raises(ValueError, match="no file of a CLIP with OpenAI's vision transformer"):
        frozen_clip("nowhere:ViT-X", activation="gelu")


def test_other_towers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenClipEncoder, "create", lambda *_: encoder_of(pool="avg"))
    with pytest.raises(ValueError, match="nowhere:ViT-X computes otherwise than a CLIP of OpenAI"):
        trainable_model_of("nowhere:ViT-X")
    other = encoder_of()
    other.model.register_module("visual", torch.nn.Linear(2, 2))
    monkeypatch.setattr(OpenClipEncoder, "create", lambda *_: other)
    with pytest.raises(ValueError, match="nowhere:ViT-X has no form of ours: those have"):
        trainable_model_of("nowhere:ViT-X")


def test_a_named_tower_has_the_id_that_its_concept_pools_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OpenClipEncoder, "create", lambda *_: encoder_of())
    tower = open_tower_as_named("nowhere:ViT-X", torch.device("cpu"))
    assert tower is not None
    assert tower.encoder.encoder_id == regionclip.load("nowhere:ViT-X").encoder_id
