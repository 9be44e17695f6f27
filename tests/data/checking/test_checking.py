import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regionclip.data.checking import KINDS, CheckReport, examine, list_dataset, open_images
from regionclip.data.readers import open_dataset
from tests.data.readers.test_voc import BARE, FIRST
from tests.data.readers.test_webdataset import captions, png, write_shard

NAMES = {kind.title: key for key, kind in KINDS.items()}


def found(report: CheckReport) -> dict[str, int]:
    return {NAMES[each.kind.title]: each.number for each in report.findings}


def examples(report: CheckReport, key: str) -> tuple[str, ...]:
    return next(each.examples for each in report.findings if NAMES[each.kind.title] == key)


def check(source: Path, **options: Any) -> CheckReport:
    listing = list_dataset(source, **options)
    return examine(listing, open_images(listing.images))


def image(id: int, name: str | None = None, size: tuple[int, int] = (40, 30)) -> dict[str, Any]:
    return {"id": id, "file_name": name or f"{id}.png", "width": size[0], "height": size[1]}


def box(id: int, bbox: object, image_id: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": id, "image_id": image_id, "category_id": 1, "bbox": bbox} | more


def write_coco(folder: Path, images: list[Any], annotations: list[Any], categories: Any) -> Path:
    path = folder / "instances.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


CAT = {"id": 1, "name": "cat"}
SOUND = box(1, [0, 0, 40, 30])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "1.png"
    Image.new("RGB", (40, 30)).save(path)
    return path


def test_a_sound_data_set_has_nothing_to_be_found(picture: Path) -> None:
    report = check(write_coco(picture.parent, [image(1)], [SOUND, box(2, [1, 1, 1, 1])], [CAT]))
    assert report.findings == ()
    assert report.is_harmless
    assert (report.num_images, report.num_opened, report.num_boxes) == (1, 1, 2)
    (cat,) = report.classes
    assert (cat.name, cat.category_id, cat.num_boxes, cat.num_images) == ("cat", 1, 2, 1)


@pytest.mark.parametrize(
    ("bbox", "key"),
    [
        ([0, 0, 40.04, 30.04], None),  # rounded to hundredths, and some more
        ([0, 0, 40.1, 30], "box partly outside"),
        ([-0.1, 0, 10, 10], "box partly outside"),
        ([40, 0, 5, 5], "box outside"),
        ([-5, 0, 5, 5], "box outside"),
        ([0, 31, 5, 5], "box outside"),
        ([5, 5, 1e-5, 5], "degenerate box"),
        ([5, 5, 2e-5, 5], None),
        ([5, 5, 5, -1], "degenerate box"),
        ([5, 5, 5], "unusable annotation"),
        ([5, 5, 5, float("nan")], "unusable annotation"),
        ([5, 5, 5, "5"], "unusable annotation"),
        (None, "unusable annotation"),
    ],
)
def test_each_box_has_its_kind(picture: Path, bbox: object, key: str | None) -> None:
    path = write_coco(picture.parent, [image(1)], [SOUND, box(2, bbox)], [CAT])
    report = check(path)
    assert found(report) == ({} if key is None else {key: 1})
    if key is not None:
        assert "annotation 2" in examples(report, key)[0]


@pytest.mark.parametrize(
    ("images", "annotations", "categories", "key"),
    [
        ([image(1), image(1, "1.PNG")], [SOUND], [CAT], "image id"),
        ([image(1), image(2, "1.png")], [SOUND], [CAT], "image name"),
        ([image(1), {"id": 2}], [SOUND], [CAT], "unusable image"),
        ([image(1), {"file_name": "a.png"}], [SOUND], [CAT], "unusable image"),
        ([image(1), 3], [SOUND], [CAT], "unusable image"),
        ([image(1)], [SOUND], [CAT, CAT | {"name": "dog"}], "category id"),
        ([image(1)], [SOUND], [CAT, CAT | {"id": 2}], "category name"),
        ([image(1)], [SOUND], [CAT, {"name": "dog"}], "unusable category"),
        ([image(1)], [SOUND], [CAT, "dog"], "unusable category"),
        ([image(1)], [SOUND, box(2, [0, 0, 1, 1], category_id=7)], [CAT], "unknown category"),
        ([image(1)], [SOUND, box(2, [0, 0, 1, 1], category_id="x")], [CAT], "unknown category"),
        ([image(1)], [SOUND, {"id": 2, "image_id": 1}], [CAT], "unusable annotation"),
        ([image(1)], [SOUND, {"id": 2, "bbox": [0, 0, 1, 1]}], [CAT], "unusable annotation"),
        ([image(1)], [SOUND, None], [CAT], "unusable annotation"),
    ],
)
def test_what_the_reader_refuses_is_found(
    picture: Path, images: list, annotations: list, categories: list, key: str
) -> None:
    path = write_coco(picture.parent, images, annotations, categories)
    report = check(path)
    assert found(report)[key] == 1
    assert KINDS[key].effect == "refused"
    assert not report.is_harmless
    with pytest.raises(ValueError, match=r"instances\.json"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("annotations", "key"),
    [
        ([SOUND, box(2, [0, 0, 1, 1], image_id=404)], "unknown image"),
        ([SOUND, SOUND], "annotation id"),
        ([SOUND, box(2, [0, 0, 9, 9], iscrowd=1)], "crowd"),
        ([SOUND, box(2, [0, 0, 9, 9], ignore=1)], "difficult"),
        ([], "image without boxes"),
        ([], "category without boxes"),
    ],
)
def test_what_the_reader_takes_is_found_and_read(
    picture: Path, annotations: list, key: str
) -> None:
    path = write_coco(picture.parent, [image(1)], annotations, [CAT])
    assert found(check(path))[key] == 1
    assert KINDS[key].effect != "refused"
    open_dataset(path)


def test_missing_and_broken_images_are_told_apart(picture: Path) -> None:
    (picture.parent / "2.png").write_bytes(b"no image")
    (picture.parent / "3.png").write_bytes(picture.read_bytes()[:60])
    (picture.parent / "5.png").write_bytes(b"")
    rows = [box(n, [0, 0, 9, 9], image_id=n) for n in range(1, 6)]
    path = write_coco(picture.parent, [image(n) for n in range(1, 6)], rows, [CAT])
    report = check(path)
    assert found(report) == {"missing image": 1, "broken image": 3}
    assert "4.png: there is no such file" in examples(report, "missing image")[0]
    assert found(examine(list_dataset(path))) == {}  # as --no-images does


@pytest.mark.parametrize(
    ("orientation", "annotated", "key"),
    [
        (1, (40, 30), None),
        (1, (30, 40), "other size"),
        (1, (80, 60), "other size"),
        (6, (30, 40), None),
        (6, (40, 30), "turned image"),
        (6, (50, 30), "other size"),
        (3, (40, 30), "perhaps turned image"),
    ],
)
def test_sizes_are_compared_with_those_annotated(
    picture: Path, orientation: int, annotated: tuple[int, int], key: str | None
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(picture, exif=exif)
    rows = [box(1, [0, 0, 5, 5])]
    report = check(write_coco(picture.parent, [image(1, size=annotated)], rows, [CAT]))
    assert found(report) == ({} if key is None else {key: 1})


def test_without_annotated_sizes_boxes_are_measured_by_the_files(picture: Path) -> None:
    entry = {"id": 1, "file_name": "1.png"}
    path = write_coco(picture.parent, [entry], [box(1, [0, 0, 99, 9])], [CAT])
    assert found(check(path)) == {"box partly outside": 1}
    assert found(examine(list_dataset(path))) == {}


def test_three_examples_stand_for_many(picture: Path) -> None:
    rows = [SOUND, *(box(n, [0, 0, 0, 0]) for n in range(2, 12))]
    report = check(write_coco(picture.parent, [image(1)], rows, [CAT]))
    assert found(report) == {"degenerate box": 10}
    assert examples(report, "degenerate box") == tuple(
        f"1.png: annotation {n}, xyxy 0, 0, 0, 0" for n in (2, 3, 4)
    )


def test_a_listing_may_be_examined_twice(picture: Path) -> None:
    listing = list_dataset(write_coco(picture.parent, [image(1)], [], [CAT]))
    assert found(examine(listing)) == found(examine(listing))


def test_captions_are_counted(picture: Path) -> None:
    rows = [{"id": n, "image_id": 1, "caption": "a cat"} for n in (1, 2)]
    report = check(write_coco(picture.parent, [image(1), image(2, "1b.png")], rows, []))
    assert report.num_captions == 2
    assert found(report) == {"missing image": 1, "image without captions": 1}


def test_a_voc_folder_is_listed_although_it_is_refused(tmp_path: Path) -> None:
    for name, text in {"1": FIRST, "2": BARE, "3": "<annotation>"}.items():
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
    (tmp_path / "JPEGImages").mkdir()
    Image.new("RGB", (500, 353)).save(tmp_path / "JPEGImages" / "1.jpg")
    report = check(tmp_path)
    assert found(report) == {
        "unusable annotation": 1,  # 3.xml
        "missing image": 2,
        "box partly outside": 2,  # of image 1: 371 and 498 rows of 353
        "difficult": 1,
        "image without boxes": 1,
    }
    assert [(each.name, each.num_boxes) for each in report.classes] == [
        ("cat", 1),
        ("dog", 1),
        ("person", 1),
    ]
    with pytest.raises(ValueError, match=r"3\.xml"):
        open_dataset(tmp_path)


def test_a_yolo_folder_is_listed_although_it_is_refused(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "classes.txt").write_text("cat\ndog")
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.png").write_bytes(b"no image")
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 1 1\n5 .5 .5 1 1\n0 .5\n0 1 .5 .5 .5\n")
    (tmp_path / "labels" / "b.txt").write_text("0 .5 .5 1 1\n0 2 .5 .5 .5")
    (tmp_path / "labels" / "c.txt").write_text("0 .5 .5 1 1")
    report = check(tmp_path)
    assert found(report) == {
        "unknown category": 1,
        "unusable annotation": 1,
        "unknown image": 1,
        "broken image": 1,
        "box outside": 1,
        "box partly outside": 1,
        "category without boxes": 1,
    }
    assert (
        f"{tmp_path / 'labels' / 'a.txt'}:3: expected" in examples(report, "unusable annotation")[0]
    )
    with pytest.raises(ValueError, match=r"a\.txt:2: there is no class 5"):
        open_dataset(tmp_path)


def test_a_broken_image_in_a_shard_is_found(tmp_path: Path) -> None:
    members = {"a.png": png(1), "a.json": captions("a cat"), "b.png": b"no image"}
    report = check(write_shard(tmp_path / "s.tar", members))
    assert found(report) == {"broken image": 1, "image without captions": 1}
    assert (report.format, report.num_captions) == ("webdataset", 1)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "cannot be read as json"), ("{}", "has no list of images")]
)
def test_what_cannot_be_read_at_all_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        list_dataset(tmp_path)


def test_a_report_is_ready_for_json(picture: Path) -> None:
    report = check(write_coco(picture.parent, [image(1)], [box(1, [0, 0, 0, 0])], [CAT]))
    content = json.loads(json.dumps(report.to_dict()))
    assert content["classes"] == [{"name": "cat", "id": 1, "num_boxes": 1, "num_images": 1}]
    (finding,) = content["findings"]
    assert finding["found"] == "boxes with a side of 1e-5 pixels or less"
    assert (finding["number"], finding["effect"]) == (1, "left out")


def test_opening_needs_a_thread() -> None:
    with pytest.raises(ValueError, match="num_workers must be at least 1, got 0"):
        open_images([], num_workers=0)
