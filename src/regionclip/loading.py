"""From the name or file of a model to a detector that is ready for use."""

from copy import deepcopy
from pathlib import Path
from typing import Literal

import torch

from regionclip.checkpoints import is_native, read_checkpoint
from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.text import MissingTextTower, TextEncoder
from regionclip.methods import known_weights
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, read_model
from regionclip.proposals.grid import SlidingGrid
from regionclip.proposals.onnx_detector import OnnxDetector
from regionclip.proposals.proposer import Proposer
from regionclip.proposals.rpn_weights import load_rpn
from regionclip.proposals.table import read_box_table
from regionclip.proposals.torchvision_rpn import TorchvisionRpn
from regionclip.regions.crops import CropRegions
from regionclip.regions.map_regions import MapRegions
from regionclip.regions.region_head import DEFAULT_MEMORY_BUDGET
from regionclip.vocabulary import Vocabulary, builtin_names
from regionclip.weights import fetch_weights, find_entry

Precision = Literal["fp32", "bf16", "fp16"]
DEFAULT_TORCHVISION = "fasterrcnn_resnet50_fpn"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load(
    name: str | Path,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    proposals: Proposer | str | Path | None = None,
    regions: Literal["map", "crops"] = "map",
    text_weights: str | Path | None = None,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
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

    Raises:
        ValueError: The name is unknown, the file does not fit, or options do not go together.
        ConnectionError: Weights have to be downloaded and cannot be.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} is not available here; use device='cpu'")
    if precision not in DTYPES:
        raise ValueError(f"unknown precision {precision!r}; expected one of {', '.join(DTYPES)}")
    dtype = DTYPES[precision]
    proposer = (
        open_proposals(proposals, device=device) if isinstance(proposals, str | Path) else proposals
    )
    if _is_whole_crop_model(name):
        if text_weights is not None:
            raise ValueError(f"{name} runs with its own text tower; leave out text_weights")
        tag, _, architecture = str(name).partition(":")
        encoder = OpenClipEncoder.create(architecture, tag).to(device)
        embedder = CropRegions(encoder, dtype=dtype, memory_budget=memory_budget)
        parts = DetectorParts(encoder=encoder, regions=embedder, proposer=proposer)
        return Detector(parts)
    read = read_model(find_weights(name))
    model = read.model.to(device).requires_grad_(False)
    if regions == "map":
        embedder = MapRegions(model.encoder, dtype=dtype, memory_budget=memory_budget)
    else:
        embedder = CropRegions(model.encoder, dtype=dtype, memory_budget=memory_budget)
    if proposer is None and model.proposer is not None:
        # a copy: folding changes the keys, and the model must stay one that can be saved
        proposer = deepcopy(model.proposer).eval().fold_batch_norms().to(dtype)
    text = _text_encoder(read, text_weights)
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


def open_proposals(source: str | Path, *, device: str = "cpu") -> Proposer:
    """Make a proposer from a short description.

    Args:
        source: ``"grid"``; ``"torchvision"`` or ``"torchvision:<architecture>"`` for the proposal
            network of torchvision's detector; or a file: ``.onnx`` (any detector), ``.json``
            (COCO annotations or results), ``.parquet`` or ``.csv`` (a table of boxes), anything
            else a checkpoint with a proposal network.
        device: For networks that PyTorch runs.

    Raises:
        ValueError: The file does not exist or is of no known kind.
    """
    text, path = str(source), Path(source)
    if text == "grid":
        return SlidingGrid()
    if text == "torchvision" or text.startswith("torchvision:"):
        architecture = text.partition(":")[2] or DEFAULT_TORCHVISION
        weights = find_weights(f"torchvision:{architecture}")
        return TorchvisionRpn.from_file(architecture, weights).to(device)
    if not path.exists() and text not in known_weights():
        raise ValueError(
            f"unknown proposals {text!r}; expected grid, torchvision, a known name, or a file of "
            "boxes (.json, .parquet, .csv), a detector (.onnx) or a proposal network (.pth)"
        )
    if path.suffix == ".onnx":
        return OnnxDetector.from_file(path)
    if path.suffix in (".json", ".parquet", ".csv"):
        return read_box_table(path)
    weights = find_weights(source)
    if is_native(weights):
        own = read_model(weights).model.proposer
        if own is None:
            raise ValueError(f"{weights} is a model without a proposal network; give another file")
        return own.fold_batch_norms().requires_grad_(False).to(device)
    network, _ = load_rpn(read_checkpoint(weights), source=str(weights))
    return network.to(device)


def find_weights(name: str | Path) -> Path:
    """The file of a path or of a known name, downloaded if need be.

    Raises:
        ValueError: There is no such file and no such name.
        ConnectionError: It has to be downloaded and cannot be.
    """
    if Path(name).exists():
        return Path(name)
    return fetch_weights(find_entry(str(name), known_weights()))


def _is_whole_crop_model(name: str | Path) -> bool:
    """``tag:architecture`` of an open_clip model that is no ModifiedResNet."""
    if Path(name).exists() or str(name) in known_weights():
        return False
    return ":" in str(name)


def _text_encoder(read: ReadModel, text_weights: str | Path | None) -> TextEncoder:
    """The model's own text tower, another's, or one that says that there is none."""
    encoder = read.model.encoder
    if text_weights is None:
        return encoder if read.has_text_tower else MissingTextTower(encoder.spec.name)
    other = read_model(find_weights(text_weights))
    same_space = other.model.encoder.spec.embed_dim == encoder.spec.embed_dim
    if not other.has_text_tower or not same_space:
        raise ValueError(
            f"{text_weights} cannot lend {encoder.spec.name} a text tower: it has none, or one of "
            f"another width; use OpenAI's, 'openai:{encoder.spec.name}'"
        )
    return other.model.encoder.to(encoder.device).requires_grad_(False)


def _own_classes(model: RegionClip, encoder_id: str) -> Vocabulary | None:
    rows = model.test_embeddings if model.test_embeddings is not None else model.train_embeddings
    if rows is None or not model.config.class_names:
        return None
    names = builtin_names(model.config.class_names)
    return Vocabulary(names, rows.detach().cpu(), templates=(), encoder_id=encoder_id)
