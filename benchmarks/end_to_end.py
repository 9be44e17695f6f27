"""A whole detection, stage by stage, with its share of what the machine can do."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.detections.select import SelectionOptions
from regionclip.methods.regionclip import VARIANTS, build
from regionclip.proposals.proposer import Proposer
from regionclip.proposals.rpn import RegionProposalNetwork
from regionclip.regions.embedder import BatchView, RegionEmbedder, RegionView
from regionclip.regions.map_regions import MapRegions
from regionclip.structures import PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary, builtin_names

from .measure import Report, matmul_flops_per_second, peak_megabytes, synchronize
from .region_head import class_stand_ins
from .stand_ins import IMAGE_HW, fill, picture

PROPOSALS, MAP, REGIONS = "proposals", "map", "region vectors"
REST, TOTAL = "scores, NMS, output", "total"
ALL = "all"
_SELECTION = SelectionOptions(min_score=0.02, max_detections=300)
WAYS = {
    ALL: DetectOptions(selection=_SELECTION, objectness_fusion="none"),
    "that can appear": DetectOptions(selection=_SELECTION, objectness_fusion="raw"),
}
"""RegionCLIP's zero-shot LVIS run, without and with its objectness, which bounds the scores."""


class Spread(NamedTuple):
    """Mean and standard deviation over all anchors of an image."""

    mean: float
    std: float


LOGITS, OFFSETS = Spread(-9.0, 3.0), Spread(0.0, 0.1)
"""Nearly all anchors are background: about 300 of 240,000 have a positive logit."""


def run(*, num_regions: int, repeats: int, device: torch.device) -> Report:
    """RN50 and its FPN localiser, an 800x1199 image, 1203 names."""
    image = PreparedImage(picture(*IMAGE_HW, seed=0), (427, 640), "stand-in")
    rows, notes = [], []
    for dtype in (torch.float32, torch.bfloat16):
        detector, vocabulary, stages = staged_detector(image, num_regions, dtype, device)
        peak = matmul_flops_per_second(dtype, device)
        precision = str(dtype).removeprefix("torch.")
        for way, options in WAYS.items():
            call = partial(detector.detect_prepared, [image], vocabulary, options)
            rows += _rows(f"{way}, {precision}", stages, call, peak, repeats)
        call = partial(detector.detect_prepared, [image], vocabulary, WAYS[ALL])
        before, highest = peak_megabytes(call, device)
        notes += [
            f"{precision}: a matrix product runs at {peak / 1e9:.0f} GFLOP/s; memory {before:.0f} "
            f"MB before a call for all regions, {highest:.0f} MB at its peak"
        ]
    return Report(
        name="end_to_end",
        title=f"Detection in an 800x1199 image, RN50, {num_regions} proposals, 1203 names",
        rows=rows,
        notes=[
            *notes,
            f"objectness logits are made up: mean {LOGITS.mean}, deviation {LOGITS.std} over all "
            "anchors; those that can appear are the positive ones, as RegionCLIP's score has it",
        ],
    )


def _rows(
    way: str, stages: "Stages", call: Callable[[], Any], peak: float, repeats: int
) -> list[dict[str, str]]:
    """Measure one way of detecting: a row per stage."""
    stages.measure_flops(call)
    runs = [stages.seconds_of(call) for _ in range(repeats)]
    rows = []
    for stage, flops in stages.flops.items():
        seconds = median(run[stage] for run in runs)
        rows.append(
            {
                "regions": way,
                "stage": f"{stage} ({stages.regions})" if stage == REGIONS else stage,
                "seconds": f"{seconds:.3f}",
                "GFLOP": f"{flops / 1e9:.0f}",
                "of matmul peak": f"{flops / seconds / peak:.0%}",
            }
        )
    return rows


def staged_detector(
    image: PreparedImage, num_regions: int, dtype: torch.dtype, device: torch.device
) -> "tuple[Detector, Vocabulary, Stages]":
    """A detector with stand-in weights whose parts report to the clock returned."""
    model = build(VARIANTS["cc-rn50"])
    fill(model, seed=0).to(device)
    if model.proposer is None:
        raise ValueError("cc-rn50 has lost its localiser")
    level_out(model.proposer, image)
    model.proposer.selection = replace(model.proposer.selection, post_nms_topk=num_regions)
    stages = Stages(device)
    regions = MapRegions(model.encoder, dtype=dtype)
    names = builtin_names("lvis1203")
    embeddings = class_stand_ins(model.encoder, regions.head).cpu()
    vocabulary = Vocabulary(names, embeddings, ("{}",), model.encoder.encoder_id)
    parts = DetectorParts(
        encoder=model.encoder,
        regions=StagedRegions(regions, stages),
        proposer=StagedProposer(model.proposer.fold_batch_norms().to(dtype), stages),
    )
    return Detector(parts), vocabulary, stages


