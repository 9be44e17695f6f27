"""What fine-tuning minimises and moves; see ``transfer.py``."""

from dataclasses import dataclass
from typing import Literal

from .training_regions import ImageBatching, check_freeze_at


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferConfig:
    """What fine-tuning minimises, over which regions, and what of the model it moves.

    Numbers are of microsoft/RegionCLIP@4b8513b, ``configs/COCO-InstanceSegmentation/
    CLIP_fast_rcnn_R_50_C4_ovd.yaml`` ("COCO"), ``configs/LVISv1-InstanceSegmentation/
    CLIP_fast_rcnn_R_50_C4.yaml`` ("LVIS") and detectron2's defaults.
    """

    classification_loss: Literal["weighted", "focal_scaled"] = "weighted"
    """LVIS: ``weighted``, cross-entropy normalised by the weights. COCO: ``focal_scaled``, times
    ``(1 - p) ** focal_gamma``, mean over regions; it forgets less where base classes are few."""
    focal_gamma: float | None = None
    """Of ``focal_scaled``, which needs it; COCO: 0.5 (``CLIP.FOCAL_SCALED_LOSS``)."""
    background_weight: float = 1.0
    """Factor on background regions in the classification loss; COCO: 0.2, LVIS: 0.8
    (``CLIP.BG_CLS_LOSS_WEIGHT``). Unlabelled objects of other classes are among them."""
    regions_per_image: int = 512
    """Regions that enter the losses (``ROI_HEADS.BATCH_SIZE_PER_IMAGE``)."""
    foreground_share: float = 0.25
    """Most of them, as a fraction, that are on objects (``ROI_HEADS.POSITIVE_FRACTION``)."""
    match_iou: float = 0.5
    """Overlap from which a region takes an object's label (``ROI_HEADS.IOU_THRESHOLDS``)."""
    train_masks: bool = False
    """Learn masks too, from polygons; LVIS: true (``MODEL.MASK_ON``)."""
    class_embeddings: Literal["frozen", "trained"] = "frozen"
    """``trained`` lets the vectors of the training classes move away from the text tower's, which
    other classes keep: for comparison. The original's are frozen."""
    freeze_at: int = 2
    """How many of stem, layer1, layer2, layer3 and layer4 stay as they are, from the first on
    (``BACKBONE.FREEZE_AT``)."""
    image_batching: ImageBatching = "by_size"
    """Which images go through the network together; the original's are ``padded``."""
    activation_budget: int | None = None
    """Bytes that one chunk of regions may keep in layer4 for the backward pass; the chunks are then
    computed a second time there. ``None`` keeps everything and computes it once."""

    def __post_init__(self) -> None:
        if (self.classification_loss == "focal_scaled") != (self.focal_gamma is not None):
            raise ValueError(
                "focal_gamma belongs to classification_loss 'focal_scaled' and to no other, got "
                f"focal_gamma {self.focal_gamma} with {self.classification_loss!r}"
            )
        for name in ("foreground_share", "match_iou"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        for name in ("background_weight", "focal_gamma"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        for name in ("regions_per_image", "activation_budget"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        check_freeze_at(self.freeze_at)


COCO_TRANSFER = TransferConfig(
    classification_loss="focal_scaled", focal_gamma=0.5, background_weight=0.2
)
LVIS_TRANSFER = TransferConfig(background_weight=0.8, train_masks=True)
