"""What a detector is put together from, and what each call may ask of it."""

from dataclasses import dataclass, field

from torch import nn

from regionclip.data.transforms import Interpolation, SizeRule
from regionclip.detections.box_coder import BoxWeights
from regionclip.detections.select import SelectionOptions
from regionclip.encoders.crop_encoder import CropEncoder
from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.text import TextEncoder
from regionclip.proposals.proposer import Localizer, NovelClasses, Proposer
from regionclip.regions.embedder import RegionEmbedder
from regionclip.scoring.objectness import ObjectnessFusion
from regionclip.scoring.regions import RegionScorer
from regionclip.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectOptions:
    """How regions are scored and detections selected."""

    selection: SelectionOptions = field(default_factory=SelectionOptions)
    """Thresholds, NMS and the number kept."""
    objectness_fusion: ObjectnessFusion = "geometric"
    """``geometric``: sqrt(class score x objectness), in [0, 1]. ``raw``: RegionCLIP's own
    sqrt(class score x objectness logit), which may exceed 1. ``product``: class score x
    objectness, CORA's. ``none``: the class score, as always for boxes that come without
    objectness; models that score regions in their own way, F-ViT's, take no other."""
    use_box_deltas: bool = False
    """Refine boxes by the model's offsets; only fine-tuned models, F-ViT's and F-VLM's have any."""
    with_features: bool = False
    """Keep the region vector of each detection."""
    with_masks: bool = False
    """Predict a mask for each detection; only models with a mask head can."""
    novel: NovelClasses = field(default_factory=NovelClasses)
    """What is looked for more than it would be; only models that find boxes for given classes, as
    CORA does, can."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorParts:
    """What a method's ``build`` puts together; ``None`` for what it does not have."""

    encoder: TextEncoder
    """Words to vectors; its ``encoder_id`` names the joint space."""
    regions: RegionEmbedder
    """Regions to vectors."""
    proposer: Proposer | None = None
    """Where boxes come from when the caller gives none."""
    localizer: Localizer | None = None
    """Where they come from, without a proposer, if they depend on the classes."""
    box_regressor: nn.Module | None = None
    """Raw region features ``(R, D)`` to offsets ``(R, 4)``."""
    box_weights: BoxWeights = (10.0, 10.0, 5.0, 5.0)
    """What the offsets were multiplied by."""
    scorer: RegionScorer | None = None
    """How regions are scored, if not by one vector each; its offsets stand for a regressor's."""
    mask_head: nn.Module | None = None
    """Last-stage cells ``(R, C, g, g)`` to mask logits ``(R, 1, 2g, 2g)``."""
    class_vocabulary: Vocabulary | None = None
    """Classes that the weights carry themselves."""
    templates: str = "imagenet80"
    """Built-in prompts for names that come without."""
    temperature: float = 0.01
    """Divides cosine similarities."""
    shortest_side: int = 800
    """Pixels of a prepared image's shorter side."""
    longest_side: int = 1333
    """Most pixels of its longer side."""
    size_rule: SizeRule = "detectron2"
    """How a prepared image's sides are found; ``longest`` asks for ``longest_side`` alone."""
    interpolation: Interpolation = "bilinear"
    """How its pixels are resized."""
    dense_tower: DenseEncoder | None = None
    """The image tower, if it has a map of its own and takes whole pictures of any size."""
    crop_tower: CropEncoder | None = None
    """The image tower, if it takes whole pictures of one size."""
