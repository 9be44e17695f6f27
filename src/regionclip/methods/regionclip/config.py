"""What a RegionCLIP detector is made of, and how it selects its detections."""

from dataclasses import dataclass, field, replace

from regionclip.data.transforms import SizeRule
from regionclip.detections.select import SelectionOptions
from regionclip.encoders.clip_resnet import SPECS, ClipResNetSpec
from regionclip.proposals.rpn import RPN_FORMS, RpnConfig, RpnSelection
from regionclip.regions.embedder import BoxScale
from regionclip.scoring.objectness import ObjectnessFusion


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionClipConfig:
    """One detector; numbers follow microsoft/RegionCLIP@4b8513b ``configs/``."""

    encoder: ClipResNetSpec = SPECS["RN50"]
    rpn: RpnConfig | None = None
    """The localiser; ``None`` leaves proposals to the user."""
    shortest_side: int = 800
    """Pixels of the resized image's shorter side; upstream ``INPUT.MIN_SIZE_TEST``."""
    longest_side: int = 1333
    """Most pixels of its longer side; upstream ``INPUT.MAX_SIZE_TEST``."""
    size_rule: SizeRule = "detectron2"
    """How the sides are rounded; ``detr`` for a CLIP with CORA's region prompt."""
    box_scale: BoxScale = "stride"
    """How boxes come to lie on a map; ``share`` for a CLIP with CORA's region prompt."""
    temperature: float = 0.01
    """Divides the cosine similarity; upstream ``MODEL.CLIP.CLSS_TEMP``."""
    templates: str = "imagenet80"
    """Built-in prompts that class names are put into; upstream's 81."""
    text_length: int | None = None
    """Tokens of a prompt, start and end included; longer ones are cut and every prompt of a class
    has the same weight, as a CLIP with CORA's region prompt has it. ``None`` reads all, and takes
    the mean of the prompts' vectors as they are."""
    objectness_fusion: ObjectnessFusion = "geometric"
    """``raw`` is upstream's ``MULTIPLY_RPN_SCORE``, whose scores may exceed 1."""
    selection: SelectionOptions = field(default_factory=SelectionOptions)
    box_regression: bool = False
    """Carries a box regressor, and refines proposals with it; fine-tuned files do."""
    mask_head: bool = False
    """Carries a mask head; files fine-tuned on LVIS do."""
    num_train_classes: int = 0
    """Rows of the class embeddings that the file was fine-tuned with; 0 for none."""
    num_test_classes: int = 0
    """Rows of the class embeddings that it names at test time; 0 for none."""
    class_names: str = ""
    """Built-in list that names those rows, such as ``coco65``; empty for none."""
    own_class_names: tuple[str, ...] = ()
    """The names themselves, where no built-in list has them: one per row."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if not 0 < self.shortest_side <= self.longest_side:
            raise ValueError(
                f"shortest_side must be in (0, longest_side = {self.longest_side}], "
                f"got {self.shortest_side}"
            )
        if self.text_length is not None:
            self.encoder.check_text_length(self.text_length)
        if self.own_class_names and self.class_names:
            raise ValueError(
                f"give class_names or own_class_names, not both ({self.class_names!r})"
            )


ZERO_SHOT_RPN = replace(RPN_FORMS["fpn"], selection=RpnSelection(nms_iou=0.9))
"""``rpn_lvis_866`` as zero-shot inference uses it (``CLIP.OFFLINE_RPN_NMS_THRESH`` 0.9)."""

_ZERO_SHOT = RegionClipConfig(rpn=ZERO_SHOT_RPN)
_OV_COCO = RegionClipConfig(
    rpn=RPN_FORMS["c4"],
    objectness_fusion="none",
    selection=SelectionOptions(min_score=0.001, nms="soft_gaussian"),
    box_regression=True,
    num_train_classes=48,
    num_test_classes=65,
    class_names="coco65",
)
_OV_LVIS = RegionClipConfig(
    rpn=RPN_FORMS["fpn_lsj"],
    selection=SelectionOptions(min_score=0.02, nms="soft_gaussian", max_detections=300),
    box_regression=True,
    mask_head=True,
    num_train_classes=866,
    num_test_classes=1203,
    class_names="lvis1203",
)
VARIANTS = {
    f"{task}-{size.lower()}": replace(config, encoder=SPECS[size])
    for task, config in (("cc", _ZERO_SHOT), ("ov-coco", _OV_COCO), ("ov-lvis", _OV_LVIS))
    for size in ("RN50", "RN50x4")
}
"""The detectors that RegionCLIP released weights for; objectness enters so that scores stay in
[0, 1] (upstream's way is ``raw``).

``ov-*`` have the test-time numbers of upstream's shell scripts. ``cc-*`` detect in photographs with
detectron2's own 0.05 and 100: the zero-shot scripts differ among each other, and evaluate COCO's 65
classes above 0.001, and 1203 classes above 0.02 (given boxes: 0.0001), the best 300 of an image.

Source:
    microsoft/RegionCLIP@4b8513b ``test_zeroshot_inference.sh``, ``test_transfer_learning.sh`` and
    their configurations.
"""
