"""What an F-ViT or F-VLM detector is made of, and how it selects its detections."""

from dataclasses import dataclass, field, replace
from typing import Literal

from regionclip.detections.select import SelectionOptions
from regionclip.encoders.clip_resnet import SPECS, ClipResNetSpec
from regionclip.encoders.clip_towers import OPENAI_MEAN, OPENAI_STD
from regionclip.encoders.eva import EVA_SPECS, EvaClipSpec
from regionclip.encoders.vit import VIT_SPECS, ClipVitSpec
from regionclip.proposals.rpn import RpnSelection

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""RGB statistics of images in [0, 1]; F-ViT feeds its CLIP with these and not with CLIP's own
(123.675, 116.28, 103.53 and 58.395, 57.12, 57.375 of 255)."""

TOWERS = ("resnet", "vit", "eva")
"""Settings of :class:`FvitConfig` that name the frozen CLIP, of which one is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FvitConfig:
    """One detector on a frozen CLIP; numbers follow CLIPSelf's F-ViT and CLIM's F-VLM."""

    resnet: ClipResNetSpec | None = None
    """The frozen CLIP, if it is one with a ModifiedResNet."""
    vit: ClipVitSpec | None = None
    """The frozen CLIP, if it is one with OpenAI's vision transformer."""
    eva: EvaClipSpec | None = None
    """The frozen CLIP, if it is one with an EVA-02 transformer."""
    token_blocks: tuple[int, ...] = (3, 5, 7, 11)
    """Blocks of a ViT, counted from 0, whose tokens the pyramid is made of; four."""
    channels: int = 256
    """Of the pyramid's levels."""
    neck: Literal["fpn", "nas-fpn"] = "fpn"
    """The pyramid: the plain one, or NAS-FPN's, as CLIM's detector on LVIS with ViT-B/16 has it."""
    neck_passes: int = 7
    """How often NAS-FPN merges all levels; of no account to the plain pyramid."""
    head_width: int = 512
    """Of the box head's layers; without ``projection`` that of the texts."""
    projection: bool = False
    """A layer from the box head to the width of the texts: F-VLM's. F-ViT compares its last
    hidden layer, after ReLU, with texts."""
    background: Literal["text", "learned"] = "text"
    """The row that stands for no class: the word ``background`` in the prompts, or learned."""
    rpn_norm: bool = False
    """Batch norms in the proposal head, as in F-ViT's LVIS detectors."""
    mask_head: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    detector_scale: float | None = None
    """What the box head's cosines are multiplied by at test time; ``None``: what it learned."""
    clip_scale: float = 75.0
    """What the frozen CLIP's cosines are multiplied by."""
    base_exponent: float = 0.1
    """The frozen CLIP's share in scores of base classes and background (alpha)."""
    novel_exponent: float = 0.8
    """Its share in scores of all other classes (beta)."""
    base_classes: str = "coco48"
    """Built-in list of the classes that it was trained on boxes of; empty for none."""
    own_base_classes: tuple[str, ...] = ()
    """These classes themselves, where no built-in list has them."""
    class_names: str = ""
    """Built-in list of the classes that the model carries vectors of; empty for none."""
    own_class_names: tuple[str, ...] = ()
    """These classes themselves, where no built-in list has them."""
    num_classes: int = 0
    """How many they are."""
    templates: str = "vild63"
    """Built-in prompts that class names are put into; each counts the same."""
    image_size: int = 640
    """Pixels of the resized image's longer side, and of the square it is padded to."""
    proposals: RpnSelection = field(
        default_factory=lambda: RpnSelection(pre_nms_topk=2000, post_nms_topk=1000)
    )
    selection: SelectionOptions = field(
        default_factory=lambda: SelectionOptions(min_score=0.01, nms_iou=0.4)
    )
    """Thresholds, NMS and the number kept."""

    def __post_init__(self) -> None:
        given = [name for name in TOWERS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"one CLIP is frozen, got {' and '.join(given)}")
        for name in ("channels", "neck_passes", "head_width", "image_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if len(self.token_blocks) != 4 or list(self.token_blocks) != sorted(set(self.token_blocks)):
            raise ValueError(
                f"token_blocks must be four numbers that rise, got {self.token_blocks}"
            )
        for name in ("base_exponent", "novel_exponent"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("clip_scale", "detector_scale"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        self._check_names()

    def _check_names(self) -> None:
        if self.base_classes and self.own_base_classes:
            raise ValueError(
                f"give base_classes or own_base_classes, not both ({self.base_classes!r})"
            )
        if self.class_names and self.own_class_names:
            raise ValueError(
                f"give class_names or own_class_names, not both ({self.class_names!r})"
            )
        if self.own_class_names and len(self.own_class_names) != self.num_classes:
            raise ValueError(
                f"own_class_names are {len(self.own_class_names)}, num_classes {self.num_classes}"
            )


Benchmark = Literal["coco", "voc", "objects365"]
TRANSFER_EXPONENTS: dict[Benchmark, float] = {"coco": 0.2, "voc": 0.3, "objects365": 0.3}
"""The frozen CLIP's share in the scores of all classes alike, of a detector that was trained on
LVIS; CLIPSelf (arXiv:2310.01403), sec. 4.3."""


def transfer_config(config: FvitConfig, benchmark: Benchmark) -> FvitConfig:
    """What a detector does on another benchmark than it was trained for, with boxes alone.

    Both temperatures are fixed, the box head's too, and no class is a base one.
    """
    exponent = TRANSFER_EXPONENTS[benchmark]
    return replace(
        config,
        detector_scale=50.0,
        clip_scale=120.0,
        base_exponent=exponent,
        novel_exponent=exponent,
        mask_head=False,
        class_names="",
        own_class_names=(),
        num_classes=0,
    )


LVIS_SELECTION = SelectionOptions(min_score=0.0001, max_detections=300)
FVIT_COCO = FvitConfig(class_names="coco65", num_classes=65)
"""F-ViT on OV-COCO, but for the CLIP."""
FVIT_LVIS = FvitConfig(
    rpn_norm=True,
    mask_head=True,
    clip_scale=50.0,
    novel_exponent=0.6,
    base_classes="lvis866",
    class_names="lvis1203",
    num_classes=1203,
    image_size=1024,
    selection=LVIS_SELECTION,
)
"""F-ViT on OV-LVIS."""
FVLM_COCO = FvitConfig(
    projection=True,
    background="learned",
    head_width=1024,
    mean=OPENAI_MEAN,
    std=OPENAI_STD,
    class_names="coco80",
    num_classes=80,
)
"""CLIM's F-VLM on OV-COCO; it has vectors of all 80 classes."""
FVLM_LVIS = replace(
    FVLM_COCO,
    mask_head=True,
    clip_scale=50.0,
    base_exponent=0.35,
    novel_exponent=0.65,
    base_classes="lvis866",
    class_names="lvis1203",
    num_classes=1203,
    selection=LVIS_SELECTION,
)
"""CLIM's F-VLM on OV-LVIS."""
GELU_VIT = replace(VIT_SPECS["ViT-B-16"], quick_gelu=False)
"""The tower of CLIM's detectors, which run it with GELU though it was trained with QuickGELU."""


def enlarged(config: FvitConfig) -> FvitConfig:
    """An F-ViT on a tower of 24 blocks, as EVA-02 L/14 has them."""
    is_lvis = config.base_classes == FVIT_LVIS.base_classes
    return replace(
        config,
        token_blocks=(6, 10, 14, 23),
        head_width=768,
        image_size=896,
        novel_exponent=0.4 if is_lvis else config.novel_exponent,
    )


_B_16, _L_14 = EVA_SPECS["EVA02-B-16"], EVA_SPECS["EVA02-L-14-336"]
VARIANTS = {
    "fvit-ov-coco-vitb16": replace(FVIT_COCO, eva=_B_16),
    "fvit-ov-coco-vitl14": replace(enlarged(FVIT_COCO), eva=_L_14),
    "fvit-ov-lvis-vitb16": replace(FVIT_LVIS, eva=_B_16),
    "fvit-ov-lvis-vitl14": replace(enlarged(FVIT_LVIS), eva=_L_14),
    "fvlm-ov-coco-vitb16": replace(FVLM_COCO, vit=GELU_VIT),
    "fvlm-ov-lvis-rn50x64": replace(FVLM_LVIS, resnet=SPECS["RN50x64"], image_size=1024),
}
"""The published detectors. The original's file of the last, on a ResNet, is not read: no list of
its tensors is at hand."""