def level_out(proposer: RegionProposalNetwork, image: PreparedImage) -> None:
    """Scale the last layers so that logits and offsets spread as :data:`LOGITS`, :data:`OFFSETS`.

    With stand-in weights they are in the hundreds, and hardly a box survives its own offsets.
    """
    levels = proposer(proposer.prepare([image.pixels]))
    head = proposer.head
    for layer, outputs, wanted in (
        (head.cls_logits, [level.logits.flatten() for level in levels], LOGITS),
        (head.bbox_pred, [level.deltas.flatten() for level in levels], OFFSETS),
    ):
        spread = torch.cat(outputs)
        factor = wanted.std / spread.std()
        layer.weight.mul_(factor)
        layer.get_parameter("bias").sub_(spread.mean()).mul_(factor).add_(wanted.mean)


class Stages:
    """Adds up seconds and floating-point operations per stage of one call.

    Attributes:
        flops: Of the last :meth:`measure_flops`, two per multiply-add.
        regions: Regions that were given vectors in the last call.
    """

    def __init__(self, device: torch.device) -> None:
        self.flops: dict[str, int] = {}
        self.regions = 0
        self._device = device
        self._seconds: dict[str, float] = defaultdict(float)
        self._counter: FlopCounterMode | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what runs inside towards ``name``."""
        synchronize(self._device)
        start, flops = perf_counter(), self._total_flops()
        yield
        synchronize(self._device)
        self._seconds[name] += perf_counter() - start
        self.flops[name] = self.flops.get(name, 0) + self._total_flops() - flops

    def seconds_of(self, call: Callable[[], Any]) -> dict[str, float]:
        """Run ``call`` and return the seconds of each stage, the rest of the call last."""
        self._seconds.clear()
        self.regions = 0
        start = perf_counter()
        call()
        synchronize(self._device)
        elapsed = perf_counter() - start
        return {**self._seconds, REST: elapsed - sum(self._seconds.values()), TOTAL: elapsed}

    def measure_flops(self, call: Callable[[], Any]) -> None:
        """Run ``call`` and set :attr:`flops`."""
        self.flops = {}
        with FlopCounterMode(display=False) as self._counter:
            call()
        total = self._total_flops()
        self._counter = None
        self.flops |= {REST: total - sum(self.flops.values()), TOTAL: total}

    def _total_flops(self) -> int:
        return 0 if self._counter is None else self._counter.get_total_flops()


class StagedProposer:
    """A proposer on the clock."""

    def __init__(self, proposer: Proposer, stages: Stages) -> None:
        self._proposer = proposer
        self._stages = stages

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """As the proposer does."""
        with self._stages.stage(PROPOSALS):
            return self._proposer.propose(images)


class StagedRegions:
    """A region embedder on the clock."""

    def __init__(self, regions: RegionEmbedder, stages: Stages) -> None:
        self._regions = regions
        self._stages = stages

    def view(self, images: Sequence[PreparedImage]) -> "StagedBatchView":
        """As the embedder does."""
        with self._stages.stage(MAP):
            return StagedBatchView(self._regions.view(images), self._stages)


class StagedBatchView:
    """Maps on the clock."""

    def __init__(self, view: BatchView, stages: Stages) -> None:
        self._view = view
        self._stages = stages

    def of(self, index: int) -> "StagedView":
        """One of the images."""
        return StagedView(self._view.of(index), self._stages)


class StagedView:
    """One map on the clock."""

    def __init__(self, view: RegionView, stages: Stages) -> None:
        self._view = view
        self._stages = stages

    def features(self, boxes: Tensor, *, masks: Tensor | None = None) -> Tensor:
        """As the view does; the regions are counted."""
        self._stages.regions += len(boxes)
        with self._stages.stage(REGIONS):
            return self._view.features(boxes, masks=masks)

    def last_stage_cells(self, boxes: Tensor) -> Tensor:
        """As the view does."""
        return self._view.last_stage_cells(boxes)
