from pathlib import Path

import pytest
import torch
from PIL import Image

from regionclip.data.readers.yolo import read_yolo


def write_image(path: Path, width: int = 40, height: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``images/train`` with a box, a polygon and an image without labels; ``images/val``."""
    write_text(
        tmp_path / "data.yaml",
        "path: .\ntrain: images/train\nval: images/val\ntest:\nnc: 9\nnames:\n  0: cat\n  1: no\n",
    )
    for name in ("train/b", "train/a", "train/sub/c", "val/d"):
        write_image(tmp_path / "images" / f"{name}.png")
    write_text(tmp_path / "labels" / "train" / "a.txt", "1 0.5 0.5 0.25 0.5\n\n")
    write_text(
        tmp_path / "labels" / "train" / "b.txt",
        "0 0.5 0.5 1 1\n1 0.25 0.5 0.75 0.5 0.75 1\n",
    )
    return tmp_path


def test_boxes_are_shares_of_the_image(root: Path) -> None:
    dataset = read_yolo(root, split="train")
    a, _, c = dataset
    assert dataset.class_names == ("cat", "no")
    assert [each.id for each in dataset.categories] == [0, 1]
    names = ["images/train/a.png", "images/train/b.png", "images/train/sub/c.png"]
    assert [each.name for each in dataset] == [each.image_id for each in dataset] == names
    assert (a.size_hw, c.size_hw) == ((20, 40), (20, 40))
    assert a.objects.boxes.tolist() == [[15, 5, 25, 15]]
    assert a.objects.labels.tolist() == [1]
    assert (a.objects.segmentations, a.objects.areas) == ((), None)
    assert len(c.objects) == 0


def test_a_polygon_has_the_box_around_it_and_its_own_area(root: Path) -> None:
    objects = read_yolo(root, split="train").samples[1].objects
    torch.testing.assert_close(objects.boxes, torch.tensor([[0.0, 0, 40, 20], [10, 10, 30, 20]]))
    assert objects.segmentations == (None, [[10, 10, 30, 10, 30, 20]])
    assert objects.areas is not None
    assert objects.areas.tolist() == [800, 100]  # a right triangle, 20 by 10


def test_a_negative_width_is_left_for_the_check_to_find(root: Path) -> None:
    write_text(root / "labels" / "train" / "a.txt", "0 0.5 0.5 -0.5 1")
    boxes = read_yolo(root, split="train").samples[0].objects.boxes
    assert boxes.tolist() == [[30, 0, 10, 20]]


def test_labels_are_of_the_image_turned_upright(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(root / "images" / "train" / "a.png", exif=exif)
    sample = read_yolo(root, split="train").samples[0]
    assert sample.size_hw == (40, 20)
    assert sample.objects.boxes.tolist() == [[7.5, 10, 12.5, 30]]


@pytest.mark.parametrize("split", ["val", "valid", "validation"])
def test_val_and_valid_are_the_same_split(root: Path, split: str) -> None:
    assert [each.name for each in read_yolo(root, split=split)] == ["images/val/d.png"]


@pytest.mark.parametrize("entry", ["../train/images", "train/images", "list.txt", "[list.txt]"])
def test_the_layouts_of_other_tools_are_found(tmp_path: Path, entry: str) -> None:
    """Roboflow's folders with a path that does not lead there; texts that list images."""
    write_text(tmp_path / "data.yaml", f"path: /content/set\ntrain: {entry}\nnames: ['010', cat]\n")
    write_image(tmp_path / "train" / "images" / "a.png")
    write_text(tmp_path / "train" / "labels" / "a.txt", "1 .5 .5 .5 .5")
    write_text(tmp_path / "list.txt", "./train/images/a.png\n")
    dataset = read_yolo(tmp_path / "data.yaml")
    (sample,) = dataset
    assert dataset.class_names == ("010", "cat")
    assert sample.name == "train/images/a.png"
    assert sample.objects.boxes.tolist() == [[10, 5, 30, 15]]


@pytest.mark.parametrize("file", ["classes.txt", "labels/classes.txt", "obj.names"])
def test_a_folder_without_yaml_takes_its_names_from_a_text(root: Path, file: str) -> None:
    (root / "data.yaml").unlink()
    write_text(root / file, "cat\n dog \n")
    assert read_yolo(root, split="train").class_names == ("cat", "dog")


def test_an_unparted_folder_needs_no_split(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    write_text(tmp_path / "labels" / "a.txt", "0 .5 .5 1 1")
    write_text(tmp_path / "classes.txt", "cat")
    assert read_yolo(tmp_path).num_boxes == 1


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (None, "has several splits; choose one: train, val"),
        ("test", "has no split 'test'; its splits are: train, val"),
    ],
)
def test_a_split_that_is_not_clear_is_answered_with_those_there_are(
    root: Path, split: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_yolo(root, split=split)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 .5 .5 1", "expected a class and 4 numbers of a box, .* got 4 numbers"),
        ("0 .5 .5 1 1 .9", ".* got 6 numbers"),
        ("cat .5 .5 1 1", "expected numbers, got 'cat .5 .5 1 1'"),
        ("0 .5 .5 nan 1", "expected finite numbers"),
        ("0.5 .5 .5 1 1", "expected the number of a class first, got 0.5"),
        ("2 .5 .5 1 1", "there is no class 2; the highest is 1"),
    ],
)
def test_an_unusable_line_is_refused_by_file_and_number(
    root: Path, line: str, message: str
) -> None:
    write_text(root / "labels" / "train" / "a.txt", f"0 .5 .5 1 1\n{line}\n")
    with pytest.raises(ValueError, match=rf"labels/train/a\.txt:2: {message}"):
        read_yolo(root, split="train")


