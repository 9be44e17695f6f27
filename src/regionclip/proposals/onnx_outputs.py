"""What the outputs of ONNX detectors mean: three forms, told apart by shape and one run.

- **cells with objectness** ``(1, N, 5 + C)``: ``cx, cy, w, h``, objectness, class probabilities
  (YOLOX, YOLOv5 to v7). YOLOX's offsets may still be undecoded, in units of their cells.
- **cells without objectness** ``(1, 4 + C, N)`` (Ultralytics' YOLOv8 and later): the highest class
  probability stands for the objectness.
- **boxes and objectness**, two outputs ``([1,] N, 4)`` and ``([1,] N [, 1])``: ``xyxy`` and one
  probability per box (torchvision's and many others' exports). Integer outputs are ignored.

Boxes are in pixels of the detector's input.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

OutputReader = Callable[[Sequence[np.ndarray]], tuple[Tensor, Tensor]]
"""Outputs to boxes ``xyxy`` ``(N, 4)`` and objectness ``(N,)``, in no order."""

CELL_STRIDES = (8, 16, 32)
"""Pixels per cell of YOLOX's maps; Megvii-BaseDetection/YOLOX@02aecba
``yolox/models/yolo_head.py``."""


def output_reader(
    outputs: Sequence[np.ndarray], input_size_hw: tuple[int, int], source: str
) -> OutputReader:
    """Choose the reader for a model.

    Args:
        outputs: For any image, best one without objects.
        input_size_hw: Of the model's input.
        source: How errors call the model.

    Raises:
        ValueError: The outputs are of no known form.
    """
    values = _float_outputs(outputs)
    if len(values) == 1 and values[0].ndim == 3 and values[0].shape[0] == 1:
        _, rows, columns = values[0].shape
        if rows > columns >= 5:
            return _cells_reader(values[0][0], input_size_hw)
        if columns > rows >= 5:
            return _read_cells_without_objectness
    elif len(values) == 2 and _split_boxes(values) is not None:
        return _read_boxes_and_objectness
    raise ValueError(
        f"{source} has outputs of shapes {[output.shape for output in outputs]}; expected "
        "(1, N, 5 + C), (1, 4 + C, N), or boxes (N, 4) and one objectness per box (N)"
    )


def cell_positions(input_size_hw: tuple[int, int]) -> tuple[Float[Tensor, "N 2"], Tensor]:
    """Column and row ``(x, y)`` of each cell, and its pixels ``(N, 1)``, finest map first.

    Source:
        Megvii-BaseDetection/YOLOX@02aecba ``yolox/models/yolo_head.py`` (``decode_outputs``).
    """
    positions, strides = [], []
    for stride in CELL_STRIDES:
        height, width = (side // stride for side in input_size_hw)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        positions.append(torch.stack([x, y], dim=-1).reshape(-1, 2).float())
        strides.append(torch.full((height * width, 1), float(stride)))
    return torch.cat(positions), torch.cat(strides)


def _cells_reader(cells: np.ndarray, input_size_hw: tuple[int, int]) -> OutputReader:
    """Decoded centres spread over the whole input; undecoded ones are a cell or two in size."""
    positions, strides = cell_positions(input_size_hw)
    is_decoded = np.median(np.abs(cells[:, :2])) > CELL_STRIDES[0]
    if is_decoded or len(cells) != len(positions):
        return _read_decoded_cells

    def read(outputs: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(_float_outputs(outputs)[0][0])
        centers = (rows[:, :2] + positions) * strides
        sides = rows[:, 2:4].exp() * strides
        return _corners(centers, sides), rows[:, 4]

    return read


def _read_decoded_cells(outputs: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    rows = torch.from_numpy(_float_outputs(outputs)[0][0])
    return _corners(rows[:, :2], rows[:, 2:4]), rows[:, 4]


def _read_cells_without_objectness(outputs: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    rows = torch.from_numpy(_float_outputs(outputs)[0][0]).T
    return _corners(rows[:, :2], rows[:, 2:4]), rows[:, 4:].amax(dim=1)


def _read_boxes_and_objectness(outputs: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    boxes, objectness = _split_boxes(_float_outputs(outputs)) or outputs
    return torch.from_numpy(boxes).reshape(-1, 4), torch.from_numpy(objectness).reshape(-1)


def _split_boxes(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Boxes and objectness of two outputs, whichever comes first."""
    for boxes, objectness in (values, values[::-1]):
        if boxes.ndim >= 2 and boxes.shape[-1] == 4 and boxes.size == 4 * objectness.size:
            return boxes, objectness
    return None


def _float_outputs(outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [
        output.astype(np.float32, copy=False)
        for output in outputs
        if np.issubdtype(output.dtype, np.floating)
    ]


def _corners(centers: Float[Tensor, "N 2"], sides: Float[Tensor, "N 2"]) -> Float[Tensor, "N 4"]:
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=1)
