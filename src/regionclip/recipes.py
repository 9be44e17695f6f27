"""What a training run does, from start to end: a TOML file, read into one of these types.

The key ``task`` says which. Files that ship with the package are known by their names.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from regionclip.clim_recipes import (
    ClimRecipe,
    ClipSelfRecipe,
    IconsVitRecipe,
    PseudoLabelRecipe,
)
from regionclip.cora_recipes import CoraRecipe, RegionPromptRecipe
from regionclip.data.augmentation import Augmentation
from regionclip.data.caption_sources import CaptionSource
from regionclip.detic_recipes import CascadeRecipe, DeticRecipe
from regionclip.encoders.vit_weights import Activation
from regionclip.fvit_recipes import FvitRecipe
from regionclip.methods.regionclip.config import RegionClipConfig
from regionclip.methods.regionclip.pretrain_config import PretrainConfig
from regionclip.methods.regionclip.proposal_learner import RpnTraining
from regionclip.methods.regionclip.transfer import TransferConfig
from regionclip.proposals.rpn import RpnConfig, RpnSelection
from regionclip.recipe_settings import DataSource, Measuring, RunSettings, check_weight_ensemble
from regionclip.regions.embedder import RegionSource
from regionclip.scoring.objectness import ObjectnessFusion
from regionclip.settings import settings_from
from regionclip.training import Optimization

SUFFIX = ".toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposalTraining:
    """How a class-agnostic proposal network is trained."""

    optimization: Optimization
    learner: RpnTraining = field(default_factory=RpnTraining)
    rpn: RpnConfig | None = None
    """The network; ``None`` goes on with the model's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferRecipe:
    """Fine-tune a pretrained model on boxes of base classes.

    Source: RegionCLIP (arXiv:2112.09106), sec. 4.1 and appendix.
    """

    task: ClassVar[str] = "transfer"

    start: str
    """Model to begin with: a known name or a file."""
    data: DataSource
    optimization: Optimization
    learner: TransferConfig = field(default_factory=TransferConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    proposals: str | None = None
    """Where regions come from: ``None`` is the model's own network; else a name or file of a
    proposal network, or ``grid``."""
    proposal_training: ProposalTraining | None = None
    """Train the model's proposal network on the same data first; ``None`` takes it as it is."""
    text_weights: str | None = None
    """Model to take the text tower from, if the start model carries none."""
    class_embeddings: str | None = None
    """File with one vector per training class, as RegionCLIP's ``*_cls_emb.pth``; ``None`` encodes
    the names."""
    templates: str = "imagenet80"
    """Built-in prompts that names are put into."""
    repeat_threshold: float = 0.0
    """Images of classes in a smaller fraction of the images are repeated; LVIS: 0.001, else 0."""
    shortest_side: int = 800
    """Pixels at test time, kept in the model's file."""
    longest_side: int = 1333
    min_score: float = 0.001
    """Lowest score of a detection at test time, kept in the model's file."""
    max_detections: int = 100
    """Most detections of an image at test time, kept in the model's file; LVIS: 300."""
    objectness_fusion: ObjectnessFusion = "geometric"
    """How objectness enters scores at test time, kept in the model's file; COCO: ``none``."""
    measuring: Measuring = field(default_factory=Measuring)
    weight_ensemble: float | None = None
    """At the end, also write weights between the start's (0) and the trained (1): WiSE-FT."""
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        if self.proposals is not None and self.proposal_training is not None:
            raise ValueError(
                f"proposals ({self.proposals!r}) and proposal_training exclude each other: regions "
                "come from one network"
            )
        check_weight_ensemble(self.weight_ensemble)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposalRecipe:
    """Train a proposal network alone, on boxes without their names."""

    task: ClassVar[str] = "proposals"

    data: DataSource
    optimization: Optimization
    rpn: RpnConfig
    learner: RpnTraining = field(default_factory=RpnTraining)
    backbone_weights: str | None = None
    """A ResNet's weights to begin with, by torchvision's keys: a file, or a known name;
    ``None`` begins with random ones."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    measuring: Measuring = field(default_factory=lambda: Measuring(metric="ar_100"))
    shortest_side: int = 800
    longest_side: int = 1333
    run: RunSettings = field(default_factory=RunSettings)


ORIGINAL_SELECTION = RpnSelection(nms_iou=0.5, post_nms_topk=300)
"""Which of a network's proposals pretraining draws regions from; microsoft/RegionCLIP@4b8513b
``pretrain.sh``."""


STORED = "stored"
"""The teacher of a pretraining whose vectors were computed ahead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainRecipe:
    """Teach an image tower what regions show, from images with captions.

    Source: RegionCLIP (arXiv:2112.09106), sec. 3 and 4.1.
    """

    task: ClassVar[str] = "pretrain"

    start: str
    """Student to begin with: a known name or a file, with a text tower."""
    data: CaptionSource
    concepts: str
    """File of the concept pool, from 'regionclip concepts build'."""
    optimization: Optimization
    learner: PretrainConfig = field(default_factory=PretrainConfig)
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(shortest_sides=(800,), interpolation="bicubic")
    )
    teacher: str | None = None
    """What regions are matched to concepts by: a known name, a file, or an open_clip model.
    ``None`` is the teacher in the start's file or, if it has none, the start itself. ``stored``
    runs none and takes the vectors in ``data.proposals``, which ``regionclip propose --teacher``
    wrote: those of images that are not augmented."""
    activation: Activation | None = None
    """What the towers of a start with OpenAI's vision transformer compute with, ``quick_gelu`` or
    ``gelu``, if its file does not say."""
    teacher_activation: Activation | None = None
    """As ``activation``, for a teacher of its own."""
    teacher_regions: RegionSource = "map"
    """``crops`` lets the teacher look at each region as a picture of its own: slow, and the only
    way for other towers than CLIP's ResNets."""
    proposals: str | None = None
    """Where regions come from if ``data.proposals`` has none: a name or file of a network,
    ``grid`` or ``random``; ``None`` is the start's own network. The model keeps a network."""
    selection: RpnSelection = ORIGINAL_SELECTION
    """Which of a network's proposals regions are drawn from."""
    val: str = ""
    """Data set with boxes to measure detection by name on; empty measures nothing."""
    val_split: str = "val"
    val_image_root: str | None = None
    measuring: Measuring = field(default_factory=Measuring)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        if self.teacher in (None, STORED) and self.teacher_activation is not None:
            raise ValueError(
                f"teacher_activation ({self.teacher_activation!r}) is about a teacher of its own; "
                "the start's is activation"
            )
        if self.teacher != STORED:
            return
        if self.data.proposals is None:
            raise ValueError(
                "teacher = 'stored' takes the vectors that 'regionclip propose ... --teacher "
                "MODEL' wrote; set data.proposals to that folder"
            )
        if self.teacher_regions != "map":
            raise ValueError(
                f"teacher_regions ({self.teacher_regions!r}) does not go with teacher = 'stored', "
                "whose vectors are there already; 'regionclip propose' has --teacher-regions"
            )


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


