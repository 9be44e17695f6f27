"""What a dense CLIP is made of, and how it sees images and names regions."""

from dataclasses import dataclass, field
from typing import Literal

from regionclip.data.transforms import Padding
from regionclip.detections.select import SelectionOptions
from regionclip.encoders.clip_resnet import SPECS, ClipResNetSpec
from regionclip.encoders.vit import VIT_SPECS, ClipVitSpec

Pooling = Literal["dense", "attention"]
"""``dense``: ROIAlign to one bin of the map of vectors. ``attention``: ROIAlign to the attention
pool's grid of layer4's map, then that pool; ResNets only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClimConfig:
    """One model; numbers follow wusize/CLIM@7baade3's published runs."""

    vit: ClipVitSpec | None = VIT_SPECS["ViT-B-16"]
    """The towers, if the image's is a vision transformer."""
    resnet: ClipResNetSpec | None = None
    """The towers, if the image's is a ModifiedResNet."""
    pooling: Pooling = "dense"
    """How boxes become vectors; upstream ``--extract-type``."""
    longest_side: int = 1024
    """Pixels of the resized image's longer side; upstream ``--det-image-size``."""
    padding: Padding = "square"
    """How images are filled up with black, at the right and at the bottom."""
    templates: str = "vild63"
    """Built-in prompts that class names are put into; each counts the same."""
    temperature: float = 0.01
    """Divides the cosine similarity: CLIP's scale, at its limit of 100."""
    selection: SelectionOptions = field(default_factory=SelectionOptions)
    """Thresholds, NMS and the number kept."""

    @property
    def map_regions(self) -> Literal["dense", "layer4"]:
        """Which of the regions that a map gives are the model's own."""
        return "layer4" if self.pooling == "attention" else "dense"

    def __post_init__(self) -> None:
        if (self.vit is None) == (self.resnet is None):
            raise ValueError("give vit or resnet, one of the two")
        if self.pooling == "attention" and self.resnet is None:
            raise ValueError(
                "pooling must be 'dense' with a vision transformer, which has no attention pool"
            )
        if self.longest_side < 1:
            raise ValueError(f"longest_side must be positive, got {self.longest_side}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")

    @property
    def encoder(self) -> ClipVitSpec | ClipResNetSpec:
        """The towers, whichever they are."""
        spec = self.vit if self.vit is not None else self.resnet
        if spec is None:
            raise ValueError("give vit or resnet, one of the two")
        return spec


VARIANTS = {
    "openai-vitb16-coco": ClimConfig(),
    "openai-vitb16-cc3m": ClimConfig(),
    "openai-rn50x64-cc3m": ClimConfig(vit=None, resnet=SPECS["RN50x64"], pooling="attention"),
}
"""The released models, all with OpenAI's frozen text tower; named by what they learned from."""
