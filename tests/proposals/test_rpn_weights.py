import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from regionclip.proposals.rpn import RPN_FORMS, RegionProposalNetwork, RpnConfig
from regionclip.proposals.rpn_weights import has_rpn, load_rpn, map_rpn_weights
from regionclip.structures import PreparedImage
from tests.parity.comparing import parity_folder

NARROW = {
    "c4": replace(RPN_FORMS["c4"], layers=(1, 2, 1), width=8),
    "fpn": replace(RPN_FORMS["fpn"], layers=(1, 1, 2, 1), width=8, pyramid_channels=16),
    "fpn_lsj": replace(RPN_FORMS["fpn_lsj"], layers=(1, 1, 1, 1), width=8, pyramid_channels=16),
    "fpn_clip": replace(RPN_FORMS["fpn_clip"], layers=(1, 1, 1, 2), width=8, pyramid_channels=16),
}
OTHER_KEYS = ("roi_heads.box_predictor.cls_score.weight", "roi_heads.res5.0.conv1.weight")


def detectron2_name(name: str, *, form: str) -> str:
    """What detectron2 calls a tensor of ours, written independently of the code under test."""
    part, _, rest = name.partition(".")
    if part == "head":
        rest = re.sub(r"^conv\.(\d)\.0", r"conv.conv\1" if form == "fpn_lsj" else "conv", rest)
        rest = rest.replace("cls_logits", "objectness_logits").replace("bbox_pred", "anchor_deltas")
        return f"proposal_generator.rpn_head.{rest}"
    if part == "pyramid":
        block, level, kind, leaf = rest.split(".")
        block = {"inner_blocks": "fpn_lateral", "layer_blocks": "fpn_output"}[block]
        return f"backbone.{block}{int(level) + 2}.{'norm.' if kind == '1' else ''}{leaf}"
    if form != "fpn_clip":
        rest = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", rest)
        rest = re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", rest)
        rest = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", rest)
        rest = rest.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    return f"backbone.{'' if form == 'c4' else 'bottom_up.'}{rest}"


def random_network(config: RpnConfig) -> RegionProposalNetwork:
    torch.manual_seed(0)
    network = RegionProposalNetwork(config).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            norm.running_mean.normal_(std=0.1)
    return network


def rpn_file(form: str) -> dict[str, Tensor]:
    """A narrow Mask R-CNN file of one form; as detectron2's frozen norms, without counters."""
    state = random_network(NARROW[form]).state_dict()
    file = {
        detectron2_name(name, form=form): tensor
        for name, tensor in state.items()
        if form == "fpn_lsj" or not name.endswith("num_batches_tracked")
    }
    return file | {key: torch.zeros(1) for key in OTHER_KEYS}


