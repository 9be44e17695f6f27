"""From a short description of where boxes come from to a proposer."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from regionclip.checkpoints import (
    checkpoint_format,
    is_native,
    read_checkpoint,
    read_native_metadata,
)
from regionclip.methods import find_weights, known_weights
from regionclip.methods.regionclip.reading import read_model
from regionclip.proposals.box_folder import BoxFolder
from regionclip.proposals.first import FirstProposals
from regionclip.proposals.grid import SlidingGrid
from regionclip.proposals.onnx_detector import OnnxDetector, OnnxDetectorConfig
from regionclip.proposals.proposer import Proposer
from regionclip.proposals.random_boxes import RandomBoxes
from regionclip.proposals.rpn import RegionProposalNetwork
from regionclip.proposals.rpn_files import RPN_METHOD, read_rpn
from regionclip.proposals.rpn_weights import load_rpn, load_unfolded_rpn
from regionclip.proposals.table import read_box_table
from regionclip.proposals.torchvision_rpn import TorchvisionRpn
from regionclip.weights import Progress

DEFAULT_TORCHVISION = "fasterrcnn_resnet50_fpn"
ONNX_START = b"\x08"
"""A model's first field is its format's version, a varint; onnx/onnx ``onnx/onnx.proto``
(``ModelProto.ir_version``)."""
PARQUET_START = b"PAR1"
"""apache/parquet-format ``README.md``, "File Format"."""
DRAWN: Mapping[str, Callable[[], Proposer]] = {"grid": SlidingGrid, "random": RandomBoxes}
"""Proposers that need nothing but an image's size and name."""


def open_proposals(
    source: str | Path,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
    nms_iou: float | None = None,
    max_proposals: int | None = None,
) -> Proposer:
    """Make a proposer from a short description.

    Args:
        source: ``"grid"``; ``"random"``; ``"torchvision"`` or ``"torchvision:<architecture>"`` for
            the proposal network of torchvision's detector; the name of a known proposal network; a
            folder that ``regionclip propose`` wrote; or a file, which its content tells: an ONNX
            detector, COCO annotations or results, a Parquet or CSV table of boxes, or a checkpoint
            with a proposal network.
        device: For networks that PyTorch runs.
        progress: Called while weights are downloaded; see :func:`load`.
        nms_iou: Overlap above which a network drops the weaker of two boxes; by default its own.
            Boxes that are not a network's know none.
        max_proposals: Most boxes of an image, the best first; by default as many as there are.

    Raises:
        ValueError: The file does not exist or is of no known kind.
        ConnectionError: Weights have to be downloaded and cannot be.
    """
    path = proposals_file(source, progress=progress)
    if path is None:
        return _first(DRAWN[str(source)](), max_proposals)
    architecture = _torchvision_architecture(source)
    if architecture is not None:
        network = TorchvisionRpn.from_file(architecture, path).to(device)
        network.rpn.nms_thresh = network.rpn.nms_thresh if nms_iou is None else nms_iou
        return _first(network, max_proposals)
    return _proposals_from_file(path, device, nms_iou=nms_iou, max_proposals=max_proposals)


def trainable_rpn(source: str | Path) -> RegionProposalNetwork | None:
    """A proposal network with its batch norms as they are, such as a model can keep.

    Args:
        source: As :func:`open_proposals` takes it.

    Returns:
        ``None`` if ``source`` is something else than a checkpoint of such a network.

    Raises:
        ValueError: The file does not exist or is of no known kind.
    """
    path = proposals_file(source)
    is_torchvision = _torchvision_architecture(source) is not None
    if path is None or path.is_dir() or is_torchvision or checkpoint_format(path) is None:
        return None
    if not is_native(path):
        return load_unfolded_rpn(read_checkpoint(path), source=str(path))[0]
    if read_native_metadata(path).method == RPN_METHOD:
        return read_rpn(path)
    return read_model(path).model.proposer


def proposals_file(source: str | Path, *, progress: Progress | None = None) -> Path | None:
    """The file behind what :func:`open_proposals` takes, downloaded if need be.

    Returns:
        ``None`` for a grid and random boxes.

    Raises:
        ValueError: There is no such file and no such name.
        ConnectionError: It has to be downloaded and cannot be.
    """
    if str(source) in DRAWN:
        return None
    architecture = _torchvision_architecture(source)
    if architecture is not None:
        return find_weights(f"torchvision:{architecture}", progress=progress)
    if not Path(source).exists() and str(source) not in known_weights():
        raise ValueError(
            f"unknown proposals {str(source)!r}; expected grid, random, torchvision, a known name, "
            "a file of boxes (.json, .parquet, .csv), a folder of them, a detector (.onnx) or a "
            "proposal network (.pth)"
        )
    return find_weights(source, progress=progress)


def _proposals_from_file(
    path: Path, device: str, *, nms_iou: float | None, max_proposals: int | None
) -> Proposer:
    """A proposer from a folder of boxes, or a file of any kind: its first bytes tell the kind."""
    if path.is_dir():
        return _first(BoxFolder(path), max_proposals)
    if checkpoint_format(path) is not None:
        network = _proposal_network(path).to(device)
        network.selection = replace(
            network.selection, **_given(nms_iou=nms_iou, post_nms_topk=max_proposals)
        )
        return network
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(ONNX_START):
        config = OnnxDetectorConfig(**_given(nms_iou=nms_iou, top_k=max_proposals))
        return OnnxDetector.from_file(path, config)
    is_text = all(byte >= 32 or byte in b"\t\n\r" for byte in start)
    if is_text or start.startswith(PARQUET_START):
        return _first(read_box_table(path), max_proposals)
    raise ValueError(
        f"{path} is of no known kind; expected a file of boxes (a COCO json, Parquet or CSV), an "
        "ONNX detector, or a checkpoint with a proposal network"
    )


def _proposal_network(path: Path) -> RegionProposalNetwork:
    if is_native(path) and read_native_metadata(path).method == RPN_METHOD:
        return read_rpn(path).fold_batch_norms().requires_grad_(False)
    if not is_native(path):
        return load_rpn(read_checkpoint(path), source=str(path))[0]
    own = read_model(path).model.proposer
    if own is None:
        raise ValueError(f"{path} is a model without a proposal network; give another file")
    return own.fold_batch_norms().requires_grad_(False)


def _first(proposer: Proposer, max_proposals: int | None) -> Proposer:
    return proposer if max_proposals is None else FirstProposals(proposer, max_proposals)


def _given(**options: Any) -> dict[str, Any]:
    """Options that are not left to a default."""
    return {name: each for name, each in options.items() if each is not None}


def _torchvision_architecture(source: str | Path) -> str | None:
    """``torchvision`` or ``torchvision:<architecture>``; ``None`` for other proposals."""
    library, _, architecture = str(source).partition(":")
    return architecture or DEFAULT_TORCHVISION if library == "torchvision" else None
