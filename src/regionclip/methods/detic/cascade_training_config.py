"""What training of a cascade minimises; see ``cascade_learner.py``."""

from dataclasses import dataclass, field

from regionclip.losses import CaptionLossOptions, TagLossOptions
from regionclip.losses.centers import CenterLossOptions
from regionclip.proposals.centernet import CenterSelection


def lvis_captions() -> CaptionLossOptions:
    """How regions learn from captions on OV-LVIS."""
    return CaptionLossOptions(weight=1.0, scale=50.0, regions_per_picture=None, num_groups=2)


def lvis_tags() -> TagLossOptions:
    """How regions learn the classes that captions name on OV-LVIS."""
    return TagLossOptions(weight=0.1, scale=50.0, num_groups=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeTraining:
    """How the detector learns; defaults are those of OV-LVIS, from boxes alone.

    Source: Probabilistic two-stage detection (arXiv:2103.07461), sec. 5 and 6.3; Detic
    (arXiv:2201.02605), sec. 5.1; CLIM (arXiv:2312.11376), sec. 4.2; wusize/CLIM@7baade3.
    """

    captions: CaptionLossOptions | None = None
    """Learn from captions of images and of the tiles of mosaics; ``None``: from boxes alone."""
    tags: TagLossOptions | None = None
    """Learn the classes that captions name, from the largest proposals; ``None``: without."""
    tag_classes: str = ""
    """Built-in list of the classes that captions are searched for; empty: those of the data, of
    ``val`` too. Their names are all that is used of them."""
    classes_per_step: int = 50
    """Classes that regions are compared with: those that occur, and others by chance."""
    match_ious: tuple[float, ...] = (0.6, 0.7, 0.8)
    """Per stage, the overlap from which a region is on an object."""
    regions_per_image: int = 512
    """Regions that enter the losses of names and boxes."""
    foreground_share: float = 0.25
    """Most of them, as a fraction, that are on objects in the first stage."""
    centers: CenterLossOptions = field(default_factory=CenterLossOptions)
    proposals: CenterSelection = field(default_factory=CenterSelection)
    """Of which regions are drawn, and the largest found."""
    train_masks: bool = False
    """Learn masks too, from the objects' outlines."""
    freeze_at: int = 2
    """How many of the ResNet's stem, layer1, layer2, ... stay as they are, from the first on."""

    def __post_init__(self) -> None:
        if self.regions_per_image < 1 or not 0 < self.foreground_share <= 1:
            raise ValueError(
                "regions_per_image must be at least 1 and foreground_share in (0, 1], got "
                f"{self.regions_per_image} and {self.foreground_share}"
            )
        if len(self.match_ious) != 3 or not all(0 < each <= 1 for each in self.match_ious):
            raise ValueError(f"match_ious must be three numbers in (0, 1], got {self.match_ious}")
        if self.classes_per_step < 1:
            raise ValueError(f"classes_per_step must be at least 1, got {self.classes_per_step}")
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
