"""What an EVA-02 CLIP with a dense map is made of, and how it sees images and names regions."""

from dataclasses import dataclass, field
from typing import Literal

from regionclip.data.transforms import Padding
from regionclip.detections.select import SelectionOptions
from regionclip.encoders.eva import EVA_SPECS, EvaClipSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSelfConfig:
    """One model; numbers follow wusize/CLIPSelf@1c7fe9c's published runs."""

    encoder: EvaClipSpec = EVA_SPECS["EVA02-B-16"]
    """Both towers."""
    longest_side: int = 1024
    """Pixels of the resized image's longer side; upstream ``--det-image-size``."""
    padding: Padding = "square"
    """How images are filled up with black, at the right and at the bottom. Upstream's towers take
    squares alone; these take any, and ``cells`` is faster, with other vectors."""
    templates: str = "vild63"
    """Built-in prompts that class names are put into; each counts the same."""
    temperature: float = 0.01
    """Divides the cosine similarity: CLIP's scale, at its limit of 100."""
    selection: SelectionOptions = field(default_factory=SelectionOptions)
    """Thresholds, NMS and the number kept."""

    @property
    def map_regions(self) -> Literal["dense"]:
        """Which of the regions that a map gives are the model's own."""
        return "dense"

    def __post_init__(self) -> None:
        if self.longest_side < 1:
            raise ValueError(f"longest_side must be positive, got {self.longest_side}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")


_B_16 = ClipSelfConfig()
_L_14 = ClipSelfConfig(encoder=EVA_SPECS["EVA02-L-14-336"], longest_side=896)
VARIANTS = {
    "eva-vitb16-coco": _B_16,
    "eva-vitl14-coco": _L_14,
    "eva-vitb16-lvis": _B_16,
    "eva-vitl14-lvis": _L_14,
}
"""The released models, named by the images that they learned from."""
