import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from regionclip.data.images import read_image
from regionclip.data.transforms import resize_shortest_edge
from regionclip.proposals.onnx_detector import OnnxDetector, OnnxDetectorConfig
from regionclip.proposals.onnx_outputs import cell_positions, output_reader
from regionclip.proposals.proposer import Proposer
from regionclip.structures import PreparedImage

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"
YOLOX = SHARED_DATA / "weights" / "yolox_nano.onnx"
COCO = SHARED_DATA / "coco_clean"


class FakeSession:
    """A detector that notes its input and answers with fixed arrays."""

    def __init__(
        self,
        *outputs: np.ndarray,
        shape: tuple[Any, ...] = (1, 3, 64, 64),
        dtype: str = "tensor(float)",
        notes: dict[str, str] | None = None,
    ) -> None:
        self.outputs = outputs
        self.inputs = [SimpleNamespace(name="images", shape=shape, type=dtype)]
        self.notes = notes or {}
        self.seen = np.zeros(0)

    def get_inputs(self) -> list[Any]:
        return self.inputs

    def get_modelmeta(self) -> Any:
        return SimpleNamespace(custom_metadata_map=self.notes)

    def run(self, output_names: None, input_feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        (self.seen,) = input_feed.values()
        return [output.copy() for output in self.outputs]


def image(height: int, width: int, rgb: tuple[float, float, float] = (0.2, 0.4, 1.0)) -> Any:
    pixels = torch.tensor(rgb)[:, None, None].expand(3, height, width).contiguous()
    return PreparedImage(pixels, (height, width), "a.jpg")


def float32(rows: Any) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


BOXES = float32([[0, 0, 32, 32], [0, 0, 32, 31], [32, 32, 64, 64], [5, 5, 5, 9]])
OBJECTNESS = float32([0.5, 0.9, 0.25, 1.0])


def detector(session: FakeSession, **options: Any) -> OnnxDetector:
    return OnnxDetector(session, OnnxDetectorConfig(**options), source="mine.onnx")


def test_boxes_come_best_first_after_nms_in_pixels_of_the_image() -> None:
    proposer = detector(FakeSession(BOXES, OBJECTNESS))
    assert isinstance(proposer, Proposer)
    (proposals,) = proposer.propose([image(128, 96)])
    # 128x96 shrinks by 2 to 64x48; the third box reaches into the padding and is cut
    assert proposals.boxes.tolist() == [[0, 0, 64, 62], [64, 64, 96, 128]]
    assert proposals.objectness is not None
    torch.testing.assert_close(proposals.objectness.sigmoid(), torch.tensor([0.9, 0.25]))


def test_only_the_best_are_kept() -> None:
    (proposals,) = detector(FakeSession(BOXES, OBJECTNESS), top_k=1).propose([image(64, 64)])
    assert proposals.boxes.tolist() == [[0, 0, 32, 31]]


def test_a_detector_that_finds_nothing_gives_zero_rows() -> None:
    session = FakeSession(np.zeros((1, 0, 4), np.float32), np.zeros((1, 0), np.float32))
    (proposals,) = detector(session).propose([image(64, 64)])
    assert proposals.boxes.shape == (0, 4)
    assert detector(session).propose([]) == []


def test_the_input_is_letterboxed_bgr_of_0_to_255_for_yolox() -> None:
    session = FakeSession(BOXES, OBJECTNESS)
    detector(session).propose([image(128, 96)])
    assert session.seen.shape == (1, 3, 64, 64)
    assert session.seen.dtype == np.float32
    np.testing.assert_allclose(session.seen[0, :, 63, 47], [255, 102, 51], rtol=1e-5)
    np.testing.assert_allclose(session.seen[0, :, 0, 48], [114, 114, 114], rtol=1e-5)


def test_rgb_of_0_to_1_goes_to_a_channels_last_float16_input() -> None:
    session = FakeSession(BOXES, OBJECTNESS, shape=("b", 64, 64, 3), dtype="tensor(float16)")
    detector(session, channel_order="rgb", std=(1.0, 1.0, 1.0)).propose([image(64, 64)])
    assert session.seen.dtype == np.float16
    np.testing.assert_allclose(session.seen[0, 9, 9], [0.2, 0.4, 1.0], rtol=1e-3)


def test_a_uint8_input_gets_rounded_pixels() -> None:
    session = FakeSession(BOXES, OBJECTNESS, dtype="tensor(uint8)")
    detector(session).propose([image(64, 64, (0.999, 0.0, 0.503))])
    assert session.seen.dtype == np.uint8
    assert session.seen[0, :, 0, 0].tolist() == [128, 0, 255]


def test_an_open_input_size_comes_from_the_file_or_the_config() -> None:
    open_shape = (1, 3, "height", "width")
    noted = FakeSession(BOXES, OBJECTNESS, shape=open_shape, notes={"imgsz": "[96, 128]"})
    assert detector(noted).input_size_hw == (96, 128)
    plain = FakeSession(BOXES, OBJECTNESS, shape=open_shape)
    assert detector(plain, input_size_hw=(32, 64)).input_size_hw == (32, 64)
    with pytest.raises(ValueError, match=r"mine.onnx leaves the size .* open; set OnnxDetectorC"):
        detector(plain)
    with pytest.raises(ValueError, match=r"takes images of height and width \(64, 64\) only"):
        detector(FakeSession(BOXES, OBJECTNESS), input_size_hw=(32, 64))


def test_undecoded_cells_are_decoded_by_their_strides() -> None:
    # 64x64: 64 cells of 8 pixels, 16 of 16, 4 of 32; the last is the lower right of 32
    cells = np.zeros((1, 84, 6), np.float32)
    cells[0, 9, :5] = 0.5, 0.5, 0.0, np.log(2), 0.75
    cells[0, 83, :5] = 0.5, 0.5, -np.log(2), 0.0, 0.5
    boxes, objectness = output_reader([cells], (64, 64), "mine.onnx")([cells])
    torch.testing.assert_close(boxes[9], torch.tensor([8.0, 4, 16, 20]))
    torch.testing.assert_close(boxes[83], torch.tensor([40.0, 32, 56, 64]))
    assert objectness[[9, 83]].tolist() == [0.75, 0.5]


def test_decoded_cells_are_taken_as_they_are() -> None:
    positions, strides = cell_positions((64, 64))
    cells = torch.zeros(1, 84, 6)
    cells[0, :, :2], cells[0, :, 2:4] = (positions + 0.5) * strides, strides
    boxes, _ = output_reader([cells.numpy()], (64, 64), "mine.onnx")([cells.numpy()])
    torch.testing.assert_close(boxes[83], torch.tensor([32.0, 32, 64, 64]))


def test_without_objectness_the_best_class_stands_for_it() -> None:
    cells = np.zeros((1, 6, 21), np.float32)
    cells[0, :, 3] = 10, 20, 4, 8, 0.25, 0.75
    boxes, objectness = output_reader([cells], (32, 32), "mine.onnx")([cells])
    assert boxes[3].tolist() == [8, 16, 12, 24]
    assert objectness[3] == 0.75


def test_two_outputs_are_told_apart_in_any_order_and_labels_are_ignored() -> None:
    labels = np.zeros(4, np.int64)
    for outputs in ([BOXES, labels, OBJECTNESS], [OBJECTNESS[None, :, None], BOXES[None]]):
        boxes, objectness = output_reader(outputs, (64, 64), "mine.onnx")(outputs)
        assert boxes.tolist() == BOXES.tolist()
        assert objectness.tolist() == OBJECTNESS.tolist()


@pytest.mark.parametrize(
    "outputs",
    [[], [np.zeros((1, 1000), np.float32)], [BOXES, OBJECTNESS[:3]], [BOXES.astype(np.int64)]],
)
def test_unknown_outputs_are_refused_with_their_shapes(outputs: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"mine.onnx has outputs of shapes .*; expected"):
        detector(FakeSession(*outputs))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 3, 64), "tensor(float)"), ((4, 3, 64, 64), "tensor(float)"), ((1, 1, 64, 64), "tensor(f"),
     ((1, 3, 64, 64), "tensor(int64)")],
)  # fmt: skip
def test_unknown_inputs_are_refused(shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(ValueError, match=r"mine.onnx has the inputs images .*; expected one image"):
        detector(FakeSession(BOXES, OBJECTNESS, shape=shape, dtype=dtype))


def test_objectness_that_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mine.onnx gives objectness from -2 to 3 for a.jpg"):
        detector(FakeSession(BOXES[:2], float32([3, -2]))).propose([image(64, 64)])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"nms_iou": 0.0}, r"nms_iou must be in \(0, 1\], got 0.0"), ({"top_k": 0}, "top_k must be")],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnnxDetectorConfig(**options)


