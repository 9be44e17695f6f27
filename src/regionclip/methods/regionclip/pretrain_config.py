"""What region-text pretraining minimises and moves; see ``pretrain.py``."""

from dataclasses import dataclass
from typing import Literal, get_args

from .training_regions import ImageBatching, check_freeze_at

PretrainLoss = Literal["image_text", "distillation", "contrastive"]
LongCaptions = Literal["keep_end", "lose_end"]
"""What becomes of a caption that is longer than the text tower reads (77 tokens). ``keep_end``: its
last token that is read is the end token, where its vector is. ``lose_end``: it has none, as in the
original, and its vector is that of the token with the highest number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """What pretraining minimises, over which regions, and what of the student it moves.

    Numbers are of microsoft/RegionCLIP@4b8513b ``pretrain.sh`` and of RegionCLIP
    (arXiv:2112.09106), sec. 4.1.
    """

    losses: tuple[PretrainLoss, ...] = get_args(PretrainLoss)
    """Added up, each as it is: whole images against captions, the teacher's opinion of regions over
    all concepts, and regions against the concepts of the batch's regions."""
    regions_per_image: int = 100
    """Drawn from the proposals of an image; all, if there are fewer."""
    min_concept_score: float = 0.1
    """Regions of which the teacher is no surer than this are left out (``CONCEPT_THRES``)."""
    freeze_at: int = 2
    """How many of stem, layer1, layer2, layer3 and layer4 stay as they are, from the first on
    (``BACKBONE.FREEZE_AT``)."""
    image_batching: ImageBatching = "by_size"
    """Which images go through the networks together. In the original, ``padded``, an image's own
    vector is that of the padded canvas, so that it depends on the other images too."""
    long_captions: LongCaptions = "keep_end"
    """How captions are cut that are longer than the text tower reads; see :data:`LongCaptions`."""
    activation_budget: int | None = None
    """Bytes that one chunk of regions may keep in layer4 for the backward pass; the chunks are then
    computed a second time there. ``None`` keeps everything and computes it once."""
    unlocked_groups: int | None = None
    """Of towers with a dense map, such as ViTs and ConvNeXt, which have no ``freeze_at``: how many
    groups of the image tower learn, counted from its end. ``None``: all."""

    def __post_init__(self) -> None:
        if not self.losses or len(set(self.losses)) < len(self.losses):
            raise ValueError(
                f"losses must be some of {', '.join(get_args(PretrainLoss))}, each once, "
                f"got {self.losses}"
            )
        if not 0 <= self.min_concept_score < 1:
            raise ValueError(f"min_concept_score must be in [0, 1), got {self.min_concept_score}")
        for name in ("regions_per_image", "activation_budget", "unlocked_groups"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        check_freeze_at(self.freeze_at)
