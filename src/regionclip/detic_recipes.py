"""What a training run of Detic does."""

from dataclasses import dataclass, field
from typing import ClassVar

from regionclip.data.augmentation import Augmentation
from regionclip.data.caption_sources import CaptionSource
from regionclip.data.collages import Alone, Collage
from regionclip.methods.detic.config import DeticConfig
from regionclip.methods.detic.training_config import DeticTraining
from regionclip.recipe_settings import DataSource, Measuring, RunSettings
from regionclip.training import Optimization


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedImages:
    """Captioned images as they are."""

    per_step: int = 16
    """Images per step, over all processes and accumulated parts; divides as the batch does."""
    layout: Alone = field(default_factory=Alone)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedMosaics:
    """Mosaics of captioned images."""

    per_step: int = 16
    """Mosaics per step, as those of :class:`CaptionedImages`."""
    layout: Collage = field(default_factory=Collage)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeticRecipe:
    """Train a detector with boxes of base classes and, perhaps, with captions and mosaics.

    Source: Detic (arXiv:2201.02605), sec. 4; CLIM (arXiv:2312.11376), sec. 4.2.
    """

    task: ClassVar[str] = "detic"

    data: DataSource
    """Boxes of base classes."""
    optimization: Optimization
    """Its batch is counted in images with boxes."""
    start: str | None = None
    """Detector to begin with: a known name or a file; ``None`` begins with a new one."""
    text_weights: str | None = None
    """CLIP that lends a new detector its text tower, or a start that has none."""
    backbone_weights: str | None = None
    """A ResNet's weights for a new detector, by torchvision's keys: a file, or a known name."""
    model: DeticConfig = field(default_factory=DeticConfig)
    """A new detector, whose text tower and classes are those of ``text_weights`` and the data."""
    learner: DeticTraining = field(default_factory=DeticTraining)
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(shortest_sides=(800,)))
    """Of images with boxes."""
    captions: CaptionSource | None = None
    """Captioned images."""
    images: CaptionedImages | None = None
    """How they come alone; ``None``: not at all."""
    mosaics: CaptionedMosaics | None = None
    """How they come in mosaics; ``None``: not at all."""
    measuring: Measuring = field(default_factory=Measuring)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        if (self.start is None) != (self.backbone_weights is not None):
            raise ValueError(
                "a detector goes on from start, or a new one begins with a ResNet's "
                f"backbone_weights; give one of them, got start={self.start!r} and "
                f"backbone_weights={self.backbone_weights!r}"
            )
        if self.start is None and self.text_weights is None:
            raise ValueError("a new detector needs text_weights, such as openai:ViT-B-32")
        if self.start is not None and self.model != DeticConfig():
            raise ValueError(f"the detector is that of start ({self.start!r}); leave out [model]")
        if self.data.novel_boxes != "refused":
            raise ValueError(
                "a Detic is trained on boxes of base classes only; leave out data.novel_boxes, got "
                f"{self.data.novel_boxes!r}"
            )
        pictures = self.images is not None or self.mosaics is not None
        if len({self.learner.reads_captions, self.captions is not None, pictures}) != 1:
            raise ValueError(
                "captions teach where [captions] says where they are, [images] or [mosaics] how "
                "they come, and [learner.captions] or [learner.tags] what they teach; give all "
                "three or none"
            )
        if self.captions is not None and self.captions.proposals is not None:
            raise ValueError(
                f"captions.proposals ({self.captions.proposals!r}) are of no use: the detector "
                "proposes regions itself; leave it out"
            )
