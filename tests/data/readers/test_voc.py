from pathlib import Path

import pytest

from regionclip.data.datasets import Dataset
from regionclip.data.readers.voc import read_voc

FIRST = """<annotation>
  <filename>renamed.jpg</filename>
  <size><width>500</width><height>353</height><depth>3</depth></size>
  <object>
    <name> Dog </name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
    <bndbox><xmin>48</xmin><ymin>240</ymin><xmax>195</xmax><ymax>371</ymax></bndbox>
    <part><name>head</name>
      <bndbox><xmin>50</xmin><ymin>250</ymin><xmax>60</xmax><ymax>260</ymax></bndbox></part>
  </object>
  <object>
    <name>person</name><difficult>1</difficult>
    <bndbox><ymin>0</ymin><xmin>0</xmin><xmax>352.5</xmax><ymax>498</ymax></bndbox>
  </object>
</annotation>"""
BARE = """<annotation><object><name>cat</name>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>1</xmax><ymax>2</ymax></bndbox></object></annotation>"""
EMPTY = "<annotation><size><width>20</width><height>10</height></size></annotation>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``VOC2007`` with images 1 and 3 in train, 1 and 2 in val; image 2 has no object."""
    folder = tmp_path / "VOC2007"
    files = {
        "Annotations/1.xml": FIRST,
        "Annotations/2.xml": EMPTY,
        "Annotations/3.xml": BARE,
        "ImageSets/Main/train.txt": "3\n1\n\n",
        "ImageSets/Main/val.txt": "1\r\n2\r\n",
        "ImageSets/Main/cat_val.txt": "1 -1\n2  1\n",
        "JPEGImages/1.jpg": "",
        "JPEGImages/3.png": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return tmp_path


def sizes_of(dataset: Dataset) -> list[int]:
    return [len(each.objects) for each in dataset]


@pytest.mark.parametrize("inside", ["", "VOC2007"])
def test_a_split_is_read_in_its_order_with_boxes_from_0(root: Path, inside: str) -> None:
    dataset = read_voc(root / inside, split="train")
    third, first = dataset
    assert [each.image_id for each in dataset] == ["3", "1"]
    assert first.size_hw == (353, 500)
    assert third.size_hw is None
    # xmin - 1, ymin - 1; a 0, which no pixel has, stays 0
    assert first.objects.boxes.tolist() == [[47, 239, 195, 371], [0, 0, 352.5, 498]]
    assert third.objects.boxes.tolist() == [[0, 0, 1, 2]]
    assert first.objects.is_difficult.tolist() == [False, True]
    assert not first.objects.is_crowd.any()
    assert dataset.num_boxes == 3


def test_all_splits_number_the_classes_alike(root: Path) -> None:
    train, val = (read_voc(root, split=each) for each in ("train", "val"))
    assert train.class_names == val.class_names == ("cat", "dog", "person")
    assert [each.id for each in val.categories] == [1, 2, 3]
    assert val.samples[0].objects.labels.tolist() == [1, 2]


def test_images_without_objects_stay(root: Path) -> None:
    assert sizes_of(read_voc(root, split="val")) == [2, 0]


def test_a_list_about_one_class_gives_its_images(root: Path) -> None:
    assert [each.image_id for each in read_voc(root, split="cat_val")] == ["1", "2"]


def test_images_may_have_any_suffix_and_may_be_missing(root: Path) -> None:
    folder = root / "VOC2007" / "JPEGImages"
    assert [each.image for each in read_voc(root, split="train")] == [
        folder / "3.png",
        folder / "1.jpg",
    ]
    assert read_voc(root, split="val").samples[1].image == folder / "2.jpg"
    (folder / "1.jpg").rename(folder / "renamed.jpg")
    assert read_voc(root, split="train").samples[1].image == folder / "renamed.jpg"
    elsewhere = read_voc(root, split="val", image_root=root / "x").samples[1].image
    assert elsewhere == root / "x" / "2.jpg"


def test_without_lists_all_annotations_are_the_data_set(root: Path) -> None:
    for path in (root / "VOC2007" / "ImageSets" / "Main").iterdir():
        path.unlink()
    assert sizes_of(read_voc(root)) == [2, 0, 1]


def test_the_only_list_needs_no_name(root: Path) -> None:
    (root / "VOC2007" / "ImageSets" / "Main" / "train.txt").unlink()
    assert sizes_of(read_voc(root)) == [2, 0]


def test_ids_may_have_blanks_and_dots(root: Path) -> None:
    folder = root / "VOC2007"
    (folder / "Annotations" / "foggy beta 0.02.xml").write_text(BARE)
    (folder / "JPEGImages" / "foggy beta 0.02.jpg").touch()
    (folder / "ImageSets" / "Main" / "train.txt").write_text("foggy beta 0.02\n")
    (sample,) = read_voc(root, split="train")
    assert sample.image == folder / "JPEGImages" / "foggy beta 0.02.jpg"


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (None, r"VOC2007 has several splits; choose one: train, val$"),
        ("test", r"no split 'test': there is no .*test\.txt; its splits are: train, val"),
    ],
)
def test_a_split_that_is_not_clear_is_answered_with_those_there_are(
    root: Path, split: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_voc(root, split=split)


def test_several_years_are_not_mixed(root: Path) -> None:
    (root / "VOC2012" / "Annotations").mkdir(parents=True)
    with pytest.raises(ValueError, match="has VOC2007, VOC2012 in it; name one of them"):
        read_voc(root, split="train")


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no Pascal VOC folder"):
        read_voc(tmp_path)


LAUGHS = """<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "ha">
<!ENTITY b "&a;&a;&a;&a;">]><annotation><object><name>&b;</name></object></annotation>"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as xml"),
        (b"<annotation>", "cannot be read as xml"),
        (b"\xff\xfe\x00", "cannot be read as xml"),
        (b"<html></html>", "is no VOC annotation: it begins with <html>"),
        (LAUGHS.encode(), r"it declares a document type \(annotation\)"),
        (LAUGHS.encode("utf-16"), "it declares a document type"),
        (b"<annotation><object/></annotation>", "an object has no name"),
        (BARE.replace("<xmin>1</xmin>", "").encode(), "bndbox/xmin of object is nothing"),
        (BARE.replace("xmax>1<", "xmax>left<").encode(), "bndbox/xmax of object is 'left'"),
        (BARE.replace("xmax>1<", "xmax>nan<").encode(), "bndbox/xmax of object is 'nan'"),
        (EMPTY.replace("20", "wide").encode(), "size/width of annotation is 'wide'"),
    ],
)
def test_an_unusable_annotation_is_refused_by_name(
    root: Path, content: bytes, message: str
) -> None:
    (root / "VOC2007" / "Annotations" / "2.xml").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_voc(root, split="val")
    assert "2.xml" in str(error.value)
    # another split does not suffer from it
    assert len(read_voc(root, split="train")) == 2


def test_a_listed_image_without_annotation_is_not_taken_for_an_empty_one(root: Path) -> None:
    (root / "VOC2007" / "Annotations" / "2.xml").unlink()
    with pytest.raises(ValueError, match=r"2\.xml cannot be read: No such file"):
        read_voc(root, split="val")
