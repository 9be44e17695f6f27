from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from regionclip.checkpoints import CheckpointError, read_checkpoint, save_native
from regionclip.methods.cora.reading import (
    is_cora_file,
    read_model,
    read_region_prompt,
    save_model,
    save_region_prompt,
    set_region_prompt,
)
from regionclip.methods.cora.weights import PROMPT, our_name
from regionclip.methods.regionclip.config import RegionClipConfig
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel
from regionclip.methods.regionclip.reading import save_model as save_clip
from tests.cora_files import (
    TINY_CORA,
    class_rows,
    original_keys,
    original_state,
    picture,
    save_original,
    tiny_cora,
)
from tests.tiny_clip import TINY, tiny_clip


def test_an_original_detector_is_read_with_its_sizes(tmp_path: Path) -> None:
    model = tiny_cora()
    read = read_model(save_original(tmp_path / "checkpoint.pth", original_state(model)))
    config = read.model.config
    assert config.encoder == TINY_CORA.encoder
    assert (config.num_queries, config.width, config.feedforward) == (40, 32, 48)
    assert (config.encoder_layers, config.decoder_layers) == (2, 3)
    assert config.text_bottleneck == 16
    expected = model([picture()], class_rows(5))
    found = read.model([picture()], class_rows(5))
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.objectness, expected.objectness)
    assert torch.equal(read.model.region_prompt, model.region_prompt)
    assert not read.report.missing
    assert not read.model.training


@pytest.mark.parametrize(
    ("dataset", "base_classes", "count"), [("coco", "coco48", 100), ("lvis", "lvis866", 300)]
)
def test_the_classes_of_an_originals_training_follow_its_settings(
    dataset: str, base_classes: str, count: int, tmp_path: Path
) -> None:
    path = save_original(tmp_path / "a.pth", original_state(tiny_cora()), dataset_file=dataset)
    config = read_model(path).model.config
    assert (config.base_classes, config.own_base_classes) == (base_classes, ())
    assert config.selection.max_detections == count


def test_averaged_weights_are_read_where_there_are_some(tmp_path: Path) -> None:
    last, averaged = tiny_cora(seed=1), tiny_cora(seed=2)
    path = save_original(
        tmp_path / "a.pth", original_state(last), averaged=original_state(averaged)
    )
    assert torch.equal(read_model(path).model.anchors, averaged.anchors)


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    state = original_state(tiny_cora())
    state["classifier.text_projection"] = state["classifier.text_projection"].half()
    model = read_model(save_original(tmp_path / "a.pth", state)).model
    assert model.encoder.clip.get_parameter("text_projection").dtype == torch.float32


def test_every_tensor_has_one_name_here() -> None:
    for name in tiny_cora().state_dict():
        for key in original_keys(name):
            assert our_name(key) == name
    assert our_name("stage1_box_embed.weight") is None


def without(key: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__delitem__(key)


def with_(key: str, *shape: int) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__setitem__(key, torch.zeros(shape))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("query_embed.weight"), "is no CORA detector: expected 'query_embed.weight'"),
        (without("input_proj.0.0.weight"), "incomplete or unusual.*'input_proj.weight'"),
        (without("objectness_embed.bias"), "lacks 1 of .*first: objectness.bias"),
        (with_("stage1_box_embed.bias", 4), "has unknown 1 of .*first: stage1_box_embed.bias"),
        (with_("input_proj.0.1.weight", 32), "group norm.*--add_gn.*not supported"),
        (with_("text_proj.layers.1.bias", 5), "1 of .* are of another shape.*text_proj.layers.1"),
        (with_("bbox_embed.0.layers.2.bias", 4), "two values for one tensor.*bbox_embed.0.*differ"),
        (
            with_("backbone.0.layer4.0.conv1.weight", 1),
            "two values for one tensor: 'backbone.0.body.layer4.0.conv1.weight' and",
        ),
        (
            without("backbone.0.attn_pool.positional_embedding"),
            "CLIP encoder without 'visual.attnpool.positional_embedding'",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_a_sentence(
    damage: Callable[[dict[str, Tensor]], None], message: str, tmp_path: Path
) -> None:
    model = tiny_cora()
    torch.nn.init.ones_(model.decoder.box_heads[0].get_submodule("layers.2").get_parameter("bias"))
    state = original_state(model)
    damage(state)
    with pytest.raises(CheckpointError, match=message):
        read_model(save_original(tmp_path / "a.pth", state))


def test_a_saved_model_is_read_back(tmp_path: Path) -> None:
    model = tiny_cora()
    save_model(tmp_path / "a.safetensors", model, licence="CC0")
    read = read_model(tmp_path / "a.safetensors")
    assert read.model.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.model.state_dict()[name], tensor), name