Recipe = (
    TransferRecipe
    | ProposalRecipe
    | PretrainRecipe
    | IconsRecipe
    | RegionPromptRecipe
    | CoraRecipe
    | ClimRecipe
    | ClipSelfRecipe
    | PseudoLabelRecipe
    | FvitRecipe
    | DeticRecipe
    | CascadeRecipe
    | IconsVitRecipe
)
TASKS: Mapping[str, type[Recipe]] = {
    kind.task: kind
    for kind in (
        TransferRecipe,
        ProposalRecipe,
        PretrainRecipe,
        IconsRecipe,
        RegionPromptRecipe,
        CoraRecipe,
        ClimRecipe,
        ClipSelfRecipe,
        PseudoLabelRecipe,
        FvitRecipe,
        DeticRecipe,
        CascadeRecipe,
        IconsVitRecipe,
    )
}


def recipe_names() -> tuple[str, ...]:
    """Recipes that ship with the package."""
    return tuple(sorted(path.stem for path in _folder().glob(f"*{SUFFIX}")))


def recipe_file(name: str | Path) -> Path:
    """The file of a recipe that ships with the package, or a file of the user's.

    Raises:
        ValueError: There is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    if str(name) in recipe_names():
        return _folder() / f"{name}{SUFFIX}"
    raise ValueError(
        f"unknown recipe {str(name)!r}; expected a TOML file, or one of {', '.join(recipe_names())}"
    )


def read_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: As :func:`recipe_file` takes it.
        changes: Settings instead of the file's, each ``section.key=value`` with the value as TOML
            writes it; text needs no quotes.

    Raises:
        ValueError: It is not TOML, a key is unknown or missing, or a value does not fit.
    """
    path = recipe_file(name)
    content = _content(path)
    for change in changes:
        _change(content, change)
    task = content.pop("task", None)
    if task not in TASKS:
        raise ValueError(f"{path}: task must be one of {', '.join(TASKS)}, got {task!r}")
    return settings_from(TASKS[task], content, source=str(path))


def recipe_task(name: str | Path) -> str:
    """The kind of a recipe, one of :data:`TASKS` if it is one.

    Args:
        name: As :func:`recipe_file` takes it.

    Raises:
        ValueError: It is not TOML.
    """
    return str(_content(recipe_file(name)).get("task"))


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML recipe: {error}") from error


def _change(content: dict[str, Any], change: str) -> None:
    path, equals, text = change.partition("=")
    *sections, key = path.strip().split(".")
    if not equals or not key:
        raise ValueError(f"{change!r} is no change of a setting; write section.key=value")
    table = content
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ValueError(f"{change!r}: {section!r} is a setting, not a section")
    try:
        table[key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[key] = text.strip()


def _folder() -> Path:
    return Path(str(files("regionclip"))) / "assets" / "recipes"