def test_a_missing_onnxruntime_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r'install it with pip install "regionclip\[onnx\]"'):
        OnnxDetector.from_file("mine.onnx")


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(FileNotFoundError, match=r"there is no ONNX model .*none.onnx"):
        OnnxDetector.from_file(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"broken.onnx cannot be read as an ONNX model"):
        OnnxDetector.from_file(tmp_path / "broken.onnx")


@pytest.mark.slow
@pytest.mark.skipif(not (YOLOX.exists() and COCO.exists()), reason=f"no {YOLOX} or no {COCO}")
def test_yolox_nano_finds_most_objects_of_real_photographs() -> None:
    pytest.importorskip("onnxruntime")
    proposer = OnnxDetector.from_file(YOLOX)
    assert proposer.input_size_hw == (416, 416)
    content = json.loads((COCO / "instances_val.json").read_bytes())
    num_found = num_objects = 0
    for entry in content["images"]:
        rows = [
            [x, y, x + width, y + height]
            for x, y, width, height in (
                annotation["bbox"]
                for annotation in content["annotations"]
                if annotation["image_id"] == entry["id"] and not annotation["iscrowd"]
            )
        ]
        picture = read_image(COCO / "val" / entry["file_name"])
        pixels = resize_shortest_edge(picture, shortest=800, longest=1333)
        prepared = PreparedImage(pixels, (picture.height, picture.width), entry["file_name"])
        (proposals,) = proposer.propose([prepared])
        assert len(proposals) <= 100
        if rows:
            iou = box_iou(torch.tensor(rows), proposals.boxes * prepared.scale_xyxy)
            num_found += int((iou.amax(dim=1) >= 0.5).sum())
            num_objects += len(rows)
    # data/README.md: recall 0.71 of the top 100 at IoU 0.5
    assert num_objects > 700
    assert num_found / num_objects == pytest.approx(0.72, abs=0.02)
