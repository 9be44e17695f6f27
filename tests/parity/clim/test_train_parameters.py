"""Which parameters learn, and which of them decay, against the originals' lists."""

import json

import pytest
import torch
from torch import nn

from regionclip.encoders.unlocking import freeze_unread, unlock_last_groups
from regionclip.training import Optimization
from regionclip.training.optimization import parameter_groups
from tests.parity.clim.training_numbers import SYSTEM, golden
from tests.parity.comparing import parity_folder

CASES = [
    ("clim_vitb16_unlock6", "openai_vitb16_coco_clim", 6),
    ("clipself_evab16_unlock12", "eva_vitb16_coco_clipself", 12),
]
"""The list, a file of such a model, and the groups that learn."""


def with_parameters_of(manifest: str) -> nn.Module:
    """A module whose parameters have the names and numbers of axes of a file's."""
    path = parity_folder() / SYSTEM / "manifests" / f"{manifest}.json"
    if not path.is_file():
        pytest.skip(f"no manifest: {path} is not there")
    root = nn.Module()
    for name, (shape, _) in json.loads(path.read_text()).items():
        if "rope.freqs" in name:  # tables, not parameters
            continue
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        module.register_parameter(leaf, nn.Parameter(torch.zeros([1] * len(shape))))
    return root


def test_what_had_no_gradient_in_the_original_is_frozen_here() -> None:
    _, manifest, groups = CASES[1]
    module = with_parameters_of(manifest)
    unlock_last_groups(module, groups)
    before = {name for name, own in module.named_parameters() if own.requires_grad}
    freeze_unread(module)
    after = {name for name, own in module.named_parameters() if own.requires_grad}
    unread = set(golden("loss_clipself")["no_grad_trainable"].tolist())
    assert before - after == unread


@pytest.mark.parametrize(("case", "manifest", "groups"), CASES)
def test_the_same_parameters_learn_and_decay(case: str, manifest: str, groups: int) -> None:
    path = parity_folder() / SYSTEM / "goldens" / "trainable_params.json"
    if not path.is_file():
        pytest.skip(f"no golden numbers: {path} is not there")
    expected = json.loads(path.read_text())[case]
    module = with_parameters_of(manifest)
    unlock_last_groups(module, groups)
    names = {id(own): name for name, own in module.named_parameters()}
    learning = [own for own in module.parameters() if own.requires_grad]
    assert {names[id(own)] for own in learning} == set(expected["trainable"])
    plan = Optimization(
        steps=1, batch_size=1, learning_rate=1e-5, weight_decay=0.1, vector_weight_decay=0.0
    )
    for group in parameter_groups(learning, plan):
        own = {names[id(each)] for each in group["params"]}
        assert group["weight_decay"] == (0.1 if own.isdisjoint(expected["no_decay"]) else 0)
        assert not own & set(expected["no_decay"]) or own == set(expected["no_decay"])
