"""From the name or file of a model to a detector that is ready for use."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from regionclip.checkpoints import CheckpointError, read_checkpoint
from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.text import MissingTextTower, ShortPrompts, TextEncoder
from regionclip.methods import find_weights, known_weights
from regionclip.methods.cora.detecting import CoraLocalizer, CoraRegions
from regionclip.methods.cora.model import Cora
from regionclip.methods.cora.reading import is_cora_file, read_region_prompt, set_region_prompt
from regionclip.methods.cora.reading import read_model as read_cora
from regionclip.methods.cora.weights import is_region_prompt
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, read_model
from regionclip.proposal_loading import open_proposals
from regionclip.proposals.proposer import Proposer
from regionclip.regions.crops import CropRegions
from regionclip.regions.embedder import BoxScale, NoRegions, RegionEmbedder, RegionSource
from regionclip.regions.map_regions import MapRegions
from regionclip.regions.region_head import DEFAULT_MEMORY_BUDGET
from regionclip.regions.valid_cells import ShareMapRegions
from regionclip.vocabulary import Vocabulary, builtin_names
from regionclip.weights import Progress

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadOptions:
    """What few callers of :func:`load` set."""

    memory_budget: int = DEFAULT_MEMORY_BUDGET
    """Bytes of intermediate results in the region head, or in the image tower of ``crops``; more
    regions than fit come in chunks."""
    progress: Progress | None = None
    """Called while weights are downloaded, with the file's name, the bytes that have arrived, and
    how many there will be, if that is known. open_clip's other architectures show a bar of their
    own."""


def load(
    name: str | Path,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    proposals: Proposer | str | Path | None = None,
    regions: RegionSource = "map",
    region_prompt: str | Path | None = None,
    text_weights: str | Path | None = None,
    options: LoadOptions | None = None,
) -> Detector:
    """Make a detector from known weights or a file.

    Args:
        name: A name that ``regionclip models list`` shows (``"icons"`` ships with the package), the
            path of a checkpoint (RegionCLIP's and CORA's originals, OpenAI's CLIP, or this
            package's own), or ``<tag>:<architecture>`` of any open_clip model, such as
            ``"openai:ViT-B-32"``.
        device: As PyTorch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: What the image towers and region head compute in; scores are always float32.
        proposals: Where boxes come from: a proposer of your own, or what :func:`open_proposals`
            takes. ``None`` takes the model's own, if it has one.
        regions: ``map``: regions cut from one map of the image. ``crops``: every region through the
            whole image tower, slow; other architectures than CLIP's ResNets know no other way.
        region_prompt: File of a region prompt, CORA's, to pool regions with: of any CLIP with a
            ResNet of the size that it was trained on.
        text_weights: Another model to take the text tower from, for fine-tuned originals, which
            carry none; theirs was OpenAI's CLIP of the same architecture.
        options: Memory, and who is told of downloads; ``None`` takes the defaults.

    Raises:
        ValueError: The name is unknown, the file does not fit, or options do not go together.
        ConnectionError: Weights have to be downloaded and cannot be.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} is not available here; use device='cpu'")
    if precision not in DTYPES:
        raise ValueError(f"unknown precision {precision!r}; expected one of {', '.join(DTYPES)}")
    _check_regions(regions, region_prompt)
    dtype, options = DTYPES[precision], options or LoadOptions()
    memory_budget, progress = options.memory_budget, options.progress
    proposer = (
        open_proposals(proposals, device=device, progress=progress)
        if isinstance(proposals, str | Path)
        else proposals
    )
    if _is_whole_crop_model(name):
        if text_weights is not None:
            raise ValueError(f"{name} runs with its own text tower; leave out text_weights")
        if region_prompt is not None:
            raise ValueError(f"{name} has no attention pool that a region prompt would suit")
        tag, _, architecture = str(name).partition(":")
        encoder = OpenClipEncoder.create(architecture, tag).to(device)
        embedder = CropRegions(encoder, dtype=dtype, memory_budget=memory_budget)
        parts = DetectorParts(encoder=encoder, regions=embedder, proposer=proposer)
        return Detector(parts)
    path = find_weights(name, progress=progress)
    state = read_checkpoint(path)
    if is_region_prompt(state):
        raise CheckpointError(
            f"{name} is a region prompt, which goes with a model: load('openai:RN50', "
            f"region_prompt={str(name)!r})"
        )
    if is_cora_file(path, state):
        if text_weights is not None or regions == "crops":
            raise ValueError(
                f"{name} is a CORA detector, which has a text tower of its own and cuts regions "
                "from maps; leave out text_weights and regions='crops'"
            )
        localizing = read_cora(path, state).model.to(device).requires_grad_(False)
        _use_region_prompt(localizing.encoder, region_prompt)
        return cora_detector_of(
            localizing, proposer=proposer, dtype=dtype, memory_budget=memory_budget
        )
    read = read_model(path, state)
    read.model.to(device).requires_grad_(False)
    _use_region_prompt(read.model.encoder, region_prompt)
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
    embedder = region_embedder(
        model.encoder,
        regions,
        box_scale=model.config.box_scale,
        dtype=dtype,
        memory_budget=memory_budget,
    )
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
        size_rule=config.size_rule,
    )
    options = DetectOptions(
        selection=config.selection,
        objectness_fusion=config.objectness_fusion,
        use_box_deltas=config.box_regression,
    )
    return Detector(parts, options)


