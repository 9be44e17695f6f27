"""An image's detections as plain data, to be written to disk or sent to another process."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as rle

from regionclip.structures import Detections

from .curves import mask_rle


def to_record(found: Detections) -> dict[str, Any]:
    """Boxes, scores, labels and masks (as COCO's compressed run lengths); no features."""
    record: dict[str, Any] = {
        "boxes": found.boxes.tolist(),
        "scores": found.scores.tolist(),
        "labels": found.labels.tolist(),
    }
    if found.masks is not None:
        record["masks"] = [_as_text(mask_rle(mask)) for mask in found.masks]
    return record


def from_record(record: Mapping[str, Any], class_names: Sequence[str]) -> Detections:
    """The detections that :func:`to_record` wrote, bit by bit: its numbers are float32's."""
    masks = None
    if "masks" in record:
        masks = decoded_masks(record["masks"])
    return Detections(
        boxes=torch.tensor(record["boxes"], dtype=torch.float64).reshape(-1, 4),
        scores=torch.tensor(record["scores"], dtype=torch.float64),
        labels=torch.tensor(record["labels"], dtype=torch.int64),
        class_names=tuple(class_names),
        masks=masks,
    )


def decoded_masks(encoded: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """Boolean masks ``(N, H, W)`` of one image from COCO's compressed run lengths."""
    if not encoded:
        return torch.zeros(0, 1, 1, dtype=torch.bool)
    masks = [rle.decode(dict(each)) for each in encoded]
    return torch.from_numpy(np.stack(masks).astype(bool))


def _as_text(encoded: Mapping[str, Any]) -> dict[str, Any]:
    counts = encoded["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in encoded["size"]], "counts": text}
