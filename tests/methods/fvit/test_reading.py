from dataclasses import replace
from pathlib import Path

import pytest
import torch

import regionclip
from regionclip.checkpoints import CheckpointError
from regionclip.loading import LoadOptions
from regionclip.methods.fvit.config import transfer_config
from regionclip.methods.fvit.detecting import FvitScorer
from regionclip.methods.fvit.model import carry_classes
from regionclip.methods.fvit.reading import read_model, save_model, text_names
from tests.cora_files import tiny_cora
from tests.fvit_files import TINY_FVLM, detect_one, tiny_fvit
from tests.tiny_transfer import write_start


def test_a_model_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    model, path = tiny_fvit(), tmp_path / "own.safetensors"
    carry_classes(model, ("a", "b"), torch.randn(2, 12))
    save_model(path, model, licence="ours")
    read = read_model(path)
    assert read.has_text_tower
    assert read.model.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.model.state_dict()[name], tensor), name
    assert not any(each.training for each in read.model.modules())
    detector = regionclip.load(path)
    assert detector.vocabulary().names == ("a", "b")


def test_without_a_text_tower_none_is_written_and_one_can_be_lent(tmp_path: Path) -> None:
    model, path = tiny_fvit(), tmp_path / "own.safetensors"
    carry_classes(model, ("a", "b"), torch.randn(2, 12))
    save_model(path, model, has_text_tower=False)
    read = read_model(path)
    assert not read.has_text_tower
    assert set(read.report.missing) == set(text_names(model))
    image = torch.rand(3, 64, 64)
    detector = regionclip.load(path)
    assert detect_one(detector, image).class_names == ("a", "b")
    with pytest.raises(ValueError, match="carries no text tower"):
        detect_one(detector, image, ["c"])
    whole = tmp_path / "whole.safetensors"
    save_model(whole, model)
    lent = regionclip.load(path, text_weights=whole)
    assert detect_one(lent, image, ["c"]).class_names == ("c",)
    assert lent.encoder_id == regionclip.load(whole).encoder_id
    with pytest.raises(ValueError, match="runs with its own text tower; leave out text_weights"):
        regionclip.load(whole, text_weights=whole)


def test_load_transfers_a_detector_to_a_benchmark_that_it_was_not_trained_for(
    tmp_path: Path,
) -> None:
    model, path = tiny_fvit(), tmp_path / "own.safetensors"
    carry_classes(model, ("a", "b"), torch.randn(2, 12))
    save_model(path, model)
    options = LoadOptions(transfer_to="voc")
    detector = regionclip.load(path, options=options)
    assert isinstance(detector.parts.scorer, FvitScorer)
    assert detector.parts.scorer.model.config == transfer_config(model.config, "voc")
    assert detector.parts.mask_head is None
    assert detector.parts.class_vocabulary is None
    assert detect_one(detector, torch.rand(3, 64, 64), ["c"]).class_names == ("c",)
    with pytest.raises(ValueError, match="'voc' is for F-ViT's and F-VLM's detectors; icons is no"):
        regionclip.load("icons", options=options)
    with pytest.raises(ValueError, match="'voc' is for F-ViT's and F-VLM's detectors"):
        regionclip.load("nowhere:ViT-X", options=options)


def test_a_text_tower_of_another_width_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "own.safetensors", tmp_path / "other.safetensors"
    save_model(path, tiny_fvit(), has_text_tower=False)
    spec = TINY_FVLM.resnet
    assert spec is not None
    save_model(other, tiny_fvit(replace(TINY_FVLM, resnet=replace(spec, embed_dim=20))))
    with pytest.raises(ValueError, match="text vectors of 20 numbers do not go with tiny"):
        regionclip.load(path, text_weights=other)


def test_half_a_file_and_other_files_are_refused(tmp_path: Path) -> None:
    from regionclip.checkpoints import read_checkpoint, read_native_metadata, save_native

    path = tmp_path / "own.safetensors"
    save_model(path, tiny_fvit())
    about, state = read_native_metadata(path), read_checkpoint(path)
    for missing in ("box_head.box_offsets.weight", text_names(tiny_fvit())[0]):
        part = {name: each for name, each in state.items() if name != missing}
        save_native(tmp_path / "part.safetensors", part, method="fvit", config=about.config)
        with pytest.raises(CheckpointError, match="lacks 1 of"):
            read_model(tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match="is a model of 'regionclip', not of F-ViT"):
        read_model(write_start(tmp_path / "start.safetensors"))
    torch.save(tiny_cora().state_dict(), tmp_path / "cora.pth")
    with pytest.raises(CheckpointError, match="is no F-ViT or F-VLM detector"):
        read_model(tmp_path / "cora.pth")
