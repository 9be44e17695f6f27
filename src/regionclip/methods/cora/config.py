"""What a CORA detector is made of, and how it selects its detections."""

from dataclasses import dataclass, field, replace
from typing import Literal

from regionclip.detections.select import SelectionOptions
from regionclip.encoders.clip_resnet import SPECS, ClipResNetSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class CoraConfig:
    """One detector; numbers follow tgxs002/CORA@c334a6d ``configs/COCO/``."""

    encoder: ClipResNetSpec = SPECS["RN50"]
    num_queries: int = 1000
    """Learned anchors, each of which becomes one box; upstream ``--num_queries``."""
    width: int = 256
    """Channels of the localiser; upstream ``--hidden_dim``."""
    heads: int = 8
    """Attention heads; upstream ``--nheads``."""
    feedforward: int = 1024
    """Channels inside feed-forward layers; upstream ``--dim_feedforward``."""
    encoder_layers: int = 3
    """Upstream ``--enc_layers``."""
    decoder_layers: int = 6
    """Upstream ``--dec_layers``."""
    dropout: float = 0.1
    """While training; upstream ``--dropout``."""
    query_content: Literal["class", "none"] = "class"
    """What a query is told of its class: the embedding, or nothing, to see what that is worth;
    classes then only say which objects it is paired with. ``none`` is upstream's decoder without
    ``--condition_on_text``."""
    text_bottleneck: int = 128
    """Channels between class embedding and query; upstream ``--condition_bottleneck``."""
    text_length: int = 15
    """Tokens of a prompt, start and end included; upstream ``--text_len``."""
    templates: str = "openai80"
    """Built-in prompts that class names are put into."""
    temperature: float = 0.01
    """Divides cosine similarities; upstream ``--eval_tau`` 100, and 100 in pre-matching."""
    base_classes: str = ""
    """Built-in list of the classes that the localiser was trained on boxes of; empty for none."""
    own_base_classes: tuple[str, ...] = ()
    """These classes themselves, where no built-in list has them."""
    pseudo_classes: tuple[str, ...] = ()
    """Classes that it was trained on a model's boxes of, and on none of people's, as CORA+ is:
    novel ones all the same, which pre-matching favours."""
    novel_factor: float = 8.0
    """Pre-matching favours classes that are not base ones by this; upstream
    ``--target_class_factor``."""
    shortest_side: int = 800
    """Pixels of the resized image's shorter side, at test time."""
    longest_side: int = 1333
    """Most pixels of its longer side."""
    selection: SelectionOptions = field(
        default_factory=lambda: SelectionOptions(min_score=0.001, nms_boxes="whole")
    )
    """Thresholds, NMS and the number kept."""

    def __post_init__(self) -> None:
        if self.num_queries < 1:
            raise ValueError(f"num_queries must be at least 1, got {self.num_queries}")
        if min(self.encoder_layers, self.decoder_layers) < 1:
            raise ValueError(
                "encoder_layers and decoder_layers must be at least 1, got "
                f"{self.encoder_layers} and {self.decoder_layers}"
            )
        if self.width % (4 * self.heads):
            raise ValueError(
                f"width must be a multiple of 4 * heads = {4 * self.heads}, got {self.width}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        self.encoder.check_text_length(self.text_length)
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if not self.novel_factor > 0:
            raise ValueError(f"novel_factor must be positive, got {self.novel_factor}")
        if not 0 < self.shortest_side <= self.longest_side:
            raise ValueError(
                f"shortest_side must be in (0, longest_side = {self.longest_side}], "
                f"got {self.shortest_side}"
            )
        if self.base_classes and self.own_base_classes:
            raise ValueError(
                f"give base_classes or own_base_classes, not both ({self.base_classes!r})"
            )
        both = sorted(set(self.pseudo_classes) & set(self.own_base_classes))
        if both:
            raise ValueError(
                f"pseudo_classes are those that people gave no boxes of, and {both[0]!r} is among "
                "own_base_classes too"
            )


_COCO = CoraConfig(base_classes="coco48")
_LVIS = CoraConfig(
    base_classes="lvis866",
    selection=SelectionOptions(min_score=0.001, nms_boxes="whole", max_detections=300),
)
VARIANTS = {
    f"{task}-{size.lower()}": replace(config, encoder=SPECS[size])
    for task, config in (("ov-coco", _COCO), ("ov-lvis", _LVIS))
    for size in ("RN50", "RN50x4")
}
"""The detectors of the paper's tables; the COCO ones were released."""
