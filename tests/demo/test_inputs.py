from pathlib import Path

import pytest
from PIL import Image

from regionclip.concepts.class_names import builtin_names
from regionclip.demo.inputs import (
    MAX_PROMPTS,
    InputError,
    Picture,
    checked_box,
    checked_vocabulary,
    foreign_names,
    take_picture,
    typed_names,
    typed_templates,
)


def saved(path: Path, size: tuple[int, int] = (40, 30), orientation: int | None = None) -> Path:
    image = Image.new("RGB", size, "red")
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def test_a_picture_is_copied_under_a_tame_name(tmp_path: Path) -> None:
    upload = saved(tmp_path / "mein Foto (1).jpg")
    folder = tmp_path / "own"
    folder.mkdir()
    first, second = take_picture(upload, folder), take_picture(upload, folder)
    assert (first.name, first.size_hw) == ("mein Foto (1).jpg", (30, 40))
    assert [each.path.name for each in (first, second)] == [
        "0000-mein-Foto-1-.jpg",
        "0001-mein-Foto-1-.jpg",
    ]
    assert first.path.read_bytes() == upload.read_bytes()


def test_the_size_of_a_picture_is_that_of_it_upright(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    taken = take_picture(saved(tmp_path / "a.jpg", orientation=6), tmp_path / "own")
    assert taken.size_hw == (40, 30)


def test_a_truncated_picture_is_refused_by_its_name(tmp_path: Path) -> None:
    noise = Image.effect_noise((200, 200), 90)
    noise.save(tmp_path / "whole.jpg")
    upload = tmp_path / "cut.jpg"
    upload.write_bytes((tmp_path / "whole.jpg").read_bytes()[:4000])
    with pytest.raises(InputError, match=r"^cut\.jpg: is damaged or cut off .*download it again$"):
        take_picture(upload, tmp_path)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    upload = tmp_path / "notes.png"
    upload.write_text("shopping: umbrella")
    with pytest.raises(InputError, match=r"^notes\.png: is not an image .*convert it"):
        take_picture(upload, tmp_path)


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    upload = saved(tmp_path / "a.png", (400, 300))
    with pytest.raises(InputError, match=r"a\.png has 400 x 300 = 0 megapixels.*takes 0 at most"):
        take_picture(upload, tmp_path, max_pixels=100_000)


def test_a_picture_without_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 40 x 3 pixels, too few"):
        take_picture(saved(tmp_path / "a.png", (40, 3)), tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat, remote control", ("cat", "remote control")),
        ("cat\n red   bus \n\ncat,,", ("cat", "red bus")),
        ("雨伞, umbrella", ("雨伞", "umbrella")),
        ("voc20", builtin_names("voc20")),
        ("/etc/passwd", ("/etc/passwd",)),  # a name like any other: nothing is read
        (" , \n", ()),
    ],
)
def test_names_are_read_from_what_was_typed(text: str, expected: tuple[str, ...]) -> None:
    assert typed_names(text) == expected


def test_a_name_in_both_places_is_looked_for() -> None:
    names, negatives, templates = checked_vocabulary("cat, dog", "dog, wolf", "photo")
    assert (names, negatives) == (("cat", "dog"), ("wolf",))
    assert templates == ("a photo of a {}.",)


def test_no_names_are_refused() -> None:
    with pytest.raises(InputError, match="no names to look for; type some"):
        checked_vocabulary(" ,", "wolf", "photo")


def test_more_texts_than_a_visitor_may_have_are_refused() -> None:
    names = ", ".join(f"thing {number}" for number in range(500))
    assert len(checked_vocabulary(names, "", "photo")[0]) == 500
    with pytest.raises(
        InputError,
        match=r"^500 names in 81 prompts each are 40500 texts.*give at most 49 names, or choose",
    ):
        checked_vocabulary(names, "", "imagenet80")
    many = "\n".join(map(str, range(MAX_PROMPTS + 1)))
    with pytest.raises(InputError, match=rf"give at most {MAX_PROMPTS} names$"):
        checked_vocabulary(many, "", "photo")


def test_prompts_are_a_set_or_sentences_of_ones_own() -> None:
    assert typed_templates("none") == ("{}",)
    assert typed_templates("a drawing of a {}") == ("a drawing of a {}",)
    assert typed_templates("a {}\n the {}\n") == ("a {}", "the {}")


@pytest.mark.parametrize("text", ["fotos", "", "a photo of {\nx"])
def test_other_prompts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"cannot be used; choose one of imagenet80, .*with \{\}"):
        typed_templates(text)


def test_names_without_latin_letters_are_told() -> None:
    assert foreign_names(["伞", "Ünal", "зонт", "7", "伞 umbrella"]) == ("伞", "зонт")


def test_a_box_is_put_in_order_and_clipped() -> None:
    picture = Picture(Path("a.png"), "a", (30, 40))
    assert checked_box([50, 20, 10, -5], picture) == [10.0, 0.0, 40.0, 20.0]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([10, 10, 12, 25], "too small"),
        ([50, 0, 60, 20], "too small"),
        ([0, 0, float("nan"), 9], "no box"),
        ([0, 0, 9], "no box"),
    ],
)
def test_what_is_no_box_is_refused(box: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_box(box, Picture(Path("a.png"), "a", (30, 40)))
