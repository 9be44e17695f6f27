"""How well detections match ground truth, by rules that have a name."""

from .coco import evaluate_coco, evaluate_ov_coco
from .diverse_weather import evaluate_diverse_weather
from .finding import data_vocabulary, detect_dataset
from .given_boxes import evaluate_given_boxes
from .icons import evaluate_icons
from .lvis import evaluate_lvis, evaluate_lvis_masks
from .odinw import evaluate_odinw
from .proposals import evaluate_proposals
from .protocols import COLLECTIONS, PROTOCOLS
from .region_accuracy import evaluate_region_accuracy
from .report import EvaluationReport
from .voc import evaluate_voc07, evaluate_voc12

__all__ = [
    "COLLECTIONS",
    "PROTOCOLS",
    "EvaluationReport",
    "data_vocabulary",
    "detect_dataset",
    "evaluate_coco",
    "evaluate_diverse_weather",
    "evaluate_given_boxes",
    "evaluate_icons",
    "evaluate_lvis",
    "evaluate_lvis_masks",
    "evaluate_odinw",
    "evaluate_ov_coco",
    "evaluate_proposals",
    "evaluate_region_accuracy",
    "evaluate_voc07",
    "evaluate_voc12",
]
