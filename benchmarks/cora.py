"""CORA's way from an image to detections against the same mathematics written plainly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_convert, box_iou, roi_align

from regionclip.detect import Detector
from regionclip.loading import cora_detector_of
from regionclip.methods.cora import VARIANTS, Cora, build
from regionclip.methods.cora.detecting import base_classes
from regionclip.methods.cora.model import ImageMaps, cell_boxes
from regionclip.methods.cora.pre_matching import match_anchors, novel_factors
from regionclip.proposals.proposer import Localizer, NovelClasses
from regionclip.regions.embedder import BatchView
from regionclip.regions.region_head import STRIDE
from regionclip.structures import Detections, PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary, builtin_names

from .end_to_end import Spread, StagedBatchView, Stages
from .measure import Report, interleaved
from .region_head import PLAIN_CHUNK, class_stand_ins, plain_region_vectors
from .stand_ins import fill, picture

IMAGE_HW = (800, 1066)
"""A photograph of 640 x 480 as CORA resizes it for a test."""
OBJECTNESS = Spread(-5.0, 2.0)
"""Logits of the last layer. Made up: most of 1000 anchors end on no object."""
ANCHORS = Spread(0.0, 1.5)
"""Before the sigmoid: centres all over the image, sides of every length."""


def run(*, repeats: int, device: torch.device) -> Report:
    """RN50, 1000 anchors, an image of 800x1066, COCO's 65 names, float32."""
    image = PreparedImage(picture(*IMAGE_HW, seed=0), (480, 640), "stand-in")
    detector, model, vocabulary = stand_in_detector(image, device)
    stages = Stages(device)
    counting = counted(detector, stages)
    functions = {
        "plain": partial(plain_detections, model, image, vocabulary),
        "ours": lambda: detector.detect_prepared([image], vocabulary, detector.defaults)[0],
    }
    expected = functions["plain"]()
    found = counting.detect_prepared([image], vocabulary, counting.defaults)[0]
    num_named = stages.regions
    timings = interleaved(functions, repeats=repeats, device=device)
    ratio = timings["plain"].seconds / timings["ours"].seconds
    unlike = num_unlike(found, expected)
    rows = [
        {
            "way": name,
            "seconds": f"{timing.seconds:.2f}",
            "ratio": f"{timings['plain'].seconds / timing.seconds:.2f}",
            "boxes named": str(num_named if name == "ours" else model.config.num_queries),
            "cores busy": f"{timing.busy_cores:.2f}",
        }
        for name, timing in timings.items()
    ]
    return Report(
        name="cora",
        title="CORA RN50, an 800x1066 image, 1000 anchors, 65 names, float32",
        rows=rows,
        notes=[
            "plain: torchvision's ROIAlign of three projected maps for pre-matching; all of layer4 "
            "and attention of all tokens for every box; the same transformer",
            f"objectness logits are made up: mean {OBJECTNESS.mean}, deviation {OBJECTNESS.std}; "
            "boxes are named in decreasing objectness for as long as one more can matter",
            f"{len(found)} detections, of which {unlike} have no partner of the same class, score "
            "(within 1e-4) and box (IoU above 0.99) among the plain way's",
        ],
        targets={
            "at least 3x with the same detections": ratio >= 3
            and unlike == 0
            and len(found) == len(expected)
        },
    )


def stand_in_detector(
    image: PreparedImage, device: torch.device
) -> tuple[Detector, Cora, Vocabulary]:
    """Seeded weights whose anchors and objectness spread as they are said to."""
    model = build(VARIANTS["ov-coco-rn50"])
    fill(model, seed=0).to(device).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    anchors = torch.randn(model.anchors.shape, generator=generator)
    model.anchors.copy_(anchors * ANCHORS.std + ANCHORS.mean)
    for head in model.decoder.box_heads:  # or hardly two boxes stay apart
        head.get_submodule("layers.2").get_parameter("weight").mul_(0.1)
    names = builtin_names("coco65")
    rows = class_stand_ins(model.encoder, model.region_head)[: len(names)].cpu()
    vocabulary = Vocabulary(names, rows, ("{}",), model.encoder.encoder_id)
    logits = model([image.pixels], rows.to(device)).objectness[-1]
    factor = OBJECTNESS.std / logits.std()
    model.objectness.weight.mul_(factor)
    model.objectness.bias.sub_(logits.mean()).mul_(factor).add_(OBJECTNESS.mean)
    return cora_detector_of(model), model, vocabulary


