import json
import tarfile
from pathlib import Path

import pytest

from regionclip.data.readers.opening import locate, open_dataset
from tests.data.readers.test_coco import CONTENT

BCCD = Path(__file__).parents[4] / "shared" / "data" / "bccd"


def write(root: Path, *names: str) -> Path:
    """Files at these names: a tar, a yaml or a COCO json by their suffix, else empty."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".tar":
            tarfile.open(path, "w").close()
        else:
            texts = {".json": json.dumps(CONTENT), ".yaml": "names: [cat]\ntrain: images"}
            path.write_text(texts.get(path.suffix, ""))
    return root


@pytest.mark.parametrize(
    ("names", "split", "expected"),
    [
        (("instances_train.json", "instances_val.json"), "val", "instances_val.json"),
        (("train.json", "val.json"), "train", "train.json"),
        (
            ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
            "train",
            "annotations/instances_train2017.json",
        ),
        (
            ("annotations/instances_train2014.json", "annotations/instances_train2017.json"),
            "train2017",
            "annotations/instances_train2017.json",
        ),
        (
            ("train/_annotations.coco.json", "valid/_annotations.coco.json"),
            "val",
            "valid/_annotations.coco.json",
        ),
        (("_annotations.coco.json",), None, "_annotations.coco.json"),
        (("train/_annotations.coco.json",), None, "train/_annotations.coco.json"),
        (("instances.json", "captions.json"), None, "instances.json"),
    ],
)
def test_a_folder_gives_the_json_of_its_split(
    tmp_path: Path, names: tuple[str, ...], split: str | None, expected: str
) -> None:
    location = locate(write(tmp_path, *names), split)
    assert (location.format, location.path) == ("coco", tmp_path / expected)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("VOC2007/Annotations/1.xml", "VOC2007/ImageSets/Main/train.txt"), "voc"),
        (("Annotations/1.xml", "JPEGImages/1.jpg"), "voc"),
        (("data.yaml", "images/a.jpg"), "yolo"),
        (("my.yaml", "train/a.jpg"), "yolo"),
        (("images/a.jpg", "labels/a.txt"), "yolo"),
        (("train/images/a.jpg", "train/labels/a.txt"), "yolo"),
        (("train-000.tar", "train-001.tar"), "webdataset"),
    ],
)
def test_a_folder_is_recognised_by_what_is_in_it(
    tmp_path: Path, names: tuple[str, ...], expected: str
) -> None:
    assert locate(write(tmp_path, *names), "train").format == expected


def test_shards_are_those_of_the_split(tmp_path: Path) -> None:
    write(tmp_path, "train-00001.tar", "train-00000.tar", "val_0.tar")
    assert [each.name for each in locate(tmp_path, "train").shards] == [
        "train-00000.tar",
        "train-00001.tar",
    ]
    with pytest.raises(ValueError, match="has shards of several splits; choose one: train, val"):
        locate(tmp_path)
    with pytest.raises(ValueError, match="no shards of the split 'test'; there are: train, val"):
        locate(tmp_path, "test")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a", b"\xef\xbb\xbf {}", "coco"),
        ("a.txt", b"image,caption\na.jpg,a dog\n", "table"),
        ("a.csv", b"anything", "table"),
        ("a.yml", b"names: [cat]", "yolo"),
    ],
)
def test_a_file_is_recognised_by_its_content(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert locate(tmp_path / name).format == expected


def test_a_tar_is_recognised_without_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    assert locate(path).format == "webdataset"


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        ((), None, r"looked for Pascal VOC .*, YOLO .*, COCO \(instances\*\.json.* and webdataset"),
        ((), "dev", r"COCO \(instances_dev\.json, dev\.json"),
        (
            ("instances_a.json", "instances_b.json"),
            None,
            r"several annotation files \(instances_a\.json, instances_b\.json\); choose a split",
        ),
        (
            ("data.yaml", "train.json"),
            "train",
            r"could be read as YOLO \(.*\) and as COCO \(json\); name the file or the folder",
        ),
    ],
)
def test_what_is_not_clear_is_refused_in_one_sentence(
    tmp_path: Path, names: tuple[str, ...], split: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        locate(write(tmp_path, *names), split)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\0\0", b"\xff\xd8\xff"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="is no data set; looked for a COCO or LVIS json, a YOLO"):
        locate(tmp_path / "a")


def test_a_file_has_no_splits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a file, of which there is no split 'val'"):
        locate(write(tmp_path, "a.json") / "a.json", "val")


def test_a_missing_source_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone does not exist"):
        open_dataset(tmp_path / "gone")


def test_a_real_folder_finds_annotations_and_images() -> None:
    if not BCCD.is_dir():
        pytest.skip(f"a real data set is missing: {BCCD}")
    dataset = open_dataset(BCCD, split="val")
    assert (len(dataset), dataset.num_boxes) == (72, 945)
    assert dataset.class_names == ("Platelets", "RBC", "WBC")
    assert isinstance(dataset.samples[0].image, Path)
    assert dataset.samples[0].image.is_file()
