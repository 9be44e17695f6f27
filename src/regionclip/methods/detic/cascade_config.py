"""What a Detic detector on LVIS is made of: CenterNet2, whose cascade names regions by texts."""

from dataclasses import dataclass, field

from regionclip.detections.box_coder import BoxWeights
from regionclip.detections.select import SelectionOptions
from regionclip.encoders.text_tower import TextSpec
from regionclip.proposals.centernet import NORM_GROUPS, CenterSelection

STRIDES = (8, 16, 32, 64, 128)
"""Pixels per cell of the pyramid's levels; Probabilistic two-stage detection (arXiv:2103.07461),
sec. 5."""
BOX_WEIGHTS: tuple[BoxWeights, ...] = (
    (10.0, 10.0, 5.0, 5.0),
    (20.0, 20.0, 10.0, 10.0),
    (1 / 0.033, 1 / 0.033, 1 / 0.067, 1 / 0.067),
)
"""What each stage's offsets are multiplied by; Cascade R-CNN (arXiv:1712.00726), sec. 4.2, with
wusize/CLIM@7baade3's 0.033 and 0.067 for a thirtieth and a fifteenth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeConfig:
    """One detector; defaults are those of CLIM's Detic on OV-LVIS (wusize/CLIM@7baade3)."""

    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    """Blocks of the ResNet's layer1 to layer4."""
    width: int = 64
    """Its channels after the stem."""
    channels: int = 256
    """Of the pyramid's levels."""
    head_width: int = 1024
    """Of each stage's layers."""
    text: TextSpec = field(default_factory=TextSpec)
    """The tower that names classes."""
    similarity_scale: float = 50.0
    """What cosines of regions and classes are multiplied by."""
    mask_head: bool = True
    class_names: str = ""
    """Built-in list of the classes that the model carries vectors of; empty for none."""
    own_class_names: tuple[str, ...] = ()
    """These classes themselves, where no built-in list has them."""
    num_classes: int = 0
    """How many they are."""
    templates: str = "a-name"
    """Built-in prompts that class names are put into."""
    shortest_side: int = 800
    """Pixels of a prepared image's shorter side."""
    longest_side: int = 1333
    """Most pixels of its longer side."""
    proposals: CenterSelection = field(default_factory=CenterSelection)
    selection: SelectionOptions = field(
        default_factory=lambda: SelectionOptions(min_score=0.0001, max_detections=300)
    )
    """Thresholds, NMS and the number kept."""

    def __post_init__(self) -> None:
        for name in ("width", "head_width", "shortest_side", "longest_side"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        # a group norm of one channel fails where a small image's coarsest level has one cell
        if self.channels < 1 or self.channels % (2 * NORM_GROUPS):
            raise ValueError(
                f"channels must be a multiple of {2 * NORM_GROUPS}, got {self.channels}"
            )
        if not self.similarity_scale > 0:
            raise ValueError(f"similarity_scale must be positive, got {self.similarity_scale}")
        if self.class_names and self.own_class_names:
            raise ValueError(
                f"give class_names or own_class_names, not both ({self.class_names!r})"
            )
        if self.own_class_names and len(self.own_class_names) != self.num_classes:
            raise ValueError(
                f"own_class_names are {len(self.own_class_names)}, num_classes {self.num_classes}"
            )