@dataclass(frozen=True)
class CountingLocalizer:
    """A localiser whose regions are counted when they are named."""

    localizer: Localizer
    stages: Stages

    def localize(
        self, images: Sequence[PreparedImage], vocabulary: Vocabulary, novel: NovelClasses
    ) -> tuple[list[Proposals], BatchView]:
        """As the localiser does."""
        proposals, view = self.localizer.localize(images, vocabulary, novel)
        return proposals, StagedBatchView(view, self.stages)


def counted(detector: Detector, stages: Stages) -> Detector:
    """The same detector, which counts the regions that it names."""
    localizer = detector.parts.localizer
    if localizer is None:
        raise ValueError("a CORA detector has a localiser")
    parts = replace(detector.parts, localizer=CountingLocalizer(localizer, stages))
    return Detector(parts, detector.defaults)


def plain_detections(model: Cora, image: PreparedImage, vocabulary: Vocabulary) -> Detections:
    """As the original's steps are described, each for all boxes; boxes of the original image."""
    visual, config = model.encoder.visual, model.config
    embeddings = F.normalize(vocabulary.embeddings, dim=1).to(model.anchors)
    layer3 = model.encoder.feature_map(model.encoder.prepare([image.pixels]))
    layer4 = visual.layer4(layer3)
    masks = [layer.new_zeros(1, *layer.shape[2:], dtype=torch.bool) for layer in (layer3, layer4)]
    maps = ImageMaps(layer3, layer4, *masks)
    anchors = cell_boxes(model.anchors.sigmoid()[None], maps.layer4_padding)[0]
    features = plain_anchor_vectors(layer4, anchors, visual.attnpool)
    factors = novel_factors(vocabulary.names, factor=config.novel_factor, base=base_classes(config))
    classes = match_anchors(features[None], embeddings, class_factors=factors)
    found = model.localize(maps, classes, embeddings)
    boxes, objectness = found.boxes[-1], found.objectness[-1, 0]
    cells = cell_boxes(boxes, maps.layer3_padding)[0]
    vectors = plain_region_vectors(layer3, cells * STRIDE, visual)
    logits = F.normalize(vectors, dim=1) @ embeddings.T / config.temperature
    with_background = torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)
    scores = with_background.softmax(dim=1)[:, :-1] * objectness.sigmoid()[:, None]
    region, label = (scores > config.selection.min_score).nonzero().unbind(1)
    pair_boxes = box_convert(boxes[0], "cxcywh", "xyxy")[region]
    pair_scores = scores[region, label]
    kept = batched_nms(pair_boxes, pair_scores, label, config.selection.nms_iou)
    kept = kept[: config.selection.max_detections]
    height, width = image.original_size_hw
    clipped = pair_boxes[kept].cpu().clamp(0, 1) * torch.tensor([width, height, width, height])
    return Detections(clipped, pair_scores[kept].cpu(), label[kept].cpu(), vocabulary.names)


def plain_anchor_vectors(layer4: Tensor, boxes: Tensor, pool: AttentionPool2d) -> Tensor:
    """Three projected maps cut out box by box; one query attends to 49 cells."""
    height, width = layer4.shape[2:]
    cells, positions = layer4[0].flatten(1).T, pool.positional_embedding
    maps = [
        layer(cells).T.reshape(1, -1, height, width)
        for layer in (pool.q_proj, pool.k_proj, pool.v_proj)
    ]
    grid = round((len(positions) - 1) ** 0.5)
    vectors = []
    for chunk in boxes.split(PLAIN_CHUNK):
        query, key, value = (
            roi_align(each, [chunk], grid, 1.0, aligned=True).flatten(2).mT for each in maps
        )
        query = query.mean(dim=1, keepdim=True) + positions[:1] @ pool.q_proj.weight.T
        key = key + positions[1:] @ pool.k_proj.weight.T
        value = value + positions[1:] @ pool.v_proj.weight.T
        query, key, value = (
            each.unflatten(2, (pool.num_heads, -1)).transpose(1, 2) for each in (query, key, value)
        )
        answer = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(1)
        vectors.append(pool.c_proj(answer))
    return torch.cat(vectors)


def num_unlike(found: Detections, expected: Detections) -> int:
    """Detections without a partner of the same class, score and box."""
    same_class = found.labels[:, None] == expected.labels[None]
    same_score = (found.scores[:, None] - expected.scores[None]).abs() < 1e-4
    same_box = box_iou(found.boxes, expected.boxes) > 0.99
    return int((~(same_class & same_score & same_box).any(dim=1)).sum())
