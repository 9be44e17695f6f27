"""What a training run of CORA does: its region prompt, and its localiser."""

from dataclasses import dataclass, field
from typing import ClassVar

from regionclip.data.cropping import CroppingAugmentation
from regionclip.methods.cora.config import CoraConfig
from regionclip.methods.cora.training_config import CoraTraining
from regionclip.recipes.settings import DataSource, Measuring, RunSettings
from regionclip.training import Optimization


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionPromptRecipe:
    """Teach a CLIP to name given boxes by its attention pool's positional embedding alone.

    Source: CORA (arXiv:2303.13076), sec. 3.2; tgxs002/CORA@38124c2 (branch ``region``).
    """

    task: ClassVar[str] = "region-prompt"

    start: str
    """Any CLIP with a ResNet and a text tower: a known name or a file."""
    data: DataSource
    optimization: Optimization
    augmentation: CroppingAugmentation = field(default_factory=CroppingAugmentation)
    templates: str = "openai80"
    """Built-in prompts that names are put into."""
    text_length: int = 25
    """Tokens of a prompt, start and end included; longer ones are cut (``--text_len``)."""
    repeat_threshold: float = 0.0
    """Images of classes in a smaller fraction of the images are repeated; LVIS: 0.001, else 0."""
    shortest_side: int = 800
    """Pixels at test time, kept in the model's file."""
    longest_side: int = 1333
    measuring: Measuring = field(default_factory=Measuring)
    run: RunSettings = field(default_factory=RunSettings)


@dataclass(frozen=True, kw_only=True, slots=True)
class CoraRecipe:
    """Teach a localiser where things are, on a frozen CLIP with a region prompt.

    Source: CORA (arXiv:2303.13076), sec. 3.3 and 4; tgxs002/CORA@c334a6d.
    """

    task: ClassVar[str] = "cora"

    start: str
    """Any CLIP with a ResNet and a text tower, such as the region prompt's training leaves: a known
    name or a file."""
    data: DataSource
    optimization: Optimization
    region_prompt: str | None = None
    """File of a region prompt; ``None`` takes the start's own positional embedding, which is one in
    a model that the region prompt's training left."""
    model: CoraConfig = field(default_factory=CoraConfig)
    """The localiser, and what the detector does at test time. Its encoder is the start's, and its
    base classes are the data's."""
    learner: CoraTraining = field(default_factory=CoraTraining)
    augmentation: CroppingAugmentation = field(default_factory=CroppingAugmentation)
    repeat_threshold: float = 0.0
    """Images of classes in a smaller fraction of the images are repeated; LVIS: 0.001, else 0."""
    measuring: Measuring = field(default_factory=Measuring)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        if self.model.encoder != CoraConfig().encoder:
            raise ValueError(
                f"model.encoder is that of start ({self.start!r}); leave it out of the recipe"
            )
        own = ("base_classes", "own_base_classes", "pseudo_classes")
        if any(getattr(self.model, name) for name in own):
            raise ValueError(
                f"{', '.join(f'model.{name}' for name in own)} are the classes of data.train "
                f"({self.data.train!r}); leave them out of the recipe"
            )
        if self.learner.box_heads_averaged == "twice" and self.optimization.ema_decay is None:
            raise ValueError(
                "learner.box_heads_averaged 'twice' is about averages, and none are kept; set "
                "optimization.ema_decay"
            )
