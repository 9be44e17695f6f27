import json
from pathlib import Path

import pytest

from regionclip.data.sources import coco_category_ids, find_images


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "sub/a.jpg", "notes.txt", ".hidden.jpg", ".git/x.jpg", "c.mp4"):
        path = Path("photos") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path("photos")


def names(*inputs: str | Path, **options: Path) -> list[str]:
    return [source.name for source in find_images(inputs, **options)]


def write_coco(path: Path, images: list[dict[str, object]]) -> Path:
    path.write_text(json.dumps({"images": images, "annotations": []}))
    return path


def test_a_folder_gives_its_images_sorted_and_nothing_hidden(photos: Path) -> None:
    assert names(photos) == ["photos/a.PNG", "photos/b.jpg", "photos/sub/a.jpg"]
    assert [each.relative for each in find_images([photos])] == ["a.PNG", "b.jpg", "sub/a.jpg"]


def test_a_file_named_itself_is_kept_whatever_it_is(photos: Path) -> None:
    named = ["photos/notes.txt", "photos/missing.jpg", "photos/c.mp4"]
    assert names(*named) == named
    assert [each.is_video for each in find_images(named)] == [False, False, True]


def test_a_pattern_gives_what_it_matches(photos: Path) -> None:
    assert names("photos/*.jpg") == ["photos/b.jpg"]
    assert names("photos/**/*.jpg") == ["photos/b.jpg", "photos/sub/a.jpg"]
    assert names("photos/.g*/*.jpg") == ["photos/.git/x.jpg"]
    assert names(str(photos.absolute() / "s*")) == [str(photos.absolute() / "sub/a.jpg")]
    assert find_images(["photos/s*/a.jpg"])[0].relative == "sub/a.jpg"


def test_every_file_comes_once_in_the_order_of_the_inputs(photos: Path) -> None:
    expected = ["photos/sub/a.jpg", "photos/a.PNG", "photos/b.jpg"]
    assert names("photos/sub/a.jpg", photos, photos.absolute()) == expected


def test_the_excluded_folder_is_not_searched_but_may_be_named(photos: Path) -> None:
    output = photos / "sub"
    assert names(photos, exclude=output) == ["photos/a.PNG", "photos/b.jpg"]
    assert names("photos/sub/a.jpg", exclude=output) == ["photos/sub/a.jpg"]
    assert names(output, exclude=output) == ["photos/sub/a.jpg"]


def test_a_coco_json_gives_its_images_with_their_ids(photos: Path) -> None:
    path = write_coco(
        photos / "set.json",
        [
            {"id": 7, "file_name": "b.jpg"},
            {"id": 3, "coco_url": "http://images.example.org/train2017/1.jpg"},
        ],
    )
    found = find_images([path])
    assert [each.name for each in found] == ["photos/b.jpg", "photos/train2017/1.jpg"]
    assert [each.image_id for each in found] == [7, 3]
    assert [each.relative for each in found] == ["b.jpg", "train2017/1.jpg"]
    assert names(path, image_root=Path("elsewhere"))[0] == "elsewhere/b.jpg"


def test_results_of_a_coco_json_stay_below_their_folder(photos: Path) -> None:
    images = [{"id": 1, "file_name": "../../x.jpg"}, {"id": 2, "file_name": "/etc/y.jpg"}]
    found = find_images([write_coco(photos / "set.json", images)])
    assert [each.relative for each in found] == ["x.jpg", "etc/y.jpg"]


def test_category_ids_are_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text('{"images": [], "categories": [{"id": 17, "name": "cat"}]}')
    assert coco_category_ids(path) == {"cat": 17}
    path.write_text('{"images": [], "categories": [{"id": 17}]}')
    with pytest.raises(ValueError, match=r"set\.json has a category without name or id"):
        coco_category_ids(path)


def test_no_input_gives_no_image() -> None:
    assert find_images([]) == []


def test_an_input_without_images_is_refused_by_name(photos: Path) -> None:
    (photos / "empty").mkdir()
    broken = photos / "broken.json"
    broken.write_text("{")
    for text, reason in {
        "photos/empty": "no image in the folder photos/empty; looked for .avif",
        "photos/*.gif": r"no file matches photos/\*\.gif",
        "photos/broken.json": "broken.json is not a valid json file",
        "photos/none.json": "none.json: there is no such file",
    }.items():
        with pytest.raises(ValueError, match=reason):
            find_images([text])
    for content, reason in {
        "[]": "has no list of images",
        '{"images": []}': "lists no images",
        '{"images": [{"id": 1}]}': "image 0 has neither file_name nor coco_url",
    }.items():
        broken.write_text(content)
        with pytest.raises(ValueError, match=reason):
            find_images([broken])
