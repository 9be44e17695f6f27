import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from regionclip.data.datasets import Dataset
from regionclip.detections.run_lengths import encode_masks
from regionclip.evaluation.coco import evaluate_coco
from regionclip.evaluation.result_files import read_detection_file

from .made import BOX, ELSEWHERE, dataset, random_world

DATA = dataset([[("cat", BOX)], [("cow", ELSEWHERE)], []])
"""Images 100, 101, 102 of 0.png, 1.png, 2.png; categories 10, 20, 30."""
ROW = {"image_id": 100, "category_id": 10, "bbox": [10.0, 10.0, 20.0, 20.0], "score": 0.9}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def evaluated(path: Path, data: Dataset = DATA, **options: Any) -> dict[str, float]:
    file = read_detection_file(path, data, **options)
    return dict(evaluate_coco(data, map(file.of, data)).metrics)


def test_results_of_coco_are_known_by_their_ids(tmp_path: Path) -> None:
    data, detections = random_world(0)
    ids = [each.id for each in data.categories]
    rows = [
        row
        for sample, own in zip(data, detections, strict=True)
        for row in own.to_coco(sample.image_id, ids)
    ]
    path = write(tmp_path / "results.json", rows)
    expected = evaluate_coco(data, detections).metrics
    assert evaluated(path, data) == pytest.approx(dict(expected), nan_ok=True, abs=1e-9)


def test_a_data_set_with_scores_is_known_by_file_names_and_class_names(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "photos/1.png"}, {"id": 2, "file_name": "0.png"}],
        "categories": [
            {"id": 1, "name": "cow"},
            {"id": 2, "name": "dog"},
            {"id": 3, "name": "Cat"},
        ],
        "annotations": [
            {**ROW, "image_id": 2, "category_id": 3},
            {**ROW, "image_id": 1, "category_id": 1, "bbox": [60, 60, 30, 30]},
        ],
    }
    path = write(tmp_path / "detections.json", content)
    assert evaluated(path)["ap"] == 1.0
    file = read_detection_file(path, DATA)
    assert file.class_names == ("cow", "dog", "cat")
    assert file.notes == (f"{path} has no detection in 1 of 3 images.",)


def table(path: Path, **columns: list[Any]) -> Path:
    content = {
        "image": ["0.png", "somewhere/1.png"],
        "x0": [10.0, 60.0],
        "y0": [10.0, 60.0],
        "x1": [30.0, 90.0],
        "y1": [30.0, 90.0],
        "score": [0.5, 0.4],
        "name": ["cat", "cow"],
    }
    parquet.write_table(pa.table(content | columns), path)
    return path


def test_tables_are_known_by_file_names_and_class_names(tmp_path: Path) -> None:
    assert evaluated(table(tmp_path / "detections.parquet"))["ap"] == 1.0


def test_synonyms_are_the_names_of_the_data(tmp_path: Path) -> None:
    path = table(tmp_path / "detections.parquet", name=["kitten", "cow"])
    assert evaluated(path, synonyms={"cat": "kitten"})["ap"] == 1.0
    with pytest.raises(ValueError, match="have a class 'kitten', which is none of the 3 classes"):
        evaluated(path)


def test_other_classes_can_be_left_out(tmp_path: Path) -> None:
    path = table(tmp_path / "detections.parquet", name=["cat", "tram"])
    assert evaluated(path, other_names="drop")["ap"] == 0.5
    notes = read_detection_file(path, DATA, other_names="drop").notes
    assert notes[0] == f"1 detections of {path} are of other classes, and left out."
    results = write(tmp_path / "results.json", [ROW, {**ROW, "category_id": 99}])
    assert evaluated(results, other_names="drop")["ap"] == 0.5
    with pytest.raises(ValueError, match="entry 1 has category 99, which the data set does not"):
        evaluated(results)


def test_a_vocabulary_without_a_class_of_the_data_is_refused(tmp_path: Path) -> None:
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    path = write(tmp_path / "detections.json", content)
    with pytest.raises(ValueError, match="were not asked for 'dog'"):
        evaluated(path)


def test_masks_are_decoded_where_they_are_asked_for(tmp_path: Path) -> None:
    mask = torch.zeros(100, 100, dtype=torch.bool)
    mask[10:30, 10:30] = True
    segmentation = {"size": [100, 100], "counts": encode_masks(mask[None])[0]}
    path = write(tmp_path / "results.json", [{**ROW, "segmentation": segmentation}])
    file = read_detection_file(path, DATA)
    assert file.of(DATA[0]).masks is None
    masks = file.of(DATA[0], with_masks=True).masks
    assert masks is not None
    assert torch.equal(masks[0], mask)
    without = read_detection_file(write(tmp_path / "boxes.json", [ROW]), DATA)
    with pytest.raises(ValueError, match=r"a detection of 0\.png has no mask"):
        without.of(DATA[0], with_masks=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([{**ROW, "image_id": 7}], "entry 0 is of image 7, which the data set does not have"),
        ([{**ROW, "bbox": [1, 2, 3]}], "entry 0 lacks image_id, category_id, score, or a bbox"),
        ([{**ROW, "bbox": [1, 2, -3, 4]}], "entry 0 has a box that ends before it starts"),
        ([{**ROW, "score": "high"}], "entry 0 has a box or a score that is no finite number"),
        ([{**ROW, "score": float("nan")}], "entry 0 has a box or a score that is no finite number"),
        ([3], "entry 0 lacks image_id"),
        ({"images": []}, "is neither COCO results"),
        (
            {"images": [{"id": 1, "file_name": "x.jpg"}], "categories": [], "annotations": []},
            r"has detections of x\.jpg, and made\.json has no image of that name",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    tmp_path: Path, content: Any, reason: str
) -> None:
    path = write(tmp_path / "results.json", content)
    with pytest.raises(ValueError, match=reason):
        read_detection_file(path, DATA)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.json cannot be read: No such file"):
        read_detection_file(tmp_path / "nothing.json", DATA)
    (tmp_path / "text.json").write_text("detections")
    with pytest.raises(ValueError, match=r"text\.json is neither json nor Parquet"):
        read_detection_file(tmp_path / "text.json", DATA)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(ValueError, match=r"cut\.parquet is no Parquet file, or damaged"):
        read_detection_file(tmp_path / "cut.parquet", DATA)
    parquet.write_table(pa.table({"image": ["0.png"]}), tmp_path / "short.parquet")
    with pytest.raises(ValueError, match=r"short\.parquet has no column x0, y0"):
        read_detection_file(tmp_path / "short.parquet", DATA)


def test_images_of_one_name_are_not_guessed(tmp_path: Path) -> None:
    twice = replace(
        DATA, samples=tuple(replace(each, name=f"{each.image_id}/a.png") for each in DATA)
    )
    path = table(tmp_path / "detections.parquet", image=["a.png", "a.png"])
    with pytest.raises(ValueError, match=r"made\.json has 3 images of that name"):
        read_detection_file(path, twice)