def test_cora_files_are_told_from_others(tmp_path: Path) -> None:
    original = save_original(tmp_path / "cora.pth", original_state(tiny_cora()))
    save_model(tmp_path / "cora.safetensors", tiny_cora())
    torch.save(tiny_clip().clip.state_dict(), tmp_path / "clip.pt")
    save_native(tmp_path / "other.safetensors", {"w": torch.ones(1)}, method="clim", config={})
    found = {path.name: is_cora_file(path, read_checkpoint(path)) for path in tmp_path.iterdir()}
    assert found.pop(original.name)
    assert found.pop("cora.safetensors")
    assert found == {"clip.pt": False, "other.safetensors": False}
    with pytest.raises(CheckpointError, match="is a model of 'clim', not of CORA"):
        read_model(tmp_path / "other.safetensors")


def test_a_region_prompt_is_read_from_every_file_that_has_one(tmp_path: Path) -> None:
    model = tiny_cora()
    prompt = model.region_prompt
    save_region_prompt(tmp_path / "prompt.pth", prompt)
    assert list(torch.load(tmp_path / "prompt.pth")) == ["attnpool.positional_embedding"]
    save_original(tmp_path / "detector.pth", original_state(model))
    save_model(tmp_path / "own.safetensors", model)
    # of prompt training: the pool twice, under names of its own
    twice = {
        f"{k}.positional_embedding": prompt for k in ("backbone.0.attnpool", "backbone.attn_pool")
    }
    save_original(tmp_path / "training.pth", twice)
    for path in tmp_path.iterdir():
        assert torch.equal(read_region_prompt(path), prompt), path.name


def test_the_model_that_prompt_training_leaves_has_a_region_prompt_and_other_clips_have_none(
    tmp_path: Path,
) -> None:
    for box_scale in ("share", "stride"):
        model = RegionClip(RegionClipConfig(encoder=TINY, box_scale=box_scale))
        save_clip(tmp_path / box_scale, ReadModel(model, has_text_tower=True, reports=()))
    prompt = read_region_prompt(tmp_path / "share")
    assert prompt.shape == tiny_clip().visual.attnpool.positional_embedding.shape
    with pytest.raises(CheckpointError, match=r"stride holds no region prompt: .* of 'regionclip'"):
        read_region_prompt(tmp_path / "stride")
    save_native(tmp_path / "other", {PROMPT: prompt}, method="clim", config={"box_scale": "share"})
    with pytest.raises(CheckpointError, match=r"other holds no region prompt: .* of 'clim'"):
        read_region_prompt(tmp_path / "other")


def test_a_region_prompt_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "prompt.pth"
    save_region_prompt(path, torch.ones(2, 3))

    def broken(content: object, partial: Path) -> None:
        partial.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        save_region_prompt(path, torch.zeros(2, 3))
    assert torch.equal(read_region_prompt(path), torch.ones(2, 3))
    assert [each.name for each in path.parent.iterdir()] == ["prompt.pth"]


def test_a_file_without_region_prompt_is_refused(tmp_path: Path) -> None:
    torch.save(tiny_clip().clip.state_dict(), tmp_path / "clip.pt")
    with pytest.raises(
        CheckpointError, match=r"clip.pt holds no region prompt: expected one tensor"
    ):
        read_region_prompt(tmp_path / "clip.pt")


def test_a_region_prompt_takes_the_place_of_the_pools_positions() -> None:
    encoder = tiny_clip()
    prompt = torch.full_like(encoder.visual.attnpool.positional_embedding, 0.5)
    set_region_prompt(encoder, prompt)
    assert torch.equal(encoder.visual.attnpool.positional_embedding, prompt)
    with pytest.raises(CheckpointError, match=r"a.pth is of shape \(50, 2048\), and tiny takes"):
        set_region_prompt(encoder, torch.zeros(50, 2048), source="a.pth")
