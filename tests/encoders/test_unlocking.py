from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from regionclip.encoders.unlocking import (
    freeze_unread,
    image_groups,
    logit_scale_of,
    unlock_last_groups,
)
from tests.tiny_clip import tiny_clip
from tests.tiny_dense import TINY_VIT, tiny_dense
from tests.tiny_open_clip import tiny_convnext


def trainable(encoder: nn.Module) -> set[str]:
    return {name for name, each in encoder.named_parameters() if each.requires_grad}


def test_groups_are_counted_from_the_end_of_a_vit() -> None:
    encoder = tiny_dense(replace(TINY_VIT, layers=3))
    visual = "clip.visual."
    assert len(image_groups(encoder)) == 5
    unlock_last_groups(encoder, 2)
    blocks = [name for name in trainable(encoder) if name != "clip.logit_scale"]
    assert {name.split(".")[4] for name in blocks} == {"1", "2"}
    assert all(name.startswith(f"{visual}transformer.resblocks.") for name in blocks)
    unlock_last_groups(encoder, 4)
    fourth = trainable(encoder)
    assert f"{visual}positional_embedding" in fourth
    assert f"{visual}conv1.weight" not in fourth
    unlock_last_groups(encoder, 5)
    added = trainable(encoder) - fourth
    assert added == {
        f"{visual}{name}"
        for name in ("conv1.weight", "class_embedding", "ln_pre.weight", "ln_pre.bias")
    }
    never = {f"{visual}ln_post.weight", f"{visual}ln_post.bias", f"{visual}proj"}
    assert not never & trainable(encoder)
    assert not any("transformer" in name and "visual" not in name for name in trainable(encoder))


def test_of_a_convnext_stages_are_counted_then_its_stem(tmp_path: Path) -> None:
    encoder = tiny_convnext(tmp_path).weights
    assert len(image_groups(encoder)) == 5
    unlock_last_groups(encoder, 1)
    trunk = "model.visual.trunk."
    last = trainable(encoder) - {"model.logit_scale"}
    assert last
    assert all(name.startswith(f"{trunk}stages.3.") for name in last)
    unlock_last_groups(encoder, 5)
    image = {name for name, _ in encoder.named_parameters() if ".visual." in name}
    never = image - trainable(encoder)
    assert never
    assert all(".trunk.head." in name or ".visual.head." in name for name in never)


def test_of_a_resnet_layer4_and_what_asks_the_attention_pool_learn() -> None:
    encoder = tiny_clip()
    unlock_last_groups(encoder, 1)
    pool = "clip.visual.attnpool."
    asks = {f"{pool}{name}" for name in ("positional_embedding", "q_proj.weight", "q_proj.bias")}
    asks |= {f"{pool}{name}" for name in ("k_proj.weight", "k_proj.bias")}
    assert trainable(encoder) - {"clip.logit_scale"} == asks
    unlock_last_groups(encoder, 2)
    others = trainable(encoder) - asks - {"clip.logit_scale"}
    assert others
    assert all(".layer4." in name for name in others)
    norms = {
        id(own)
        for module in encoder.modules()
        if isinstance(module, nn.BatchNorm2d)
        for own in module.parameters()
    }
    learned = [each for each in encoder.parameters() if each.requires_grad]
    assert not any(id(each) in norms for each in learned)


def test_what_a_map_never_reads_can_be_frozen_too() -> None:
    encoder = tiny_dense()
    unlock_last_groups(encoder, 1)
    before = trainable(encoder)
    freeze_unread(encoder)
    # queries, keys and values of OpenAI's blocks are one parameter, and values are read
    assert before - trainable(encoder) == {"clip.logit_scale"}


def test_towers_and_numbers_that_make_no_sense_are_refused() -> None:
    for count in (0, 5):
        with pytest.raises(
            ValueError, match=rf"unlocked_groups must be in \[1, 4\].*, got {count}"
        ):
            unlock_last_groups(tiny_dense(), count)
    with pytest.raises(ValueError, match="neither numbered blocks nor a layer4"):
        unlock_last_groups(nn.Linear(2, 2), 1)
    with pytest.raises(ValueError, match="has no logit_scale to learn"):
        logit_scale_of(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="only torch modules can be trained, and this is a str"):
        unlock_last_groups("a tower", 1)
    assert torch.equal(logit_scale_of(tiny_dense()), tiny_dense().clip.get_parameter("logit_scale"))