def cora_detector_of(
    model: Cora,
    *,
    proposer: Proposer | None = None,
    dtype: torch.dtype = torch.float32,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Detector:
    """A detector with the weights of a CORA model, which are shared, not copied.

    Args:
        model: On the device to detect on, frozen.
        proposer: Where boxes come from; ``None`` takes the model's own localiser, which is told
            the class names of each call.
        dtype: See :func:`load`.
        memory_budget: See :func:`load`.
    """
    config = model.config
    regions = CoraRegions(model, dtype=dtype, memory_budget=memory_budget)
    parts = DetectorParts(
        encoder=ShortPrompts(model.encoder, length=config.text_length),
        regions=regions,
        proposer=proposer,
        localizer=CoraLocalizer(regions),
        templates=config.templates,
        temperature=config.temperature,
        shortest_side=config.shortest_side,
        longest_side=config.longest_side,
        size_rule="detr",
    )
    return Detector(parts, DetectOptions(selection=config.selection, objectness_fusion="product"))


def region_embedder(
    encoder: ClipResNet,
    regions: RegionSource,
    *,
    box_scale: BoxScale = "stride",
    dtype: torch.dtype = torch.float32,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> RegionEmbedder:
    """What turns regions into vectors of an encoder.

    Args:
        encoder: Whose regions they are.
        regions: See :func:`load`.
        box_scale: How boxes come to lie on a map; nothing to ``crops``.
        dtype: See :func:`load`.
        memory_budget: See :func:`load`.
    """
    if regions == "map":
        kind = MapRegions if box_scale == "stride" else ShareMapRegions
        return kind(encoder, dtype=dtype, memory_budget=memory_budget)
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


def model_file(name: str | Path, *, progress: Progress | None = None) -> Path | None:
    """The file of a model that :func:`load` knows, downloaded if need be.

    Returns:
        ``None`` for an open_clip model that open_clip itself downloads and keeps.

    Raises:
        ValueError: There is no such file and no such name.
        ConnectionError: It has to be downloaded and cannot be.
    """
    return None if _is_whole_crop_model(name) else find_weights(name, progress=progress)


def _check_regions(regions: str, region_prompt: str | Path | None) -> None:
    if regions not in get_args(RegionSource):
        raise ValueError(
            f"unknown regions {str(regions)!r}; expected one of "
            f"{', '.join(get_args(RegionSource))}; the file of a region prompt is region_prompt"
        )
    if region_prompt is not None and regions == "crops":
        raise ValueError(
            f"region prompt {region_prompt} pools regions of a map, and crops are pooled as whole "
            "images are; leave out regions='crops'"
        )


def _use_region_prompt(encoder: ClipResNet, path: str | Path | None) -> None:
    if path is not None:
        set_region_prompt(encoder, read_region_prompt(path), source=str(path))


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
        name = encoder.spec.name
        return text_tower_of(read.model) if read.has_text_tower else MissingTextTower(name)
    other = read_model(find_weights(text_weights, progress=progress))
    same_space = other.model.encoder.spec.embed_dim == encoder.spec.embed_dim
    if not other.has_text_tower or not same_space:
        raise ValueError(
            f"{text_weights} cannot lend {encoder.spec.name} a text tower: it has none, or one of "
            f"another width; use OpenAI's, 'openai:{encoder.spec.name}'"
        )
    other.model.encoder.to(encoder.device).requires_grad_(False)
    return text_tower_of(other.model)


def text_tower_of(model: RegionClip) -> TextEncoder:
    """A model's own text tower, reading as many tokens of a prompt as its configuration says."""
    length = model.config.text_length
    return model.encoder if length is None else ShortPrompts(model.encoder, length=length)


def _own_classes(model: RegionClip, encoder_id: str) -> Vocabulary | None:
    rows = model.test_embeddings if model.test_embeddings is not None else model.train_embeddings
    config = model.config
    if rows is None or not (config.class_names or config.own_class_names):
        return None
    names = builtin_names(config.class_names) if config.class_names else config.own_class_names
    return Vocabulary(names, rows.detach().cpu(), templates=(), encoder_id=encoder_id)
