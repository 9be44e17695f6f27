from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import get_model

from regionclip.proposals.proposer import Proposer
from regionclip.proposals.torchvision_rpn import TorchvisionRpn
from regionclip.structures import PreparedImage

ARCHITECTURE = "fasterrcnn_mobilenet_v3_large_320_fpn"


@pytest.fixture(scope="module")
def detector() -> Any:
    torch.manual_seed(0)
    model: Any = get_model(ARCHITECTURE, weights=None, weights_backbone=None, num_classes=3)
    # maps of random weights are almost zero, so the head's biases must tell anchors apart
    torch.nn.init.normal_(model.rpn.head.cls_logits.bias)
    torch.nn.init.normal_(model.rpn.head.bbox_pred.bias, std=0.3)
    return model.eval()


def image(height: int = 150, width: int = 200, seed: int = 0) -> PreparedImage:
    pixels = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    return PreparedImage(pixels, (2 * height, 2 * width), f"image {seed}")


def test_proposals_are_those_that_torchvision_gives_its_box_head(
    detector: Any,
) -> None:
    own = image()
    inputs, _ = detector.transform([own.pixels])
    with torch.no_grad():
        expected, _ = detector.rpn(inputs, detector.backbone(inputs.tensors))
    (proposals,) = TorchvisionRpn(detector).propose([own])
    assert inputs.image_sizes == [(320, 426)]
    in_pixels = expected[0] * torch.tensor([200 / 426, 150 / 320, 200 / 426, 150 / 320])
    assert len(proposals) > 10
    torch.testing.assert_close(proposals.boxes, in_pixels)


def test_proposals_are_sorted_by_finite_logits_and_inside(detector: Any) -> None:
    proposer = TorchvisionRpn(detector)
    assert isinstance(proposer, Proposer)
    (proposals,) = proposer.propose([image()])
    assert proposals.objectness is not None
    assert proposals.objectness.isfinite().all()
    assert (proposals.objectness.diff() <= 0).all()
    highest = detector.rpn.head.cls_logits.bias.max()
    torch.testing.assert_close(proposals.objectness[0], highest, atol=1e-4, rtol=0)
    assert (proposals.boxes >= 0).all()
    assert (proposals.boxes <= torch.tensor([200.0, 150, 200, 150]) + 1e-3).all()


def test_an_image_is_proposed_the_same_alone_and_among_others(detector: Any) -> None:
    proposer = TorchvisionRpn(detector)
    alone = proposer.propose([image()])[0]
    _, among = proposer.propose([image(90, 300, seed=1), image()])
    assert torch.equal(alone.boxes, among.boxes)
    assert proposer.propose([]) == []


def test_the_network_is_frozen(detector: Any) -> None:
    proposer = TorchvisionRpn(detector)
    assert not proposer.training
    assert not any(parameter.requires_grad for parameter in proposer.parameters())


def test_a_state_dict_on_disk_gives_the_same_proposals(detector: Any, tmp_path: Path) -> None:
    torch.save(detector.state_dict(), tmp_path / "mine.pth")
    proposer = TorchvisionRpn.from_file(ARCHITECTURE, tmp_path / "mine.pth")
    ours, expected = (
        rpn.propose([image()])[0].boxes for rpn in (proposer, TorchvisionRpn(detector))
    )
    assert torch.equal(ours, expected)


def test_keys_of_torchvisions_older_files_are_read(detector: Any, tmp_path: Path) -> None:
    old = {
        key.replace("rpn.head.conv.0.0.", "rpn.head.conv."): value
        for key, value in detector.state_dict().items()
    }
    torch.save(old, tmp_path / "old.pth")
    TorchvisionRpn.from_file(ARCHITECTURE, tmp_path / "old.pth")


def test_wrong_files_are_refused_by_name(detector: Any, tmp_path: Path) -> None:
    path = tmp_path / "wrong.pth"
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"wrong.pth is not a file of torch.save"):
        TorchvisionRpn.from_file(ARCHITECTURE, path)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"wrong.pth is not the state dict of a torchvision R-CNN"):
        TorchvisionRpn.from_file(ARCHITECTURE, path)
    state_dict = detector.state_dict()
    torch.save({**state_dict, "other.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"lacks 0 .* holds 1 others \(first: other.weight\)"):
        TorchvisionRpn.from_file(ARCHITECTURE, path)
    torch.save({**state_dict, "rpn.head.cls_logits.bias": torch.zeros(1)}, path)
    with pytest.raises(
        ValueError, match=f"wrong.pth holds tensors of other shapes; is {ARCHITECTURE}"
    ):
        TorchvisionRpn.from_file(ARCHITECTURE, path)


def test_a_detector_without_proposal_network_is_refused() -> None:
    with pytest.raises(ValueError, match="a Linear has no region proposal network; expected"):
        TorchvisionRpn(torch.nn.Linear(1, 1))


def test_unknown_weights_are_refused_without_a_download() -> None:
    with pytest.raises(ValueError, match="torchvision has no weights 'COCO_V9' for fasterrcnn"):
        TorchvisionRpn.from_weights(weights="COCO_V9")


def test_weights_that_cannot_be_downloaded_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    with pytest.raises(
        ConnectionError, match=r"could not be downloaded .*TorchvisionRpn.from_file"
    ):
        TorchvisionRpn.from_weights(ARCHITECTURE)


def _no_network(*_: object, **__: object) -> None:
    raise OSError("no network")
