"""Any ONNX detector as a source of boxes and objectness; its class names are not used."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import nms

from regionclip.detections.box_coder import clip_boxes, nonempty
from regionclip.structures import PreparedImage, Proposals

from .onnx_outputs import OutputReader, output_reader

PROBABILITY_MARGIN = 1e-6
"""Objectness of 0 and 1 is moved this far inside, so that its logit is finite."""
INPUT_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxDetectorConfig:
    """What an ONNX file does not say about its detector; defaults are YOLOX's.

    Source:
        Megvii-BaseDetection/YOLOX@05b20c8 ``yolox/data/data_augment.py`` (``preproc``) and
        @01c3c59 ``yolox/exp/yolox_base.py`` (``nmsthre``).
    """

    channel_order: Literal["rgb", "bgr"] = "bgr"
    """``rgb`` for Ultralytics' and torchvision's exports."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """RGB of images in [0, 1]."""
    std: tuple[float, float, float] = (1 / 255, 1 / 255, 1 / 255)
    """RGB of images in [0, 1]; 1/255 makes pixels of 0 to 255, 1 leaves them in [0, 1]."""
    padding: float = 114 / 255
    """Grey right of and below the resized image, in [0, 1]."""
    input_size_hw: tuple[int, int] | None = None
    """Needed only for files that leave their input's size open and do not note it either."""
    nms_iou: float = 0.65
    """IoU above which the less certain of two boxes is dropped, whatever their classes."""
    top_k: int = 100
    """Proposals kept per image."""

    def __post_init__(self) -> None:
        if not 0 < self.nms_iou <= 1:
            raise ValueError(f"nms_iou must be in (0, 1], got {self.nms_iou}")
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")


@runtime_checkable
class NamedValue(Protocol):
    """An input or output of an ONNX model; open sizes are names or ``None``."""

    name: str
    shape: Sequence[Any]
    type: str


@runtime_checkable
class Session(Protocol):
    """What is used of ``onnxruntime.InferenceSession``."""

    def get_inputs(self) -> Sequence[Any]:
        """The model's inputs as :class:`NamedValue`."""
        ...

    def get_modelmeta(self) -> Any:
        """Notes of the exporter, under ``custom_metadata_map``."""
        ...

    def run(self, output_names: None, input_feed: Mapping[str, np.ndarray]) -> Sequence[Any]:
        """All outputs, as arrays."""
        ...


