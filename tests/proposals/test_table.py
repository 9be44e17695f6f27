import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from regionclip.proposals.box_files import ImageBoxes
from regionclip.proposals.proposer import Proposer
from regionclip.proposals.table import BoxTable, read_box_table
from regionclip.structures import PreparedImage, Proposals

CSV_ROWS = """image,x0,y0,x1,y1,objectness
a.jpg,10,20,30,40,0.25
b.jpg,0,0,5,5,0.5
a.jpg,0,0,10,10,0.75
"""


def image(name: str) -> PreparedImage:
    """100x50 pixels in the original, twice that in the network."""
    return PreparedImage(torch.zeros(3, 100, 200), (50, 100), name)


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def proposals_of(table: BoxTable, name: str) -> Proposals:
    return table.propose([image(name)])[0]


def coco(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    images = [{"id": 7, "file_name": "val/a.jpg"}, {"id": 8, "file_name": "val/b.jpg"}]
    return {"images": images, "annotations": annotations, "categories": []}


def test_a_table_is_a_proposer(tmp_path: Path) -> None:
    table = read_box_table(written(tmp_path / "boxes.csv", CSV_ROWS))
    assert isinstance(table, Proposer)
    assert table.propose([]) == []


def test_csv_rows_come_best_first_in_pixels_of_the_prepared_image(tmp_path: Path) -> None:
    table = read_box_table(written(tmp_path / "boxes.csv", CSV_ROWS))
    proposals = proposals_of(table, "a.jpg")
    assert proposals.boxes.tolist() == [[0, 0, 20, 20], [20, 40, 60, 80]]
    assert proposals.objectness is not None
    torch.testing.assert_close(proposals.objectness.sigmoid(), torch.tensor([0.75, 0.25]))


def test_parquet_holds_the_same_as_csv_whatever_the_file_is_called(tmp_path: Path) -> None:
    columns = {
        "image": ["a.jpg", "b.jpg", "a.jpg"],
        "x0": [10, 0, 0],
        "y0": [20, 0, 0],
        "x1": [30, 5, 10],
        "y1": [40, 5, 10],
        "objectness": [0.25, 0.5, 0.75],
    }
    parquet.write_table(pa.table(columns), tmp_path / "boxes.csv")
    ours = read_box_table(tmp_path / "boxes.csv")
    expected = read_box_table(written(tmp_path / "boxes.txt", CSV_ROWS))
    for name in ("a.jpg", "b.jpg"):
        assert torch.equal(proposals_of(ours, name).boxes, proposals_of(expected, name).boxes)


def test_a_table_without_objectness_keeps_its_order(tmp_path: Path) -> None:
    text = "image,x0,y0,x1,y1\na.jpg,10,20,30,40\na.jpg,0,0,10,10\n"
    proposals = proposals_of(read_box_table(written(tmp_path / "boxes.csv", text)), "a.jpg")
    assert proposals.objectness is None
    assert proposals.boxes.tolist() == [[20, 40, 60, 80], [0, 0, 20, 20]]


def test_a_table_with_a_header_alone_is_empty(tmp_path: Path, caplog: Any) -> None:
    table = read_box_table(written(tmp_path / "boxes.csv", "image,x0,y0,x1,y1\n"))
    assert proposals_of(table, "a.jpg").boxes.shape == (0, 4)
    assert "lists no boxes for a.jpg: zero proposals" in caplog.text


def test_objectness_of_one_and_zero_stays_finite(tmp_path: Path) -> None:
    text = "image,x0,y0,x1,y1,objectness\na,0,0,9,9,1\na,0,0,8,8,0\n"
    proposals = proposals_of(read_box_table(written(tmp_path / "boxes.csv", text)), "a")
    assert proposals.objectness is not None
    assert proposals.objectness.isfinite().all()


def test_coco_annotations_become_corners_and_crowds_go(tmp_path: Path) -> None:
    annotations = [
        {"image_id": 7, "bbox": [10, 20, 20, 20], "iscrowd": 0},
        {"image_id": 7, "bbox": [0, 0, 50, 50], "iscrowd": 1},
    ]
    table = read_box_table(written(tmp_path / "instances.json", coco(annotations)))
    proposals = proposals_of(table, "/data/val/a.jpg")
    assert proposals.boxes.tolist() == [[20, 40, 60, 80]]
    assert proposals.objectness is None


def test_a_listed_image_without_boxes_is_no_surprise(tmp_path: Path, caplog: Any) -> None:
    table = read_box_table(written(tmp_path / "instances.json", coco([])))
    assert proposals_of(table, "val/b.jpg").boxes.shape == (0, 4)
    assert not caplog.records


def test_coco_results_find_their_image_by_its_number(tmp_path: Path) -> None:
    results = [
        {"image_id": 285, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.2},
        {"image_id": 285, "category_id": 2, "bbox": [0, 0, 6, 6], "score": 0.9},
        {"image_id": "street", "category_id": 2, "bbox": [0, 0, 7, 7], "score": 0.9},
    ]
    table = read_box_table(written(tmp_path / "results.json", results))
    assert proposals_of(table, "x/000000000285.jpg").boxes[:, 2].tolist() == [12, 10]
    assert proposals_of(table, "street.png").boxes[:, 2].tolist() == [14]


def test_coco_results_find_their_image_in_an_annotation_file(tmp_path: Path) -> None:
    results = [{"image_id": 8, "bbox": [0, 0, 5, 5], "score": 0.2}]
    table = read_box_table(
        written(tmp_path / "results.json", results),
        images=written(tmp_path / "instances.json", coco([])),
    )
    assert len(proposals_of(table, "b.jpg")) == 1
    assert len(proposals_of(table, "a.jpg")) == 0


def test_an_unknown_image_gets_no_proposals_and_a_warning(tmp_path: Path, caplog: Any) -> None:
    table = read_box_table(written(tmp_path / "boxes.csv", CSV_ROWS))
    with caplog.at_level(logging.WARNING):
        found = table.propose([image("c.jpg"), image("b.jpg")])
    assert [len(proposals) for proposals in found] == [0, 1]
    assert "boxes.csv lists no boxes for c.jpg: zero proposals" in caplog.text


def table_of(*names: str) -> BoxTable:
    boxes = {
        name: ImageBoxes(torch.tensor([[0.0, 0.0, 1.0 + row, 1.0]]), None)
        for row, name in enumerate(names)
    }
    return BoxTable(boxes, source="boxes.csv")


@pytest.mark.parametrize(
    ("name", "width"),
    [("train/1.jpg", 1), ("/data/val/1.jpg", 2), ("C:\\data\\val\\1.jpg", 2), ("/any/2.jpg", 3)],
)
def test_the_longest_common_end_of_the_paths_decides(name: str, width: int) -> None:
    proposals = proposals_of(table_of("train/1.jpg", "val/1.jpg", "a/2.jpg"), name)
    assert proposals.boxes[0, 2] == 2 * width


def test_an_ambiguous_name_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"may be 1.jpg \(such as train/1.jpg and val/1.jpg\); give the images"
    ):
        proposals_of(table_of("train/1.jpg", "val/1.jpg"), "1.jpg")


