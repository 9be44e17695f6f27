"""From the name or file of a model to a detector that is ready for use."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from regionclip.checkpoints import (
    checkpoint_format,
    is_native,
    read_checkpoint,
    read_native_metadata,
)
from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.text import MissingTextTower, TextEncoder
from regionclip.methods import known_weights
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, read_model
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
from regionclip.regions.crops import CropRegions
from regionclip.regions.embedder import NoRegions, RegionEmbedder, RegionSource
from regionclip.regions.map_regions import MapRegions
from regionclip.regions.region_head import DEFAULT_MEMORY_BUDGET
from regionclip.vocabulary import Vocabulary, builtin_names
from regionclip.weights import Progress, fetch_weights, find_entry

Precision = Literal["fp32", "bf16", "fp16"]
DEFAULT_TORCHVISION = "fasterrcnn_resnet50_fpn"
ONNX_START = b"\x08"
"""A model's first field is its format's version, a varint; onnx/onnx ``onnx/onnx.proto``
(``ModelProto.ir_version``)."""
PARQUET_START = b"PAR1"
"""apache/parquet-format ``README.md``, "File Format"."""
DRAWN: Mapping[str, Callable[[], Proposer]] = {"grid": SlidingGrid, "random": RandomBoxes}
"""Proposers that need nothing but an image's size and name."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load(
    name: str | Path,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    proposals: Proposer | str | Path | None = None,
    regions: RegionSource = "map",
    text_weights: str | Path | None = None,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    progress: Progress | None = None,
) -> Detector:
    """Make a detector from known weights or a file.

    Args:
        name: A name that ``regionclip models list`` shows (``"icons"`` ships with the package), the
            path of a checkpoint (RegionCLIP's originals, OpenAI's CLIP, or this package's own), or
            ``<tag>:<architecture>`` of any open_clip model, such as ``"openai:ViT-B-32"``.
        device: As PyTorch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: What the image towers and region head compute in; scores are always float32.
        proposals: Where boxes come from: a proposer of your own, or what :func:`open_proposals`
            takes. ``None`` takes the model's own, if it has one.
        regions: ``map``: regions cut from one map of the image. ``crops``: every region through the
            whole image tower, slow; other architectures than CLIP's ResNets know no other way.
        text_weights: Another model to take the text tower from, for fine-tuned originals, which
            carry none; theirs was OpenAI's CLIP of the same architecture.
        memory_budget: Bytes of intermediate results in the region head, or in the image tower of
            ``crops``; more regions than fit come in chunks.
        progress: Called while weights are downloaded, with the file's name, the bytes that have
            arrived, and how many there will be, if that is known. open_clip's other architectures
            show a bar of their own.

    Raises:
        ValueError: The name is unknown, the file does not fit, or options do not go together.
        ConnectionError: Weights have to be downloaded and cannot be.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} is not available here; use device='cpu'")
    if precision not in DTYPES:
        raise ValueError(f"unknown precision {precision!r}; expected one of {', '.join(DTYPES)}")
    if regions not in get_args(RegionSource):
        raise ValueError(
            f"unknown regions {regions!r}; expected one of {', '.join(get_args(RegionSource))}"
        )
    dtype = DTYPES[precision]
    proposer = (
        open_proposals(proposals, device=device, progress=progress)
        if isinstance(proposals, str | Path)
        else proposals
    )
    if _is_whole_crop_model(name):
        if text_weights is not None:
            raise ValueError(f"{name} runs with its own text tower; leave out text_weights")
        tag, _, architecture = str(name).partition(":")
        encoder = OpenClipEncoder.create(architecture, tag).to(device)
        embedder = CropRegions(encoder, dtype=dtype, memory_budget=memory_budget)
        parts = DetectorParts(encoder=encoder, regions=embedder, proposer=proposer)
        return Detector(parts)
    read = read_model(find_weights(name, progress=progress))
    read.model.to(device).requires_grad_(False)
    return detector_of(
        read.model,
        text_encoder_of(read, text_weights, progress=progress),
        proposer=proposer,
        regions=regions,
        dtype=dtype,
        memory_budget=memory_budget,
    )


def detector_of(
    model: RegionClip,
    text: TextEncoder,
    *,
    proposer: Proposer | None = None,
    regions: RegionSource = "map",
    dtype: torch.dtype = torch.float32,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Detector:
    """A detector with the weights that a model has now; those of the towers are copied.

    Args:
        model: On the device to detect on.
        text: The tower that names classes.
        proposer: Where boxes come from; ``None`` takes the model's own, if it has one.
        regions: See :func:`load`.
        dtype: See :func:`load`.
        memory_budget: See :func:`load`.
    """
    embedder = region_embedder(model.encoder, regions, dtype=dtype, memory_budget=memory_budget)
    if proposer is None and model.proposer is not None:
        # a copy: folding changes the keys, and the model must stay one that can be saved
        proposer = deepcopy(model.proposer).eval().fold_batch_norms().to(dtype)
    config = model.config
    parts = DetectorParts(
        encoder=text,
        regions=embedder,
        proposer=proposer,
        box_regressor=model.box_regressor,
        mask_head=model.mask_head,
        class_vocabulary=_own_classes(model, text.encoder_id),
        templates=config.templates,
        temperature=config.temperature,
        shortest_side=config.shortest_side,
        longest_side=config.longest_side,
    )
    options = DetectOptions(
        selection=config.selection,
        objectness_fusion=config.objectness_fusion,
        use_box_deltas=config.box_regression,
    )
    return Detector(parts, options)


def region_embedder(
    encoder: ClipResNet,
    regions: RegionSource,
    *,
    dtype: torch.dtype = torch.float32,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> RegionEmbedder:
    """What turns regions into vectors of an encoder; the arguments are those of :func:`load`."""
    if regions == "map":
        return MapRegions(encoder, dtype=dtype, memory_budget=memory_budget)
    return CropRegions(encoder, dtype=dtype, memory_budget=memory_budget)


def proposals_only(proposer: Proposer, *, shortest_side: int, longest_side: int) -> Detector:
    """A detector that proposes regions and can name none, to measure proposals with.

    Args:
        proposer: Where boxes come from.
        shortest_side: Pixels of a prepared image's shorter side.
        longest_side: Most pixels of its longer side.
    """
    return Detector(
        DetectorParts(
            encoder=MissingTextTower("a proposal network"),
            regions=NoRegions(),
            proposer=proposer,
            shortest_side=shortest_side,
            longest_side=longest_side,
        )
    )


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


def _first(proposer: Proposer, max_proposals: int | None) -> Proposer:
    return proposer if max_proposals is None else FirstProposals(proposer, max_proposals)


def _given(**options: Any) -> dict[str, Any]:
    """Options that are not left to a default."""
    return {name: each for name, each in options.items() if each is not None}


def _proposal_network(path: Path) -> RegionProposalNetwork:
    if is_native(path) and read_native_metadata(path).method == RPN_METHOD:
        return read_rpn(path).fold_batch_norms().requires_grad_(False)
    if not is_native(path):
        return load_rpn(read_checkpoint(path), source=str(path))[0]
    own = read_model(path).model.proposer
    if own is None:
        raise ValueError(f"{path} is a model without a proposal network; give another file")
    return own.fold_batch_norms().requires_grad_(False)


def model_file(name: str | Path, *, progress: Progress | None = None) -> Path | None:
    """The file of a model that :func:`load` knows, downloaded if need be.

    Returns:
        ``None`` for an open_clip model that open_clip itself downloads and keeps.

    Raises:
        ValueError: There is no such file and no such name.
        ConnectionError: It has to be downloaded and cannot be.
    """
    return None if _is_whole_crop_model(name) else find_weights(name, progress=progress)


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


def find_weights(name: str | Path, *, progress: Progress | None = None) -> Path:
    """The file of a path or of a known name, downloaded if need be.

    Args:
        name: A file, or a name that ``regionclip models list`` shows.
        progress: Called while it is downloaded; see :func:`load`.

    Raises:
        ValueError: There is no such file and no such name.
        ConnectionError: It has to be downloaded and cannot be.
    """
    if Path(name).exists():
        return Path(name)
    return fetch_weights(find_entry(str(name), known_weights()), progress=progress)


def _torchvision_architecture(source: str | Path) -> str | None:
    """``torchvision`` or ``torchvision:<architecture>``; ``None`` for other proposals."""
    library, _, architecture = str(source).partition(":")
    return architecture or DEFAULT_TORCHVISION if library == "torchvision" else None


def _is_whole_crop_model(name: str | Path) -> bool:
    """``tag:architecture`` of an open_clip model that is no ModifiedResNet."""
    if Path(name).exists() or str(name) in known_weights():
        return False
    return ":" in str(name)


def text_encoder_of(
    read: ReadModel, text_weights: str | Path | None = None, *, progress: Progress | None = None
) -> TextEncoder:
    """The model's own text tower, another's, or one that says that there is none.

    Args:
        read: A model.
        text_weights: Known name or file of a model that lends its text tower.
        progress: Called while weights are downloaded; see :func:`load`.

    Raises:
        ValueError: The other model has no text tower, or one of another width.
    """
    encoder = read.model.encoder
    if text_weights is None:
        return encoder if read.has_text_tower else MissingTextTower(encoder.spec.name)
    other = read_model(find_weights(text_weights, progress=progress))
    same_space = other.model.encoder.spec.embed_dim == encoder.spec.embed_dim
    if not other.has_text_tower or not same_space:
        raise ValueError(
            f"{text_weights} cannot lend {encoder.spec.name} a text tower: it has none, or one of "
            f"another width; use OpenAI's, 'openai:{encoder.spec.name}'"
        )
    return other.model.encoder.to(encoder.device).requires_grad_(False)


def _own_classes(model: RegionClip, encoder_id: str) -> Vocabulary | None:
    rows = model.test_embeddings if model.test_embeddings is not None else model.train_embeddings
    config = model.config
    if rows is None or not (config.class_names or config.own_class_names):
        return None
    names = builtin_names(config.class_names) if config.class_names else config.own_class_names
    return Vocabulary(names, rows.detach().cpu(), templates=(), encoder_id=encoder_id)
