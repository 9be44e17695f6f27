import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regionclip.cli import main
from regionclip.data.readers import open_dataset
from tests.data.splitting.test_benchmarks import coco

COCO_CLEAN = Path(__file__).parents[3] / "shared" / "data" / "coco_clean"


def split(*arguments: str) -> int:
    return main(["data", "split", *arguments])


def read(path: str) -> dict[str, Any]:
    return json.loads(Path(path).read_text())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``my`` with ``instances_{train,val}.json``: cats on 1 to 4, a dog on 1; the cwd is above."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my"
    categories = [{"id": n, "name": name} for n, name in enumerate(("cat", "dog"), start=1)]
    for name in ("train", "val"):
        (folder / name).mkdir(parents=True)
        images = []
        for number in (1, 2, 3, 4):
            Image.new("RGB", (8, 8)).save(folder / name / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "license": 4})
        rows = [
            {"id": n, "image_id": image, "category_id": category, "bbox": [0, 0, 4, 4], "area": 16}
            for n, (image, category) in enumerate(((1, 1), (2, 1), (3, 1), (4, 1), (1, 2)))
        ]
        content = {"images": images, "annotations": rows, "categories": categories}
        (folder / f"instances_{name}.json").write_text(json.dumps(content))
    return folder


def test_named_classes_are_novel_in_every_split(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--split", "train", "val", "--novel", "dog", "--output", "out"]
    assert split("my", *options) == 0
    assert "novel are: dog. Images without boxes stay" in capsys.readouterr().out
    names = [f"my_{name}_{part}.json" for name in ("train", "val") for part in ("all", "base")]
    for name in names:
        dataset = open_dataset(f"out/{name}")
        assert all(isinstance(each.image, Path) and each.image.is_file() for each in dataset)
    assert [each.split for each in open_dataset("out/my_val_all.json").categories] == [
        "base",
        "novel",
    ]
    assert open_dataset("out/my_train_base.json").class_names == ("cat",)
    assert len(open_dataset("out/my_train_novel.json")) == 4
    assert read("out/my_train_all.json")["images"][0]["license"] == 4


def test_a_share_chooses_classes_and_images(folder: Path) -> None:
    options = ["--novel-share", "0.5", "--val-share", "0.25", "--output"]
    assert split("my/instances_train.json", *options, "out") == 0
    names = [f"train_{a}_{b}.json" for a in ("train", "val") for b in ("all", "base", "novel")]
    assert sorted(each.name for each in Path("out").iterdir()) == names
    assert len(read("out/train_train_all.json")["images"]) == 3
    assert len(read("out/train_val_all.json")["images"]) == 1
    note = read("out/train_val_all.json")["info"]["split"]
    assert note.startswith("val: 1 of 4 images, chosen by name. all classes (2 of 2)")
    assert split("my/instances_train.json", *options, "elsewhere/deep") == 0
    for name in names:
        first, again = read(f"out/{name}"), read(f"elsewhere/deep/{name}")
        assert [each["id"] for each in first["images"]] == [each["id"] for each in again["images"]]
        assert first["annotations"] == again["annotations"]


def test_a_yolo_folder_is_split_as_well(folder: Path) -> None:
    options = ["--split", "train", "--to", "yolo", "--output", "yolo"]
    assert main(["data", "convert", "my", *options]) == 0
    assert split("yolo", "--split", "train", "--novel", "dog", "--output", "out") == 0
    dataset = open_dataset("out/yolo_train_all.json")
    assert [each.split for each in dataset.categories] == ["base", "novel"]
    assert dataset.num_boxes == 5


def test_files_that_are_there_are_kept_unless_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/train_val.json").write_text("precious")
    options = ["my/instances_train.json", "--val-share", "0.5", "--output", "out"]
    assert split(*options) == 2
    assert "train_val.json exist in out" in capsys.readouterr().err
    assert [each.name for each in Path("out").iterdir()] == ["train_val.json"]
    assert Path("out/train_val.json").read_text() == "precious"
    assert split(*options, "--overwrite") == 0
    assert len(read("out/train_val.json")["images"]) == 2


def test_both_official_files_of_a_folder_are_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("train2017", "val2017"):
        path = tmp_path / "coco" / "annotations" / f"instances_{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(coco((1, 1), (2, 17), (3, 10))))
    (tmp_path / "coco" / "val2017").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "coco" / "val2017" / "1.jpg")
    assert split("coco", "--benchmark", "ov-coco", "--output", "coco/annotations") == 0
    assert "2 of 4 images that have none of these, are left out" in capsys.readouterr().out
    written = sorted(each.name for each in Path("coco/annotations").glob("ovd*"))
    assert written == [
        f"ovd_ins_{name}_{part}.json"
        for name in ("train2017", "val2017")
        for part in ("all", "b", "t")
    ]
    dataset = open_dataset("coco/annotations/ovd_ins_val2017_all.json")
    assert len(dataset.categories) == 65
    assert dataset.samples[0].image == Path("coco/val2017/1.jpg")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say how to split: --benchmark, --novel, --novel-share or --val-share"),
        (["--benchmark", "ov-coco", "--novel", "dog"], "--benchmark fixes classes and images"),
        (["--novel", "dog", "--novel-share", "0.5"], "--novel and --novel-share both choose"),
        (["--val-share", "1.5"], "--val-share must be between 0 and 1, got 1.5"),
        (["--novel", "cow"], "there is no class 'cow' to be novel; the classes are cat, dog"),
        (["--novel", "cat, dog"], "2 of 2 classes are novel"),
        (["--benchmark", "ov-coco"], "instances_train.json: this is no official file of COCO"),
        (["--benchmark", "ov-lvis"], "instances_train.json: this is no official file of LVIS"),
    ],
)
def test_what_cannot_be_split_ends_with_2(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert split("my/instances_train.json", "--output", "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_benchmark_needs_a_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.yaml").write_text("names: [cat]\ntrain: my/train")
    assert split("data.yaml", "--benchmark", "ov-coco", "--output", "out") == 2
    assert "data.yaml is no official json" in capsys.readouterr().err


def test_real_coco_files_are_split(tmp_path: Path) -> None:
    if not COCO_CLEAN.is_dir():
        pytest.skip(f"COCO photographs are missing: {COCO_CLEAN}")
    assert split(str(COCO_CLEAN), "--benchmark", "ov-coco", "--output", str(tmp_path)) == 0
    base, novel, whole = (
        open_dataset(tmp_path / f"ovd_ins_val_{part}.json", image_root=COCO_CLEAN / "val")
        for part in ("b", "t", "all")
    )
    assert base.num_boxes + novel.num_boxes == whole.num_boxes
    assert all(len(each.objects) for each in whole)
    assert isinstance(whole.samples[0].image, Path)
    assert whole.samples[0].image.is_file()
