"""An image's detections as plain data, to be written to disk or sent to another process."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from regionclip.detections.run_lengths import decode_masks, encode_masks
from regionclip.structures import Detections


def to_record(found: Detections) -> dict[str, Any]:
    """Boxes, scores, labels and masks (as COCO's compressed run lengths); no features."""
    record: dict[str, Any] = {
        "boxes": found.boxes.tolist(),
        "scores": found.scores.tolist(),
        "labels": found.labels.tolist(),
    }
    if found.masks is not None:
        size = list(found.masks.shape[1:])
        record["masks"] = [{"size": size, "counts": counts} for counts in encode_masks(found.masks)]
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
    """Boolean masks ``(N, H, W)`` of one image from COCO's compressed run lengths.

    Raises:
        ValueError: They are of different sizes, or one is damaged.
    """
    if not encoded:
        return torch.zeros(0, 1, 1, dtype=torch.bool)
    sizes = {tuple(each["size"]) for each in encoded}
    if len(sizes) > 1:
        raise ValueError(f"masks of one image must have one size, got {sorted(sizes)}")
    height, width = sizes.pop()
    return decode_masks([each["counts"] for each in encoded], (height, width))