@pytest.mark.parametrize("form", NARROW)
def test_a_file_of_each_form_is_recognised_and_gives_the_same_network(form: str) -> None:
    network, leftover = load_rpn(rpn_file(form), source="rpn.pth")
    assert network.config == NARROW[form]
    assert leftover == OTHER_KEYS
    images = torch.rand(1, 3, 64, 64) * 0.1
    with torch.no_grad():
        for ours, expected in zip(
            network(images), random_network(NARROW[form])(images), strict=True
        ):
            torch.testing.assert_close(ours.logits, expected.logits, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(ours.deltas, expected.deltas, rtol=1e-4, atol=1e-4)


def test_loaded_network_is_frozen_and_training_mode_changes_nothing() -> None:
    network, _ = load_rpn(rpn_file("fpn_lsj"), source="rpn.pth")
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    image = PreparedImage(pixels=torch.rand(3, 50, 60), original_size_hw=(50, 60), name="x")
    before = network.propose([image])[0]
    after = network.train().propose([image])[0]
    assert torch.equal(before.boxes, after.boxes)


def test_inside_a_regionclip_file_the_offline_keys_are_taken_and_nothing_else() -> None:
    file = {
        key.replace("backbone.", "offline_backbone.", 1).replace(
            "proposal_generator", "offline_proposal_generator"
        ): tensor
        for key, tensor in rpn_file("c4").items()
    }
    recogniser = {"backbone.conv1.weight": torch.ones(2), "backbone.bn1.running_var": torch.ones(2)}
    kept = {key: tensor.clone() for key, tensor in recogniser.items()}
    network, leftover = load_rpn({**recogniser, **file}, source="regionclip.pth")
    assert network.config == NARROW["c4"]
    assert set(leftover) == {*OTHER_KEYS, *recogniser}
    assert all(torch.equal(recogniser[key], kept[key]) for key in kept)


def test_has_rpn_tells_files_with_a_localiser_from_others() -> None:
    assert has_rpn(rpn_file("c4"))
    assert has_rpn({"offline_proposal_generator.rpn_head.conv.weight": torch.ones(1)})
    assert not has_rpn({"backbone.conv1.weight": torch.ones(1)})


def test_a_file_without_localiser_is_refused() -> None:
    with pytest.raises(ValueError, match=r"clip\.pth holds no region proposal network .*rpn_\*"):
        map_rpn_weights({"visual.conv1.weight": torch.ones(1)}, source="clip.pth")


@pytest.mark.parametrize(
    "key", ["backbone.res3.1.conv2.norm.bias", "proposal_generator.rpn_head.conv.weight"]
)
def test_a_missing_tensor_is_counted_and_named(key: str) -> None:
    file = rpn_file("c4")
    del file[key]
    with pytest.raises(ValueError, match=r"^a\.pth lacks 1 of \d+ tensors of .*form 'c4' \(first"):
        load_rpn(file, source="a.pth")


def test_an_unknown_tensor_of_the_localiser_is_named() -> None:
    file = rpn_file("c4") | {"backbone.res2.0.conv4.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"unknown 1 of .*\(first: backbone.*conv4\.weight"):
        load_rpn(file, source="a.pth")


def test_other_anchors_are_refused_by_shape() -> None:
    file = rpn_file("fpn")
    file["proposal_generator.rpn_head.objectness_logits.bias"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"cls_logits\.bias is \(5,\), expected \(3,\)"):
        load_rpn(file, source="a.pth")


def test_a_pyramid_on_too_few_stages_is_of_no_known_form() -> None:
    file = {key: tensor for key, tensor in rpn_file("fpn").items() if ".res5." not in key}
    with pytest.raises(ValueError, match=r"of no known form: .*stages of \(1, 1, 2\) blocks"):
        map_rpn_weights(file, source="a.pth")


@pytest.mark.parametrize(
    ("name", "form", "num_leftover"),
    [
        ("rpn_coco_48", "c4", 58),
        ("rpn_coco_65", "c4", 58),
        ("rpn_coco_80", "c4", 58),
        ("rpn_lvis_866", "fpn", 20),
        ("rpn_lvis_866_lsj", "fpn_lsj", 0),
        ("rpn_lvis_1203_clipbackbone", "fpn_clip", 20),
        ("regionclip_pretrained-cc_rn50x4", "fpn", 1017),
        ("regionclip_finetuned-coco_rn50", "c4", 289),
        ("regionclip_finetuned-lvis_rn50", "fpn_lsj", 293),
    ],
)
def test_every_released_layout_is_recognised(name: str, form: str, num_leftover: int) -> None:
    path = parity_folder() / "regionclip" / "manifests" / f"{name}.json"
    file = file_of_manifest(path)
    weights = map_rpn_weights(file, source=name)
    assert (weights.form, weights.config) == (form, RPN_FORMS[form])
    assert len(weights.leftover) == num_leftover
    with torch.device("meta"):
        expected = RegionProposalNetwork(weights.config).state_dict()
    assert {name: tensor.shape for name, tensor in weights.state_dict.items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }


def file_of_manifest(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        pytest.skip(f"no golden numbers: {path.name} is not in {path.parent}")
    return {
        key: torch.empty(shape, device="meta")
        for key, (shape, _) in json.loads(path.read_text()).items()
    }
