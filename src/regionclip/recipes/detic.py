"""What a training run of Detic does."""

from dataclasses import dataclass, field
from typing import ClassVar

from regionclip.data.augmentation import Augmentation
from regionclip.data.caption_sources import CaptionSource
from regionclip.data.collages import Alone, Collage
from regionclip.data.scale_jitter import ScaleJitter
from regionclip.encoders.vit_weights import Activation
from regionclip.methods.detic.cascade_config import CascadeConfig
from regionclip.methods.detic.cascade_training_config import CascadeTraining
from regionclip.methods.detic.config import DeticConfig
from regionclip.methods.detic.training_config import DeticTraining
from regionclip.recipes.settings import DataSource, Measuring, RunSettings
from regionclip.training import Optimization


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedImages:
    """Captioned images as they are."""

    per_step: int = 16
    """Images per step, over all processes and accumulated parts; divides as the batch does."""
    layout: Alone = field(default_factory=Alone)

    def __post_init__(self) -> None:
        _check_per_step("images", self.per_step)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedMosaics:
    """Mosaics of captioned images."""

    per_step: int = 16
    """Mosaics per step, as those of :class:`CaptionedImages`."""
    layout: Collage = field(default_factory=Collage)

    def __post_init__(self) -> None:
        _check_per_step("mosaics", self.per_step)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shared:
    """What is said of either architecture."""

    data: DataSource
    """Boxes of base classes."""
    optimization: Optimization
    """Its batch is counted in images with boxes."""
    start: str | None = None
    """Detector to begin with: a known name or a file; ``None`` begins with a new one."""
    text_weights: str | None = None
    """CLIP that lends a new detector its text tower, or a start that has none."""
    text_activation: Activation | None = None
    """What the towers of ``text_weights`` compute with, ``quick_gelu`` or ``gelu``, if it has a
    vision transformer of OpenAI's layout; ``None`` takes what its file says, and refuses one that
    says nothing."""
    backbone_weights: str | None = None
    """A ResNet's weights for a new detector, by torchvision's keys: a file, or a known name."""
    captions: CaptionSource | None = None
    """Captioned images."""
    images: CaptionedImages | None = None
    """How they come alone; ``None``: not at all."""
    mosaics: CaptionedMosaics | None = None
    """How they come in mosaics; ``None``: not at all."""
    measuring: Measuring = field(default_factory=Measuring)
    run: RunSettings = field(default_factory=RunSettings)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeticRecipe(_Shared):
    """Train a detector with boxes of base classes and, perhaps, with captions and mosaics.

    Source: Detic (arXiv:2201.02605), sec. 4; CLIM (arXiv:2312.11376), sec. 4.2.
    """

    task: ClassVar[str] = "detic"

    model: DeticConfig = field(default_factory=DeticConfig)
    """A new detector, whose text tower and classes are those of ``text_weights`` and the data."""
    learner: DeticTraining = field(default_factory=DeticTraining)
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(shortest_sides=(800,)))
    """Of images with boxes."""

    def __post_init__(self) -> None:
        _check_start(self, new=DeticConfig())
        _check_pictures(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeRecipe(_Shared):
    """Train a CenterNet2 with boxes of base classes and, perhaps, with captions and mosaics.

    Source: Detic (arXiv:2201.02605), sec. 5.1; CLIM (arXiv:2312.11376), sec. 4.2.
    """

    task: ClassVar[str] = "detic-cascade"

    model: CascadeConfig = field(default_factory=CascadeConfig)
    """As of :class:`DeticRecipe`."""
    learner: CascadeTraining = field(default_factory=CascadeTraining)
    augmentation: ScaleJitter = field(default_factory=ScaleJitter)
    """Of images with boxes."""
    repeat_threshold: float = 0.0
    """Images of classes in a smaller fraction of the images are repeated; LVIS: 0.001, else 0."""

    def __post_init__(self) -> None:
        _check_start(self, new=CascadeConfig())
        _check_pictures(self)


AnyDeticRecipe = DeticRecipe | CascadeRecipe


def pictures_of(recipe: AnyDeticRecipe) -> dict[str, CaptionedImages | CaptionedMosaics]:
    """How captioned images come, by the name of the recipe's table; those that it has."""
    kinds = {"images": recipe.images, "mosaics": recipe.mosaics}
    return {name: own for name, own in kinds.items() if own is not None}


def check_parts(recipe: AnyDeticRecipe, num_processes: int) -> None:
    """Refuse steps that processes cannot share equally.

    Raises:
        ValueError: Images with boxes, captioned images or mosaics do not divide.
    """
    recipe.optimization.part_size(num_processes)
    parts = num_processes * recipe.optimization.accumulate
    for name, kind in pictures_of(recipe).items():
        if kind.per_step % parts:
            raise ValueError(
                f"{name}.per_step {kind.per_step} does not divide into {num_processes} processes "
                f"times {recipe.optimization.accumulate} accumulated parts; choose a multiple of "
                f"{parts}"
            )


def _check_per_step(table: str, per_step: int) -> None:
    if per_step < 1:
        raise ValueError(
            f"{table}.per_step must be at least 1, got {per_step}; leave [{table}] out for none"
        )


def _check_start(recipe: AnyDeticRecipe, *, new: DeticConfig | CascadeConfig) -> None:
    if (recipe.start is None) != (recipe.backbone_weights is not None):
        raise ValueError(
            "a detector goes on from start, or a new one begins with a ResNet's "
            f"backbone_weights; give one of them, got start={recipe.start!r} and "
            f"backbone_weights={recipe.backbone_weights!r}"
        )
    if recipe.start is None and recipe.text_weights is None:
        raise ValueError("a new detector needs text_weights, such as openai:ViT-B-32")
    if recipe.text_weights is None and recipe.text_activation is not None:
        raise ValueError(
            f"text_activation ({recipe.text_activation!r}) is about text_weights, of which there "
            "are none; leave it out"
        )
    if recipe.start is not None and recipe.model != new:
        raise ValueError(f"the detector is that of start ({recipe.start!r}); leave out [model]")
    if recipe.data.novel_boxes != "refused":
        raise ValueError(
            "a Detic is trained on boxes of base classes only; leave out data.novel_boxes, got "
            f"{recipe.data.novel_boxes!r}"
        )


def _check_pictures(recipe: AnyDeticRecipe) -> None:
    pictures = recipe.images is not None or recipe.mosaics is not None
    if len({recipe.learner.reads_captions, recipe.captions is not None, pictures}) != 1:
        raise ValueError(
            "captions teach where [captions] says where they are, [images] or [mosaics] how "
            "they come, and [learner.captions] or [learner.tags] what they teach; give all "
            "three or none"
        )
    if recipe.captions is not None and recipe.captions.proposals is not None:
        raise ValueError(
            f"captions.proposals ({recipe.captions.proposals!r}) are of no use: the detector "
            "proposes regions itself; leave it out"
        )
