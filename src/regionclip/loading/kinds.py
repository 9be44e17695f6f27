"""From the name or file of a model to a detector that is ready for use.

What a file is decides who reads it: :data:`KINDS`, in order.
"""

from pathlib import Path
from typing import Literal, get_args

import torch

from regionclip.checkpoints import read_checkpoint
from regionclip.detect import Detector, DetectorParts
from regionclip.encoders.text import MissingTextTower
from regionclip.loading.cora import CORA, REGION_PROMPT
from regionclip.loading.dense import CLIM, CLIPSELF
from regionclip.loading.detic import DETIC
from regionclip.loading.detic_cascade import CASCADE
from regionclip.loading.fvit import FVIT
from regionclip.loading.mean_clip import MEAN_CLIP
from regionclip.loading.open_clip import OPEN_CLIP, open_named
from regionclip.loading.proposals import open_proposals
from regionclip.loading.regionclip import REGIONCLIP
from regionclip.loading.request import (
    LoadOptions,
    LoadRequest,
    OpenFile,
    check_named,
    is_open_clip_name,
)
from regionclip.methods import find_weights, known_name, known_weights
from regionclip.proposals.proposer import Proposer
from regionclip.regions.embedder import NoRegions, RegionSource
from regionclip.weights import Progress, find_entry

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
KINDS = (
    OPEN_CLIP,
    REGION_PROMPT,
    CORA,
    FVIT,
    DETIC,
    CASCADE,
    MEAN_CLIP,
    CLIPSELF,
    CLIM,
    REGIONCLIP,
)
"""Kinds of files; the first that claims a file opens it."""


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
            path of a checkpoint (RegionCLIP's, CORA's, CLIM's, CLIPSelf's, F-ViT's, F-VLM's
            and Detic's originals, the encoders of RegionCLIP's zero-shot branch, OpenAI's CLIP,
            EVA-CLIP's EVA-02, or this package's own), or ``<tag>:<architecture>`` of any open_clip
            model, such as ``"laion2b_s34b_b88k:ViT-B-16"``.
        device: As PyTorch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: What the image towers and region head compute in; scores are always float32.
        proposals: Where boxes come from: a proposer of your own, or what :func:`open_proposals`
            takes. ``None`` takes the model's own, if it has one.
        regions: ``map``: cut from one map of the image, as the model was made for: vision
            transformers from their dense map, ResNets from layer3's; whole crops where an
            architecture has no map. ``crops``: every region through the whole image tower, slow.
            ``dense``, ``layer4``: a ResNet's file is read as CLIM's, and regions are cut from the
            map of vectors, or from layer4's and pooled with attention, which CLIM's ResNets are
            trained for. ``mask-attention``: vision transformers; slow.
        region_prompt: File of a region prompt, CORA's, to pool regions of ``map`` with: of any CLIP
            with a ResNet of the size that it was trained on. The ``model.safetensors`` of a
            prompt's training, or of a CORA detector, also says how images, boxes and names were
            seen: sides and their rounding, boxes by their share of the sides, prompts and their
            tokens. A CLIP then sees them so, as if that ``model.safetensors`` were loaded. A file
            of the original's form, such as ``region_prompt.pth``, says nothing of it: sides,
            boxes (by the map's stride), prompts and tokens (all) stay the CLIP's, where
            the prompt's training had DETR's rounding of 800 and 1333 pixels, boxes by shares, and
            25 tokens, unless its recipe said otherwise. A CORA detector keeps its own in any case.
        text_weights: Another model to take the text tower from, for originals that carry none.
            Of RegionCLIP's fine-tuned files it was OpenAI's CLIP of the same architecture, of
            F-ViT's and F-VLM's that of the CLIP that was frozen, of Detic's that of the CLIP that
            named its classes. Only the width of its vectors is checked: another CLIP of the same
            width names boxes wrongly, without an error.
        options: Memory, who is told of downloads, what a file's towers compute with if it does not
            say, how images are filled up for dense maps, and the benchmark that an F-ViT is
            transferred to; ``None`` takes the defaults.

    Raises:
        ValueError: The name is unknown, the file does not fit, or options do not go together.
        ConnectionError: Weights have to be downloaded and cannot be.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} is not available here; use device='cpu'")
    if precision not in DTYPES:
        raise ValueError(f"unknown precision {precision!r}; expected one of {', '.join(DTYPES)}")
    _check_regions(regions, region_prompt)
    options = options or LoadOptions()
    progress = options.progress
    request = LoadRequest(
        name=str(name),
        device=device,
        dtype=DTYPES[precision],
        proposer=open_proposals(proposals, device=device, progress=progress)
        if isinstance(proposals, str | Path)
        else proposals,
        regions=regions,
        region_prompt=region_prompt,
        text_weights=text_weights,
        memory_budget=options.memory_budget,
        progress=progress,
        activation=options.activation,
        transfer_to=options.transfer_to,
        padding=options.padding,
    )
    if regions == "crops":
        request.refuse_padding()
    if is_open_clip_name(name):
        request.refuse_transfer()
        request.refuse_activation()
        return open_named(request)
    path = find_weights(name, progress=progress)
    file = OpenFile(path, read_checkpoint(path))
    kind = next(kind for kind in KINDS if kind.claims(file, request))
    if kind is not FVIT:
        request.refuse_transfer()
    if kind not in (CLIM, FVIT, DETIC, CASCADE):
        request.refuse_activation()
    if kind not in (OPEN_CLIP, CLIPSELF, CLIM):
        request.refuse_padding()
    return kind.open(file, request)


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


def check_known(name: str | Path) -> None:
    """Refuse a name that :func:`load` would not know; nothing is read or downloaded.

    Raises:
        ValueError: There is no such file and no such name.
    """
    if is_open_clip_name(name):
        check_named(str(name))
    elif not Path(name).exists():
        find_entry(known_name(name), known_weights())


def model_file(name: str | Path, *, progress: Progress | None = None) -> Path | None:
    """The file of a model that :func:`load` knows, downloaded if need be.

    Returns:
        ``None`` for an open_clip model that open_clip itself downloads and keeps.

    Raises:
        ValueError: There is no such file and no such name.
        ConnectionError: It has to be downloaded and cannot be.
    """
    return None if is_open_clip_name(name) else find_weights(name, progress=progress)


def _check_regions(regions: str, region_prompt: str | Path | None) -> None:
    if regions not in get_args(RegionSource):
        raise ValueError(
            f"unknown regions {str(regions)!r}; expected one of "
            f"{', '.join(get_args(RegionSource))}; the file of a region prompt is region_prompt"
        )
    if region_prompt is not None and regions != "map":
        raise ValueError(
            f"region prompt {region_prompt} pools regions of a ResNet's layer3, and no others; "
            f"leave out regions={regions!r}"
        )
