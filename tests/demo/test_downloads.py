import json
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import parquet

from regionclip.data.icons import CLASS_NAMES
from regionclip.data.images import read_image
from regionclip.demo.actions import Found, Request, detect
from regionclip.demo.downloads import font_for, write_all, write_png
from regionclip.demo.pictures import Picture
from regionclip.detect import Detector


@pytest.fixture(scope="module")
def found(icons: Detector, scenes: list[Picture]) -> Found:
    return detect(icons, scenes[0], Request(names=CLASS_NAMES, min_score=0.9))


def test_the_three_files_hold_what_was_found(
    icons: Detector, scenes: list[Picture], found: Found, tmp_path: Path
) -> None:
    coco, png, table = write_all(
        tmp_path,
        scenes[0],
        found,
        image=read_image(scenes[0].path),
        model="icons",
        encoder_id=icons.encoder_id,
    )
    content = json.loads(coco.read_text())
    assert content["images"] == [{"id": 1, "file_name": "scene 1", "width": 320, "height": 320}]
    names = {each["id"]: each["name"] for each in content["categories"]}
    detections = found.detections
    assert [names[each["category_id"]] for each in content["annotations"]] == [*detections.names]
    assert content["annotations"][0]["score"] == pytest.approx(float(detections.scores[0]))

    with Image.open(png) as drawn:
        assert drawn.format == "PNG"
        assert min(drawn.size) >= 320

    rows = parquet.read_table(table)
    assert rows.column_names[:6] == ["image", "x0", "y0", "x1", "y1", "objectness"]
    assert rows["class"].to_pylist() == [*detections.names]
    assert detections.features is not None
    assert rows["feature"].to_pylist()[0] == pytest.approx(detections.features[0].tolist())
    assert all(0.8 < each <= 1 for each in rows["prob"].to_pylist())
    assert rows.schema.metadata[b"encoder_id"].decode() == icons.encoder_id


def test_nothing_found_makes_files_without_rows(
    icons: Detector, scenes: list[Picture], tmp_path: Path
) -> None:
    none = detect(icons, scenes[0], Request(names=("anchor",), min_score=1.0))
    image = read_image(scenes[0].path)
    coco, png, table = write_all(
        tmp_path, scenes[0], none, image=image, model="icons", encoder_id="x"
    )
    assert json.loads(coco.read_text())["annotations"] == []
    assert png.stat().st_size > 0
    assert parquet.read_table(table).num_rows == 0


def test_a_font_is_looked_for_only_where_the_usual_one_lacks_a_character(
    scenes: list[Picture], found: Found, tmp_path: Path
) -> None:
    assert font_for("umbrella Ünal зонт") is None
    assert font_for("\U0010ffff") is None  # no font has it, and the picture is drawn all the same
    assert write_png(tmp_path, read_image(scenes[0].path), found).exists()
