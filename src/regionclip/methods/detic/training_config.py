"""What training of a Detic minimises; see ``learner.py``."""

from dataclasses import dataclass, field

from regionclip.losses import CaptionLossOptions, RpnLossOptions, TagLossOptions
from regionclip.proposals.rpn import RpnSelection


@dataclass(frozen=True, kw_only=True, slots=True)
class DeticTraining:
    """How the detector learns; defaults are those of OV-COCO.

    Source: Detic (arXiv:2201.02605), sec. 4.1; CLIM (arXiv:2312.11376), sec. 4.2;
    wusize/CLIM@7baade3.
    """

    captions: CaptionLossOptions | None = None
    """Learn from captions of images and of the tiles of mosaics; ``None``: from boxes alone."""
    tags: TagLossOptions | None = None
    """Learn the classes that captions name, from the largest proposals; ``None``: without."""
    tag_classes: str = ""
    """Built-in list of the classes that captions are searched for; empty: those of the data, of
    ``val`` too. Their names are all that is used of them."""
    regions_per_image: int = 512
    """Regions that enter the losses of names and boxes."""
    foreground_share: float = 0.25
    """Most of them, as a fraction, that are on objects."""
    match_iou: float = 0.5
    """Overlap from which a region is on an object."""
    anchors: RpnLossOptions = field(default_factory=RpnLossOptions)
    proposals: RpnSelection = field(
        default_factory=lambda: RpnSelection(pre_nms_topk=12000, post_nms_topk=2000)
    )
    """Of which regions are drawn, and the largest found."""
    freeze_at: int = 2
    """How many of the trunk's stem, layer1, layer2, ... stay as they are, from the first on."""

    def __post_init__(self) -> None:
        if self.regions_per_image < 1 or not 0 < self.foreground_share <= 1:
            raise ValueError(
                "regions_per_image must be at least 1 and foreground_share in (0, 1], got "
                f"{self.regions_per_image} and {self.foreground_share}"
            )
        if not 0 < self.match_iou <= 1:
            raise ValueError(f"match_iou must be in (0, 1], got {self.match_iou}")
        if self.freeze_at < 0:
            raise ValueError(f"freeze_at must not be negative, got {self.freeze_at}")
        if self.tag_classes and self.tags is None:
            raise ValueError(
                f"tag_classes ({self.tag_classes!r}) are of no use without learner.tags"
            )

    @property
    def reads_captions(self) -> bool:
        """Whether captioned pictures teach anything."""
        return self.captions is not None or self.tags is not None
