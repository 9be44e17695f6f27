"""From CORA's files to a detector."""

import torch

from regionclip.checkpoints import CheckpointError
from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.encoders.text import ShortPrompts
from regionclip.loading.regionclip import use_region_prompt
from regionclip.loading.request import FileKind, LoadRequest, OpenFile
from regionclip.methods.cora.detecting import CoraLocalizer, CoraRegions
from regionclip.methods.cora.model import Cora
from regionclip.methods.cora.reading import is_cora_file, read_model
from regionclip.methods.cora.weights import is_region_prompt
from regionclip.proposals.proposer import Proposer
from regionclip.regions.region_head import DEFAULT_MEMORY_BUDGET


def _refuse_prompt(file: OpenFile, request: LoadRequest) -> Detector:
    raise CheckpointError(
        f"{request.name} is a region prompt, which goes with a model: load('openai:RN50', "
        f"region_prompt={request.name!r})"
    )


def _open(file: OpenFile, request: LoadRequest) -> Detector:
    if request.text_weights is not None or request.regions != "map":
        raise ValueError(
            f"{request.name} is a CORA detector, which has a text tower of its own and cuts "
            f"regions from maps; leave out text_weights and regions={request.regions!r}"
        )
    model = read_model(file.path, file.state).model.to(request.device).requires_grad_(False)
    use_region_prompt(model.encoder, request.region_prompt)
    return cora_detector_of(
        model,
        proposer=request.proposer,
        dtype=request.dtype,
        memory_budget=request.memory_budget,
    )


REGION_PROMPT = FileKind(lambda file, _request: is_region_prompt(file.state), _refuse_prompt)
CORA = FileKind(lambda file, _request: is_cora_file(file.path, file.state), _open)


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
        dtype: See :func:`regionclip.load`.
        memory_budget: See :func:`regionclip.load`.
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
        crop_tower=model.encoder,
    )
    return Detector(parts, DetectOptions(selection=config.selection, objectness_fusion="product"))