class OnnxDetector:
    """A proposer that runs an ONNX detector on the CPU or wherever its session runs.

    Images are resized to the detector's input with their aspect kept, and padded right and below.
    What the outputs mean is read from their shapes and from one run on a grey image; see
    :mod:`~regionclip.proposals.onnx_outputs` for the forms that are known.

    Attributes:
        config: Preprocessing and selection.
        source: How errors call the model.
        input_size_hw: Height and width in pixels of the detector's input.
    """

    def __init__(self, session: Session, config: OnnxDetectorConfig, *, source: str) -> None:
        """Take a session as it is; :meth:`from_file` makes one.

        Raises:
            ValueError: The model's input is not one image or its outputs are of no known form.
        """
        self.config = config
        self.source = source
        self._session = session
        image_input = _image_input(session, source)
        self._input_name = image_input.name
        self._input_dtype = INPUT_TYPES[image_input.type]
        self._channels_last = image_input.shape[3] == 3 and image_input.shape[1] != 3
        size = image_input.shape[1:3] if self._channels_last else image_input.shape[2:]
        self.input_size_hw = _input_size_hw(size, session, config, source)
        height, width = self.input_size_hw
        outputs = self._run(torch.full((3, height, width), config.padding))
        self._read: OutputReader = output_reader(outputs, self.input_size_hw, source)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        config: OnnxDetectorConfig | None = None,
        *,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> "OnnxDetector":
        """Read a model from a file.

        Args:
            path: An ``.onnx`` file.
            config: Preprocessing and selection; YOLOX's by default.
            providers: onnxruntime's execution providers, most wanted first.

        Raises:
            ImportError: onnxruntime is not installed.
            FileNotFoundError: There is no such file.
            ValueError: Not an ONNX model, or not a detector of a known form.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "reading an ONNX detector needs onnxruntime; install it with "
                'pip install "regionclip[onnx]"'
            ) from error
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no ONNX model {path}")
        try:
            session = onnxruntime.InferenceSession(path, providers=list(providers))
        except Exception as error:  # onnxruntime's errors have no base class of their own
            raise ValueError(f"{path} cannot be read as an ONNX model: {error}") from error
        return cls(session, config or OnnxDetectorConfig(), source=str(path))

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """The most certain boxes of each image; images go through one by one.

        Raises:
            ValueError: The model's objectness is no probability.
        """
        return [self._propose(image) for image in images]

    def _propose(self, image: PreparedImage) -> Proposals:
        height, width = image.size_hw
        factor = min(self.input_size_hw[0] / height, self.input_size_hw[1] / width)
        inner_hw = max(1, int(height * factor)), max(1, int(width * factor))
        boxes, objectness = self._read(self._run(self._letterbox(image.pixels.cpu(), inner_hw)))
        if len(objectness) and not (objectness.min() >= 0 and objectness.max() <= 1):
            raise ValueError(
                f"{self.source} gives objectness from {objectness.min():.3g} to "
                f"{objectness.max():.3g} for {image.name}; expected probabilities in [0, 1]"
            )
        scale_y, scale_x = height / inner_hw[0], width / inner_hw[1]
        boxes = boxes * boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])
        boxes = clip_boxes(boxes, image.size_hw)
        is_kept = nonempty(boxes)
        boxes, objectness = boxes[is_kept], objectness[is_kept]
        kept = nms(boxes, objectness, self.config.nms_iou)[: self.config.top_k]
        return Proposals(boxes[kept], torch.logit(objectness[kept], eps=PROBABILITY_MARGIN))

    def _letterbox(
        self, pixels: Float[Tensor, "3 H W"], inner_hw: tuple[int, int]
    ) -> Float[Tensor, "3 h w"]:
        """Resize to ``inner_hw`` and pad to the detector's input."""
        resized = F.interpolate(pixels[None], inner_hw, mode="bilinear", antialias=True)[0]
        pad_y, pad_x = (
            whole - inner for whole, inner in zip(self.input_size_hw, inner_hw, strict=True)
        )
        return F.pad(resized, (0, pad_x, 0, pad_y), value=self.config.padding)

    def _run(self, pixels: Float[Tensor, "3 h w"]) -> list[np.ndarray]:
        """Outputs for RGB in [0, 1] at the detector's size."""
        mean, std = (
            pixels.new_tensor(x)[:, None, None] for x in (self.config.mean, self.config.std)
        )
        values = (pixels - mean) / std
        if self.config.channel_order == "bgr":
            values = values.flip(0)
        if self._channels_last:
            values = values.permute(1, 2, 0)
        if self._input_dtype == np.uint8:
            values = values.round().clamp(0, 255)
        batch = values[None].contiguous().numpy().astype(self._input_dtype)
        return list(self._session.run(None, {self._input_name: batch}))


def _image_input(session: Session, source: str) -> NamedValue:
    """The model's only input, if one RGB image can go in."""
    inputs = list(session.get_inputs())
    described = ", ".join(f"{x.name} {list(x.shape)} {x.type}" for x in inputs)
    is_image = (
        len(inputs) == 1
        and len(inputs[0].shape) == 4
        and inputs[0].type in INPUT_TYPES
        and 3 in (inputs[0].shape[1], inputs[0].shape[3])
        and (inputs[0].shape[0] == 1 or not isinstance(inputs[0].shape[0], int))
    )
    if not is_image:
        raise ValueError(
            f"{source} has the inputs {described}; expected one image batch, (1, 3, H, W) or "
            f"(1, H, W, 3), of a type among {', '.join(INPUT_TYPES)}"
        )
    return inputs[0]


def _input_size_hw(
    size: Sequence[Any], session: Session, config: OnnxDetectorConfig, source: str
) -> tuple[int, int]:
    """Height and width from the input's shape, else the file's notes, else the config."""
    if all(isinstance(side, int) for side in size):
        if config.input_size_hw not in (None, tuple(size)):
            raise ValueError(
                f"{source} takes images of height and width {tuple(size)} only, but "
                f"input_size_hw is {config.input_size_hw}; leave it out"
            )
        return size[0], size[1]
    if config.input_size_hw is not None:
        return config.input_size_hw
    # Ultralytics notes the size it exported for, as "[640, 640]"
    noted = re.findall(r"\d+", session.get_modelmeta().custom_metadata_map.get("imgsz", ""))
    if len(noted) != 2:
        raise ValueError(
            f"{source} leaves the size of its input open; set OnnxDetectorConfig.input_size_hw"
        )
    return int(noted[0]), int(noted[1])
