"""Our region head against the same mathematics written plainly."""

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from regionclip.encoders.clip_resnet import SPECS, ClipResNet
from regionclip.regions.region_head import STRIDE, RegionHead

from .measure import Report, interleaved
from .stand_ins import IMAGE_HW, fill, picture, random_boxes

NUM_CLASSES = 1203
PLAIN_CHUNK = 250
"""Regions at a time on the plain side: faster there than all at once, and fits in memory."""


def run(*, num_regions: int, repeats: int, device: torch.device) -> Report:
    """RN50, map of an 800x1199 image: vectors of random boxes, the map given."""
    encoder = ClipResNet(SPECS["RN50"])
    fill(encoder, seed=0).to(device)
    visual, head = encoder.visual, RegionHead(encoder.visual)
    boxes = random_boxes(num_regions, *IMAGE_HW, seed=2).to(device)
    feature_map = encoder.feature_map(encoder.prepare([picture(*IMAGE_HW, seed=0)]))
    half_map = feature_map.bfloat16().contiguous(memory_format=torch.channels_last)
    functions = {
        "plain fp32": lambda: plain_region_vectors(feature_map, boxes, visual),
        "ours fp32": lambda: our_region_vectors(feature_map, boxes, head),
        "ours bf16": lambda: our_region_vectors(half_map, boxes, head),
    }
    vectors = {name: function() for name, function in functions.items()}
    timings = interleaved(functions, repeats=repeats, device=device)
    plain = vectors["plain fp32"]
    classes = class_stand_ins(encoder, head)
    best, lead = best_classes(plain, classes)
    rows, ratios, differences, unchanged = [], {}, {}, {}
    for name, timing in timings.items():
        ratios[name] = timings["plain fp32"].seconds / timing.seconds
        differences[name] = float((vectors[name] - plain).norm() / plain.norm())
        unchanged[name] = float((best_classes(vectors[name], classes)[0] == best).float().mean())
        rows.append(
            {
                "region head": name,
                "seconds": f"{timing.seconds:.3f}",
                "ratio": f"{ratios[name]:.2f}",
                "relative difference": f"{differences[name]:.1e}",
                "top-1 unchanged": f"{unchanged[name]:.1%}",
                "cores busy": f"{timing.busy_cores:.2f}",
            }
        )
    is_exact = differences["ours fp32"] < 1e-5
    is_same = unchanged["ours bf16"] >= 0.99
    return Report(
        name="region_head",
        title=f"Vectors of {num_regions} regions on the map of an 800x1199 image, RN50",
        rows=rows,
        notes=[
            "plain: torchvision's ROIAlign, all of layer4 on each region, attention of all tokens",
            f"top-1 among {NUM_CLASSES} stand-in classes, of which {len(best.unique())} come "
            f"first somewhere; half of the regions lead by less than {lead:.4f} in cosine",
        ],
        targets={
            "at least 2x in fp32 with a relative difference below 1e-5": is_exact
            and ratios["ours fp32"] >= 2,
            "at least 3.5x in bf16 with the top-1 class of 99% unchanged": is_same
            and ratios["ours bf16"] >= 3.5,
        },
    )


def plain_region_vectors(feature_map: Tensor, boxes: Tensor, visual: ModifiedResNet) -> Tensor:
    """ROIAlign, all of layer4 on each region, attention among all tokens."""
    vectors = []
    for chunk in boxes.split(PLAIN_CHUNK):
        bins = roi_align(feature_map, [chunk], 14, 1 / STRIDE, aligned=True)
        vectors.append(visual.attnpool(visual.layer4(bins)))
    return torch.cat(vectors)


def our_region_vectors(feature_map: Tensor, boxes: Tensor, head: RegionHead) -> Tensor:
    """The package's head, the part that it runs once per map included."""
    return head(head.lift(feature_map), 0, boxes)


def class_stand_ins(encoder: ClipResNet, head: RegionHead) -> Tensor:
    """``(1203, D)``: regions of another picture, less what all regions have in common.

    The vectors of an untrained tower are nearly parallel. Random classes would all be ranked by
    the common direction; these are ranked by what sets regions apart.
    """
    other = encoder.feature_map(encoder.prepare([picture(*IMAGE_HW, seed=1)]))
    boxes = random_boxes(NUM_CLASSES, *IMAGE_HW, seed=3).to(other.device)
    vectors = our_region_vectors(other, boxes, head)
    return vectors - vectors.mean(dim=0)


def best_classes(vectors: Tensor, classes: Tensor) -> tuple[Tensor, float]:
    """Class of the highest cosine per region, and the median lead over the second."""
    similarity = F.normalize(vectors, dim=1) @ F.normalize(classes, dim=1).T
    top, index = similarity.topk(2, dim=1)
    return index[:, 0], float((top[:, 0] - top[:, 1]).median())
