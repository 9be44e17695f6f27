"""How many regions of real photographs the bound of their objectness lets us leave unscored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor
from torchvision.ops import box_iou

from regionclip.data.datasets import Sample
from regionclip.data.readers.opening import open_dataset
from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.detections.select import SelectionOptions
from regionclip.encoders.text import MissingTextTower
from regionclip.loading import load
from regionclip.methods.regionclip import VARIANTS
from regionclip.proposals.onnx_detector import OnnxDetector, OnnxDetectorConfig
from regionclip.regions.embedder import RegionEmbedder
from regionclip.scoring.objectness import ObjectnessFusion, score_bound
from regionclip.scoring.regions import REGIONS_PER_ROUND
from regionclip.structures import PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary, builtin_names

from .end_to_end import StagedRegions, Stages
from .measure import Report, SkippedError

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
DETECTOR = SHARED_DATA / "weights" / "yolox_nano.onnx"
ANNOTATIONS = SHARED_DATA / "coco_clean" / "instances_val.json"
FUSIONS: tuple[ObjectnessFusion, ...] = ("geometric", "raw")
SELECTIONS = {
    "100 above 0.05": SelectionOptions(),
    "300 above 0.02, soft NMS": VARIANTS["ov-lvis-rn50"].selection,
    "100 above 0": SelectionOptions(min_score=0.0),
}
"""RegionCLIP's zero-shot runs, its LVIS runs, and one in which nothing but the bound helps."""
MATCH_IOU = 0.5
"""A region is an annotated object if they overlap by this; COCO's least strict threshold."""


def run(*, num_regions: int, num_photographs: int, device: torch.device) -> Report:
    """Photographs of COCO, boxes and objectness of a detector, COCO's 80 names.

    Raises:
        SkippedError: The photographs or the detector are not beside the project.
    """
    missing = [str(path) for path in (DETECTOR, ANNOTATIONS) if not path.exists()]
    if missing:
        raise SkippedError(f"needs photographs and a detector with objectness: no {missing[0]}")
    samples = open_dataset(ANNOTATIONS, image_root=ANNOTATIONS.parent / "val")[:num_photographs]
    proposer = OnnxDetector.from_file(DETECTOR, OnnxDetectorConfig(top_k=num_regions))
    trained = load("icons", device=str(device))
    images = [trained.prepare(sample.image) for sample in samples if isinstance(sample.image, Path)]
    proposals = proposer.propose(images)
    names = builtin_names("coco80")
    recognisers = {
        "icons model": (trained.parts.regions, trained.vocabulary(names)),
        "annotations": _knowing(samples, images, names),
    }
    counts = _Counts(images, proposals, device)
    rows = [
        {"recogniser": name, **counts.row(regions, vocabulary, fusion, selection)}
        for name, (regions, vocabulary) in recognisers.items()
        for fusion in FUSIONS
        for selection in SELECTIONS
    ]
    return Report(
        name="objectness",
        title=f"Regions scored in {len(images)} photographs of COCO, {DETECTOR.stem}'s boxes",
        rows=rows,
        notes=[
            "means over the photographs; scored: given a region vector, in rounds of "
            f"{REGIONS_PER_ROUND}; the rest could not have changed the detections",
            "the icons model knows no photographs: its class scores stand for those of a poor "
            "recogniser. 'annotations' stands for a good one: a region's vector is its class, if "
            f"it overlaps an annotated object by at least {MATCH_IOU}, and else zero",
        ],
    )


@dataclass(frozen=True)
class _Counts:
    """What every row is measured on."""

    images: Sequence[PreparedImage]
    proposals: Sequence[Proposals]
    device: torch.device

    def row(
        self,
        regions: RegionEmbedder,
        vocabulary: Vocabulary,
        fusion: ObjectnessFusion,
        selection: str,
    ) -> dict[str, str]:
        """Detect in each photograph, and count."""
        stages = Stages(self.device)
        encoder = MissingTextTower("none")
        detector = Detector(DetectorParts(encoder=encoder, regions=StagedRegions(regions, stages)))
        vocabulary = Vocabulary(
            vocabulary.names, vocabulary.embeddings, vocabulary.templates, encoder.encoder_id
        )
        options = DetectOptions(selection=SELECTIONS[selection], objectness_fusion=fusion)
        scored, found, possible = [], [], []
        for image, own in zip(self.images, self.proposals, strict=True):
            stages.regions = 0
            (detections,) = detector.detect_prepared([image], vocabulary, options, proposals=[own])
            scored.append(stages.regions)
            found.append(len(detections))
            if own.objectness is not None:
                bounds = score_bound(own.objectness, fusion)
                possible.append(int((bounds > options.selection.min_score).sum()))
        total = sum(len(own) for own in self.proposals)
        return {
            "fusion": fusion,
            "kept at most": selection,
            "kept": f"{mean(found):.0f}",
            "proposals": f"{total / len(self.images):.0f}",
            "bound above least": f"{mean(possible):.0f}",
            "scored": f"{mean(scored):.0f}",
            "share": f"{sum(scored) / total:.1%}",
            "fewest, most": f"{min(scored)}, {max(scored)}",
        }


def _knowing(
    samples: Sequence[Sample], images: Sequence[PreparedImage], names: Sequence[str]
) -> tuple[RegionEmbedder, Vocabulary]:
    """A recogniser that is never wrong about annotated objects, with one axis per class."""
    annotated = {
        image.name: (sample.objects.boxes / image.scale_xyxy, sample.objects.labels)
        for sample, image in zip(samples, images, strict=True)
    }
    vocabulary = Vocabulary(tuple(names), torch.eye(len(names)), (), "annotations")
    return AnnotatedRegions(annotated, len(names)), vocabulary


class AnnotatedRegions:
    """A region embedder that looks regions up in annotations, by the image's name."""

    def __init__(self, annotated: dict[str, tuple[Tensor, Tensor]], num_classes: int) -> None:
        self._annotated = annotated
        self._num_classes = num_classes

    def view(self, images: Sequence[PreparedImage]) -> "AnnotatedBatchView":
        """Look the images up."""
        own = [self._annotated[image.name] for image in images]
        return AnnotatedBatchView([AnnotatedView(*each, self._num_classes) for each in own])


@dataclass(frozen=True)
class AnnotatedBatchView:
    """Annotations of some images."""

    views: "Sequence[AnnotatedView]"

    def of(self, index: int) -> "AnnotatedView":
        """One of the images."""
        return self.views[index]


@dataclass(frozen=True)
class AnnotatedView:
    """Annotations of one image."""

    boxes: Tensor
    labels: Tensor
    num_classes: int

    def features(self, boxes: Tensor, *, masks: Tensor | None = None) -> Tensor:
        """The axis of the class of the object that overlaps most; zeros where none does enough."""
        vectors = torch.zeros(len(boxes), self.num_classes)
        if len(self.boxes) == 0 or len(boxes) == 0:
            return vectors
        iou, best = box_iou(boxes.cpu(), self.boxes).max(dim=1)
        is_object = iou >= MATCH_IOU
        vectors[is_object.nonzero()[:, 0], self.labels[best[is_object]]] = 1.0
        return vectors

    def last_stage_cells(self, boxes: Tensor) -> Tensor:
        """There are none."""
        raise NotImplementedError("annotations have no cells")