def test_boxes_are_cut_at_the_border_and_dropped_outside(caplog: Any) -> None:
    boxes = torch.tensor([[90.0, 0, 120, 60], [110, 0, 120, 9], [5, 5, 5, 9]])
    table = BoxTable({"a": ImageBoxes(boxes, torch.tensor([0.1, 0.9, 0.9]))}, source="boxes.csv")
    assert proposals_of(table, "a").boxes.tolist() == [[180, 0, 200, 100]]
    assert "boxes.csv: 2 boxes of a have no area inside the image" in caplog.text


WRONG_FILES = [
    ("image,x0,y0,x1\na,1,2,3\n", "has no column y1; expected image, x0, y0, x1, y1"),
    ("image,x0,y0,x1,y1\na,1,2,3,big\n", "column y1 must hold numbers"),
    ("image,x0,y0,x1,y1\na,1,2,3,4\na,1,2,,4\n", "the box of row 1 is not four finite numbers"),
    ("image,x0,y0,x1,y1\na,10,20,3,4\n", r"row 0 ends before it starts: .*\[10.0, 20.0, 3.0"),
    ("image,x0,y0,x1,y1,objectness\na,1,2,3,4,1.5\n", r"objectness 1.5 of row 0 is not in \[0, 1"),
    ("", "cannot be read as a table of boxes"),
    ("\x00\x01\x02", "cannot be read as a table of boxes|has no column"),
    ('{"images": [', "is not a valid json file"),
    ({"images": []}, "has no list of annotations; is it a COCO json"),
    ({"annotations": []}, "has no list of images; is it a COCO json"),
    ({"annotations": [], "images": [{"id": 1}]}, "has an image without id or file_name"),
    ([{"image_id": 1}], "entry 0 has no bbox or no image_id"),
    ([3], "entry 0 has no bbox or no image_id"),
    ([{"image_id": 1, "bbox": [1, 2, 3]}], "is not .x, y, width, height. in numbers"),
    ([{"image_id": 1, "bbox": ["x", 2, 3, 4]}], "image 1: a bbox is not"),
    ([{"image_id": 1, "bbox": [1, 2, -3, 4]}], "image 1: the box of row 0 ends before it starts"),
    ([{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1.2}], "image 1: objectness 1.2 of row 0"),
    (coco([{"image_id": 9, "bbox": [1, 2, 3, 4]}]), "is of image 9, which is not among the images"),
]


@pytest.mark.parametrize(("content", "message"), WRONG_FILES)
def test_a_wrong_file_is_refused_by_its_name(tmp_path: Path, content: Any, message: str) -> None:
    path = written(tmp_path / "wrong.file", content)
    with pytest.raises(ValueError, match=f"wrong.file.*({message})"):
        read_box_table(path)


def test_a_truncated_parquet_file_is_refused_by_its_name(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": ["a"]}), tmp_path / "cut.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut.parquet cannot be read as a table of boxes"):
        read_box_table(tmp_path / "cut.parquet")


def test_a_parquet_file_with_other_image_columns_is_refused(tmp_path: Path) -> None:
    corners = {name: [1.0] for name in ("x0", "y0", "x1", "y1")}
    parquet.write_table(pa.table({"image": [[1]], **corners}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet: column image must hold file names"):
        read_box_table(tmp_path / "a.parquet")
    parquet.write_table(
        pa.table({"image": pa.array([None], pa.string()), **corners}), tmp_path / "b"
    )
    with pytest.raises(ValueError, match="b has 1 rows without an image name"):
        read_box_table(tmp_path / "b")


def test_an_annotation_file_beside_a_table_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "boxes.csv", CSV_ROWS)
    with pytest.raises(ValueError, match=r"is a table, which names its images; leave out images="):
        read_box_table(path, images=path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.csv"):
        read_box_table(tmp_path / "none.csv")
