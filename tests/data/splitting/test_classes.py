from typing import Any

import pytest

from regionclip.data.splitting import choose_images, choose_novel, class_parts, image_parts

IDS = {"cat": 3, "dog": 5, "bird": 9}


def content(*objects: tuple[int, int], num_images: int = 4) -> dict[str, Any]:
    return {
        "images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(1, num_images + 1)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category}
            for n, (image, category) in enumerate(objects)
        ],
        "categories": [{"id": number, "name": name} for name, number in IDS.items()],
    }


def ids(part: dict[str, Any], key: str) -> list[int]:
    return [each["id"] for each in part[key]]


def test_base_lacks_images_with_novel_objects_only() -> None:
    # image 1: both; 2: base; 3: novel only; 4: nothing
    parts = class_parts(content((1, 3), (1, 5), (2, 3), (3, 5)), IDS, ["dog"])
    assert ids(parts["base"], "images") == [1, 2, 4]
    assert ids(parts["base"], "annotations") == [0, 2]
    assert [each["name"] for each in parts["base"]["categories"]] == ["cat", "bird"]
    assert {each["split"] for each in parts["base"]["categories"]} == {"base"}
    assert "1 images with novel objects only are left out" in parts["base"]["info"]["split"]


def test_what_is_evaluated_on_keeps_every_image() -> None:
    parts = class_parts(content((1, 3), (1, 5), (2, 3), (3, 5)), IDS, ["dog"])
    for part in ("novel", "all"):
        assert ids(parts[part], "images") == [1, 2, 3, 4]
        assert "Images without boxes stay" in parts[part]["info"]["split"]
    assert ids(parts["novel"], "annotations") == [1, 3]
    assert ids(parts["all"], "annotations") == [0, 1, 2, 3]
    assert [each["split"] for each in parts["all"]["categories"]] == ["base", "novel", "base"]


@pytest.mark.parametrize(
    ("novel", "message"),
    [
        (["cow"], "there is no class 'cow' to be novel; the classes are cat, dog, bird"),
        (["cat", "dog", "bird"], "3 of 3 classes are novel; at least one must be novel and one"),
        ([], "0 of 3 classes are novel"),
    ],
)
def test_novel_classes_that_cannot_be_are_refused(novel: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_parts(content(), IDS, novel)


NAMES = [f"class {n}" for n in range(40)]


def test_a_share_of_the_classes_is_novel_whatever_their_order() -> None:
    novel = choose_novel(NAMES, 0.25)
    assert len(novel) == 10
    assert set(choose_novel(NAMES[::-1], 0.25)) == set(novel)
    assert list(novel) == sorted(novel, key=NAMES.index)
    assert choose_novel(NAMES, 0.25, seed=1) != novel


def test_a_share_never_takes_all_or_nothing() -> None:
    assert len(choose_novel(["a", "b"], 0.01)) == 1
    assert len(choose_novel(["a", "b"], 0.99)) == 1


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_is_between_0_and_1(share: float) -> None:
    with pytest.raises(ValueError, match="a share must be between 0 and 1"):
        choose_novel(NAMES, share)


def test_one_class_or_image_cannot_be_parted() -> None:
    with pytest.raises(ValueError, match="1 classes cannot be parted into base and novel"):
        choose_novel(["a"], 0.5)
    with pytest.raises(ValueError, match="1 cannot be parted in two"):
        choose_images(["a.jpg"], 0.5)


def test_validation_images_leave_with_their_annotations() -> None:
    parts = image_parts(content((1, 3), (2, 5), (2, 3), (4, 5)), {1, 3})
    assert ids(parts["train"], "images") == [1, 3]
    assert ids(parts["val"], "images") == [2, 4]
    assert ids(parts["train"], "annotations") == [0]
    assert ids(parts["val"], "annotations") == [1, 2, 3]
    assert parts["val"]["categories"] == parts["train"]["categories"] == content()["categories"]
    assert parts["val"]["info"]["split"] == "val: 2 of 4 images, chosen by name."


def test_most_images_stay_where_they_were_when_one_is_added() -> None:
    names = [f"{n}.jpg" for n in range(100)]
    before = {names[row] for row in choose_images(names, 0.2)}
    more = ["new.jpg", *names]
    after = {more[row] for row in choose_images(more, 0.2)}
    assert len(before) == len(after) == 20
    assert len(before - after) <= 1
