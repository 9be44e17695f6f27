"""What training of an F-ViT minimises; see ``learner.py``."""

from dataclasses import dataclass, field

from regionclip.losses import RpnLossOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class FvitTraining:
    """How the detector on the frozen CLIP learns; defaults are those of OV-COCO."""

    background_weight: float = 0.6
    """Factor on regions of background in the loss of the classes; LVIS: 0.9, F-VLM: 1."""
    regions_per_image: int = 512
    """Regions that enter the losses of names and boxes."""
    foreground_share: float = 0.25
    """Most of them, as a fraction, that are on objects."""
    match_iou: float = 0.5
    """Overlap from which a region is on an object."""
    anchors: RpnLossOptions = field(default_factory=RpnLossOptions)
    train_masks: bool = False
    """Learn masks too, from the objects' outlines."""

    def __post_init__(self) -> None:
        if not self.background_weight >= 0:
            raise ValueError(
                f"background_weight must not be negative, got {self.background_weight}"
            )
        if self.regions_per_image < 1 or not 0 < self.foreground_share <= 1:
            raise ValueError(
                "regions_per_image must be at least 1 and foreground_share in (0, 1], got "
                f"{self.regions_per_image} and {self.foreground_share}"
            )
        if not 0 < self.match_iou <= 1:
            raise ValueError(f"match_iou must be in (0, 1], got {self.match_iou}")