def test_an_image_with_labels_that_cannot_be_opened_is_refused_by_name(root: Path) -> None:
    (root / "images" / "train" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.png: is not an image .*labels are shares of its"):
        read_yolo(root, split="train")
    (root / "labels" / "train" / "a.txt").unlink()
    assert read_yolo(root, split="train").samples[0].size_hw is None


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: [cat", "cannot be read as yaml"),
        (f"names: {DEEP}", "cannot be read as yaml"),
        ("- cat", "is no YOLO yaml"),
        ("train: images/train", "has no names; write them as"),
        ("names: [cat]", "names no images; write 'train: images/train'"),
        ("names: [cat, '']\ntrain: images/train", "class 1 has no name"),
        ("names: [cat, [a, b]]\ntrain: images/train", "class 1 has no name"),
        ("names: {cat: 0}\ntrain: images/train", r"names must be numbered 0, 1, \.\.\."),
        ("names: [cat, cat]\ntrain: images/train", "'cat' occurs twice"),
        ("names: [cat]\ntrain: images/gone", "images/gone, which .* neither a folder of images"),
        ("names: [cat]\ntrain: {a: b}", "train is no path and no list of paths"),
        ("names: [cat]\ntrain: labels", "has no image in 'train'"),
    ],
)
def test_an_unusable_yaml_is_refused_by_name(root: Path, content: str, message: str) -> None:
    (root / "data.yaml").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_yolo(root, split="train")
    assert str(root) in str(error.value)


def test_a_yaml_cannot_run_code(root: Path) -> None:
    text = "names: !!python/object/apply:os.abort [cat, dog]\ntrain: images/train"
    (root / "data.yaml").write_text(text)
    assert read_yolo(root).class_names == ("cat", "dog")


def test_a_folder_without_names_is_told_how_to_name_them(root: Path) -> None:
    (root / "data.yaml").unlink()
    with pytest.raises(ValueError, match=r"add a data\.yaml with 'names: .*or a classes\.txt"):
        read_yolo(root, split="train")
