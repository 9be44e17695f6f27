"""The recipes of the small models that are made from generated icons alone."""

from dataclasses import dataclass, field
from typing import ClassVar

from regionclip.methods.clim.config import ClimConfig
from regionclip.methods.regionclip.config import RegionClipConfig
from regionclip.methods.regionclip.pretrain_config import PretrainConfig
from regionclip.proposals.rpn import RpnSelection
from regionclip.recipes.regionclip import ORIGINAL_SELECTION
from regionclip.recipes.settings import RunSettings, check_weight_ensemble
from regionclip.regions.embedder import RegionSource
from regionclip.training import Optimization


@dataclass(frozen=True, kw_only=True, slots=True)
class IconsPretraining:
    """Region-text pretraining of the small detector, on scenes with captions alone."""

    optimization: Optimization
    learner: PretrainConfig = field(default_factory=PretrainConfig)
    teacher_regions: RegionSource = "crops"
    """What the teacher, the model as the captions left it, looks at."""
    teacher_shortest_side: int | None = None
    """Pixels of the scenes that the teacher looks at; ``None`` is what the student sees."""
    selection: RpnSelection = ORIGINAL_SELECTION
    """Which proposals regions are drawn from."""
    pool_captions: int = 2000
    """Captions that the concept pool is taken from."""
    pool_min_count: int = 5
    """Concepts that fewer captions name are left out."""

    def __post_init__(self) -> None:
        if self.teacher_shortest_side is not None and self.teacher_shortest_side < 1:
            raise ValueError(
                f"teacher_shortest_side must be at least 1, got {self.teacher_shortest_side}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class IconsRecipe:
    """Train a small detector from nothing but generated icons.

    Its stages, in this order: captions, regions, proposals, pretraining.
    """

    task: ClassVar[str] = "icons"

    model: RegionClipConfig
    captions: Optimization
    proposals: Optimization
    """On boxes of base classes, without their names."""
    regions: Optimization | None = None
    """On boxes of base classes with their names."""
    background_weight: float = 0.2
    """Factor on background in the regions stage. With 1, the model as the captions left it, which
    knows no background, is thrown so far off that novel names are lost; 0.2 is what RegionCLIP
    fine-tunes with on COCO (``CLIP.BG_CLS_LOSS_WEIGHT``)."""
    weight_ensemble: float | None = None
    """After the regions stage, take weights between those before it (0) and after it (1), which
    keep more of what captions alone taught: WiSE-FT. ``None`` takes those after it."""
    pretraining: IconsPretraining | None = None
    region_captions: int = 64
    """Captioned images that the regions stage goes on with, per step."""
    caption_image_sizes: tuple[int, ...] = (96,)
    """Pixels a side of captioned images; steps take turns."""
    scene_share: float = 0.1
    """Fraction of the captioned images that are whole scenes."""
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        check_weight_ensemble(self.weight_ensemble)
        if self.pretraining is not None and self.model.rpn is None:
            raise ValueError("[pretraining] draws regions from [model.rpn], which is missing")


@dataclass(frozen=True, kw_only=True, slots=True)
class IconsVitRecipe:
    """Train a small CLIP with a vision transformer from nothing but generated, captioned icons.

    It is to CLIM and CLIPSelf what OpenAI's is: a tower that reads whole pictures.
    """

    task: ClassVar[str] = "icons-vit"

    model: ClimConfig
    captions: Optimization
    text_weights: str | None = None
    """Model whose text tower is taken and stays as it is, so that the image tower has something to
    go by from the first step on (LiT, arXiv:2111.07991); ``None`` trains one along."""
    day_share: float = 0.7
    """Fraction of the captioned images that are by day; the others are in other weathers."""
    caption_image_sizes: tuple[int, ...] = (64,)
    """Pixels a side of captioned images; steps take turns."""
    scene_share: float = 0.0
    """Fraction of the captioned images that are whole scenes."""
    caption_images: int | None = None
    """Different captioned images; they come again and again, which spares most of the drawing.
    ``None`` never shows one twice."""
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.day_share <= 1:
            raise ValueError(f"day_share must be in [0, 1], got {self.day_share}")
        if self.model.vit is None:
            raise ValueError("model must have a vision transformer; give [model.vit]")
