"""What a Detic detector on COCO is made of, and how it selects its detections."""

from dataclasses import dataclass, field, replace
from typing import Literal

from regionclip.detections.select import SelectionOptions
from regionclip.encoders.text_tower import TextSpec
from regionclip.proposals.rpn import RPN_FORMS, RpnConfig

ScoreBias = Literal["learned", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeticConfig:
    """One detector; defaults are those of CLIM's Detic on OV-COCO (wusize/CLIM@7baade3)."""

    rpn: RpnConfig = field(default_factory=lambda: replace(RPN_FORMS["c4"], head_convs=1))
    """Image trunk up to layer3, its preprocessing, and the head that judges anchors on its map."""
    region_blocks: int = 3
    """Blocks of layer4, which runs on each region."""
    text: TextSpec = field(default_factory=TextSpec)
    """The tower that names classes."""
    similarity_scale: float = 25.0
    """What cosines of regions and classes are multiplied by."""
    initial_bias: float = -20.0
    """Where the learned biases of the logits start: few regions are of any given class."""
    score_bias: ScoreBias = "learned"
    """What is added to logits at test time: the bias that they were trained with, or nothing, as
    the original, whose scores then lie near 1 and are the same for all alike regions."""
    class_names: str = ""
    """Built-in list of the classes that the model carries vectors of; empty for none."""
    own_class_names: tuple[str, ...] = ()
    """These classes themselves, where no built-in list has them."""
    num_classes: int = 0
    """How many they are."""
    templates: str = "vild63"
    """Built-in prompts that class names are put into; each counts the same."""
    shortest_side: int = 800
    """Pixels of a prepared image's shorter side."""
    longest_side: int = 1333
    """Most pixels of its longer side."""
    selection: SelectionOptions = field(default_factory=lambda: SelectionOptions(min_score=0.0001))
    """Thresholds, NMS and the number kept."""

    def __post_init__(self) -> None:
        if self.rpn.pyramid_channels is not None or self.rpn.backbone != "resnet":
            raise ValueError(
                "regions are cut from one map of a ResNet; set rpn.pyramid_channels to 'none' and "
                f"rpn.backbone to 'resnet', got {self.rpn.pyramid_channels} and "
                f"{self.rpn.backbone!r}"
            )
        if self.region_blocks < 1 or not self.similarity_scale > 0:
            raise ValueError(
                "region_blocks must be at least 1 and similarity_scale positive, got "
                f"{self.region_blocks} and {self.similarity_scale}"
            )
        if self.class_names and self.own_class_names:
            raise ValueError(
                f"give class_names or own_class_names, not both ({self.class_names!r})"
            )
        if self.own_class_names and len(self.own_class_names) != self.num_classes:
            raise ValueError(
                f"own_class_names are {len(self.own_class_names)}, num_classes {self.num_classes}"
            )


VARIANTS = {"detic-ov-coco-r50": DeticConfig(class_names="coco80", num_classes=80)}
"""The published detectors."""


def as_published(config: DeticConfig) -> DeticConfig:
    """The configuration with which the original's scores come out.

    Source: wusize/CLIM@7baade3: logits have their bias in training only, and the score threshold is
    mmdetection's, which then drops next to nothing.
    """
    selection = replace(config.selection, min_score=0.05)
    return replace(config, score_bias="none", selection=selection)
