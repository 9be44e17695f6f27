"""How well detections match ground truth."""

from .average_precision import ClassResult, DetectionReport, evaluate_detections
from .icons import IconsReport, evaluate_icons

__all__ = [
    "ClassResult",
    "DetectionReport",
    "IconsReport",
    "evaluate_detections",
    "evaluate_icons",
]
