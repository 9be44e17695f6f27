import hashlib
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from regionclip.cli import main
from regionclip.data.readers import open_dataset
from tests.data.readers.test_voc import FIRST

BCCD = Path(__file__).parents[3] / "shared" / "data" / "bccd"


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(each.relative_to(folder)): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


@pytest.fixture
def voc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``VOC2007`` with an image in train and another in val; the working folder is above it."""
    folder = tmp_path / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for name, split in (("1", "train"), ("2", "val")):
        (folder / "Annotations" / f"{name}.xml").write_text(FIRST)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{name}\n")
        Image.new("RGB", (500, 353)).save(folder / "JPEGImages" / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    return folder


def convert(*arguments: str) -> int:
    return main(["data", "convert", *arguments])


def test_voc_becomes_a_json_that_opens_as_it_is(
    voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashes(voc)
    assert convert("VOC2007", "--split", "train", "--to", "coco", "--output", "out/a.json") == 0
    assert hashes(voc) == before
    assert "1 difficult objects have ignore 1" in capsys.readouterr().out
    content = json.loads(Path("out/a.json").read_text())
    assert [each["bbox"] for each in content["annotations"]] == [
        [47, 239, 148, 132],
        [0, 0, 352.5, 498],
    ]
    (sample,) = open_dataset("out/a.json")
    assert sample.name == "../VOC2007/JPEGImages/1.jpg"
    assert isinstance(sample.image, Path)
    assert sample.image.is_file()
    assert sample.objects.is_difficult.tolist() == [False, True]
    assert sorted(each.name for each in Path("out").iterdir()) == ["a.json"]


@pytest.mark.parametrize("images", ["none", "copy"])
def test_splits_become_jsons_in_a_folder(voc: Path, images: str) -> None:
    options = ["--split", "train", "val", "--to", "coco", "--output", "out", "--images", images]
    assert convert("VOC2007", *options) == 0
    for split, name in (("train", "1.jpg"), ("val", "2.jpg")):
        (sample,) = open_dataset("out", split=split)
        assert isinstance(sample.image, Path)
        assert sample.image.is_file()
        folder = "../VOC2007/JPEGImages" if images == "none" else f"images/{split}"
        assert sample.name == f"{folder}/{name}"


def test_voc_survives_the_way_through_yolo_and_back(voc: Path) -> None:
    options = ["--split", "train", "val", "--to", "yolo", "--output", "yolo", "--images", "copy"]
    assert convert("VOC2007", *options) == 0
    before = hashes(Path("yolo"))
    assert convert("yolo", "--split", "val", "--to", "coco", "--output", "back.json") == 0
    assert hashes(Path("yolo")) == before
    first, back = open_dataset(voc, split="val"), open_dataset("back.json")
    assert back.class_names == first.class_names
    assert [each.id for each in back.categories] == [1, 2]
    boxes = first.samples[0].objects.boxes.clone()
    boxes[:, 3].clamp_(max=353)  # YOLO's boxes are clipped
    torch.testing.assert_close(back.samples[0].objects.boxes, boxes, atol=2e-4, rtol=0)
    assert back.samples[0].objects.labels.tolist() == first.samples[0].objects.labels.tolist()


def test_crowds_left_out_end_with_1(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1}
    image = {"id": 1, "file_name": "1.jpg", "width": 500, "height": 353}
    content = {"images": [image], "annotations": [row], "categories": [{"id": 1, "name": "cat"}]}
    Path("a.json").write_text(json.dumps(content))
    root = ["--image-root", str(voc / "JPEGImages")]
    assert convert("a.json", *root, "--to", "yolo", "--output", "yolo") == 1
    assert "1 crowds (iscrowd) left out" in capsys.readouterr().out
    assert Path("yolo/images/train/1.jpg").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "VOC2007/a.json"], "is inside"),
        (["--output", "VOC2007"], "VOC2007 exists"),
        (["--output", "a.json", "--images", "copy"], "--images copy needs a folder"),
        (["--output", "a.json", "--split", "val"], "several splits need a folder"),
    ],
)
def test_what_cannot_be_written_as_asked_ends_with_2(
    voc: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = hashes(voc.parent)
    if "--split" in arguments:
        arguments = [*arguments, "train"]
    else:
        arguments = [*arguments, "--split", "train"]
    assert convert("VOC2007", "--to", "coco", *arguments) == 2
    assert message in capsys.readouterr().err
    assert hashes(voc.parent) == before


def test_nothing_is_left_of_a_folder_that_could_not_be_finished(
    voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (voc / "JPEGImages" / "2.jpg").unlink()
    options = ["--split", "train", "val", "--to", "yolo", "--output", "yolo"]
    assert convert("VOC2007", *options) == 2
    assert "2.jpg cannot be put into" in capsys.readouterr().err
    assert [each.name for each in voc.parent.iterdir()] == ["VOC2007"]


def test_a_real_data_set_survives_the_way_through_yolo_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not BCCD.is_dir():
        pytest.skip(f"a real data set is missing: {BCCD}")
    monkeypatch.chdir(tmp_path)
    options = ["--split", "val", "--to", "yolo", "--images", "copy", "--output", "yolo"]
    assert convert(str(BCCD), *options) == 0
    assert convert("yolo", "--split", "val", "--to", "coco", "--output", "back.json") == 0
    first, back = open_dataset(BCCD, split="val"), open_dataset("back.json")
    assert back.class_names == first.class_names
    pairs = zip(sorted(first, key=lambda each: each.name), back, strict=True)
    for before, after in pairs:
        torch.testing.assert_close(after.objects.boxes, before.objects.boxes, atol=1e-3, rtol=0)
        assert after.objects.labels.tolist() == before.objects.labels.tolist()
        assert after.size_hw == before.size_hw
