"""Recipes of RegionCLIP: pretraining, transfer learning, and proposal networks."""

from dataclasses import dataclass, field
from typing import ClassVar

from regionclip.data.augmentation import Augmentation
from regionclip.data.caption_sources import CaptionSource
from regionclip.encoders.vit_weights import Activation
from regionclip.methods.regionclip.pretrain_config import PretrainConfig
from regionclip.methods.regionclip.proposal_learner import RpnTraining
from regionclip.methods.regionclip.transfer import TransferConfig
from regionclip.proposals.rpn import RpnConfig, RpnSelection
from regionclip.recipes.settings import DataSource, Measuring, RunSettings, check_weight_ensemble
from regionclip.regions.embedder import RegionSource
from regionclip.scoring.objectness import ObjectnessFusion
from regionclip.training import Optimization


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
