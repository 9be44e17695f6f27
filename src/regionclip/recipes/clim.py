"""What training runs of dense towers do: CLIM, CLIPSelf, pseudo labels."""

from dataclasses import dataclass, field
from typing import ClassVar

from regionclip.data.caption_sources import CaptionSource
from regionclip.data.square_cropping import SquareCropping
from regionclip.data.square_fitting import SquareFitting
from regionclip.encoders.vit_weights import Activation
from regionclip.methods.clim.training_config import ClimTraining
from regionclip.methods.clipself.training_config import ClipSelfTraining, PseudoLabelTraining
from regionclip.pairs.crops import GivenRegions, GridCells, RegionDraw
from regionclip.recipes.settings import DataSource, Measuring, RunSettings, check_weight_ensemble
from regionclip.training import Optimization


def _measuring() -> Measuring:
    return Measuring(metric="macc1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClimRecipe:
    """Teach an image tower what regions show, from captions, by mosaics.

    Source: CLIM (arXiv:2312.11376), sec. 3 and 4.1.
    """

    task: ClassVar[str] = "clim"

    start: str
    """Tower to begin with, which has a dense map and a text tower: a known name, a file, or
    ``tag:architecture`` of an open_clip model with a vision transformer or EVA-02; or one of
    OpenAI's ResNets, whose tiles are pooled with attention."""
    data: CaptionSource
    optimization: Optimization
    activation: Activation | None = None
    """What the start's towers compute with, ``quick_gelu`` or ``gelu``, if it has a vision
    transformer of OpenAI's layout; ``None`` takes what its file says, and refuses one that says
    nothing."""
    learner: ClimTraining = field(default_factory=ClimTraining)
    augmentation: SquareCropping = field(default_factory=SquareCropping)
    weight_ensemble: float | None = None
    """Measure and save weights between the start's (0) and the trained (1), while training goes on
    without; ``None`` takes the trained ones."""
    val: str = ""
    """Data set with boxes to name while training; empty measures nothing."""
    val_split: str = "val"
    val_image_root: str | None = None
    measuring: Measuring = field(default_factory=_measuring)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        check_weight_ensemble(self.weight_ensemble)
        if self.data.proposals is not None:
            raise ValueError(
                f"data.proposals ({self.data.proposals!r}) is about boxes, and mosaics need none; "
                "leave it out"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSource(DataSource):
    """Where images are whose classes and captions do not matter."""

    proposals: str | None = None
    """Boxes computed ahead, for ``[boxes]``: the folder that ``regionclip propose`` wrote, or a
    file of boxes; ``train`` then is images alone. ``None`` takes the boxes that ``train`` has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSelfRecipe:
    """Let an image tower teach its map what it knows of whole pictures, from images alone.

    Source: CLIPSelf (arXiv:2310.01403), sec. 3 and 4.1.
    """

    task: ClassVar[str] = "clipself"

    start: str
    """As that of :class:`ClimRecipe`, but for the ResNets."""
    data: ImageSource
    """Images; boxes matter only to ``[boxes]``."""
    optimization: Optimization
    grid: GridCells | None = None
    """Regions are the cells of random grids (``[grid]``, which may be empty)."""
    boxes: GivenRegions | None = None
    """Regions are boxes (``[boxes]``, which may be empty): ``data.proposals``, else the data's."""
    image_side: int = 1024
    """Pixels of the square that each image is fitted into; a multiple of the tower's cells."""
    activation: Activation | None = None
    """As that of :class:`ClimRecipe`."""
    teacher: str | None = None
    """What sees the crops: another tower of the same joint space; ``None`` is the start itself."""
    teacher_activation: Activation | None = None
    """As ``activation``, for a teacher of its own."""
    learner: ClipSelfTraining = field(default_factory=ClipSelfTraining)
    weight_ensemble: float | None = None
    """As that of :class:`ClimRecipe`."""
    measuring: Measuring = field(default_factory=_measuring)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        check_weight_ensemble(self.weight_ensemble)
        if (self.grid is None) == (self.boxes is None):
            raise ValueError(
                "regions are either cells of grids or boxes; give one of the tables [grid] and "
                "[boxes]"
            )
        if self.boxes is None and self.data.proposals is not None:
            raise ValueError(
                f"data.proposals ({self.data.proposals!r}) is about boxes, and regions are cells "
                "of grids; set grid=none and boxes.max_regions=20, or leave it out"
            )
        if self.teacher is None and self.teacher_activation is not None:
            raise ValueError(
                f"teacher_activation ({self.teacher_activation!r}) is about a teacher of its own; "
                "the start's is activation"
            )

    @property
    def regions(self) -> RegionDraw:
        """Where regions come from."""
        return self.grid or self.boxes or GridCells()


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoLabelRecipe:
    """Teach an image tower names that a model gave to boxes: what CLIPSelf is compared with.

    Source: CLIPSelf (arXiv:2310.01403), sec. 4, "RegionCLIP" in its tables.
    """

    task: ClassVar[str] = "pseudo-labels"

    start: str
    """As that of :class:`ClimRecipe`, but for the ResNets."""
    data: DataSource
    """Boxes with names; their classes are those that are learned."""
    optimization: Optimization
    learner: PseudoLabelTraining = field(default_factory=PseudoLabelTraining)
    augmentation: SquareFitting = field(default_factory=SquareFitting)
    activation: Activation | None = None
    """As that of :class:`ClimRecipe`."""
    class_embeddings: str | None = None
    """File with one vector per training class; ``None`` encodes the names."""
    templates: str = "vild63"
    """Built-in prompts that names are put into."""
    weight_ensemble: float | None = None
    """As that of :class:`ClimRecipe`."""
    measuring: Measuring = field(default_factory=_measuring)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        check_weight_ensemble(self.weight_ensemble)
