"""What a training run of F-ViT or F-VLM does."""

from dataclasses import dataclass, field
from typing import ClassVar

from regionclip.data.scale_jitter import ScaleJitter
from regionclip.encoders.vit_weights import Activation
from regionclip.methods.fvit.config import FvitConfig
from regionclip.methods.fvit.training_config import FvitTraining
from regionclip.recipes.settings import DataSource, Measuring, RunSettings
from regionclip.training import Optimization


@dataclass(frozen=True, kw_only=True, slots=True)
class FvitRecipe:
    """Train a detector on a frozen CLIP with boxes of base classes.

    Source: F-VLM (arXiv:2209.15639), sec. 4; F-ViT: CLIPSelf (arXiv:2310.01403), sec. 4.2.
    """

    task: ClassVar[str] = "fvit"

    start: str
    """The CLIP to freeze, with its text tower: a known name or a file, such as CLIPSelf's or
    CLIM's training leaves."""
    activation: Activation | None = None
    """What the start's towers compute with, ``quick_gelu`` or ``gelu``, if it has a vision
    transformer of OpenAI's layout; ``None`` takes what its file says, and refuses one that says
    nothing. CLIM's published F-VLM runs its start with ``gelu``, though it was trained with
    QuickGELU."""
    data: DataSource
    optimization: Optimization
    model: FvitConfig = field(default_factory=FvitConfig)
    """The detector, and what it does at test time. Its frozen CLIP is the start's, and its classes
    are the data's."""
    learner: FvitTraining = field(default_factory=FvitTraining)
    augmentation: ScaleJitter = field(default_factory=ScaleJitter)
    repeat_threshold: float = 0.0
    """Images of classes in a smaller fraction of the images are repeated; LVIS: 0.001, else 0."""
    measuring: Measuring = field(default_factory=Measuring)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        if self.data.novel_boxes != "refused":
            raise ValueError(
                "a detector on a frozen CLIP is trained on base classes only; leave out "
                f"data.novel_boxes, got {self.data.novel_boxes!r}"
            )
        if self.learner.train_masks != self.model.mask_head:
            raise ValueError(
                f"learner.train_masks is {self.learner.train_masks} and model.mask_head "
                f"{self.model.mask_head}; a mask head is there to be trained"
            )
