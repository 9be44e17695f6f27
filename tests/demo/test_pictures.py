from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from regionclip.demo.inputs import InputError
from regionclip.demo.pictures import Picture, checked_box, read_small, take_picture

PICTURE = Picture(Path("a.png"), "a", (30, 40), Path("a.large.jpg"), Path("a.small.jpg"))


def saved(path: Path, size: tuple[int, int] = (40, 30), orientation: int | None = None) -> Path:
    image = Image.new("RGB", size, "red")
    if orientation is None:
        image.save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)
    return path


def test_a_picture_is_copied_under_a_tame_name(tmp_path: Path) -> None:
    upload = saved(tmp_path / "mein Foto (1).jpg")
    taken = take_picture(upload, tmp_path / "0001")
    assert (taken.name, taken.size_hw) == ("mein Foto (1).jpg", (30, 40))
    assert taken.path == tmp_path / "0001-mein-Foto-1-.jpg"
    assert taken.path.read_bytes() == upload.read_bytes()


def test_previews_are_small_and_read_smaller_still(tmp_path: Path) -> None:
    taken = take_picture(saved(tmp_path / "a.png", (3200, 1600)), tmp_path / "0001")
    sizes = []
    for path in (taken.preview, taken.thumbnail):
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes == [(1600, 800), (128, 64)]
    assert read_small(taken, 320).size == (320, 160)
    assert read_small(taken, 9999).size == (1600, 800)


def test_what_is_gone_before_it_is_taken_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^a\.png has not arrived; upload it once more$"):
        take_picture(tmp_path / "a.png", tmp_path / "0001")


def test_a_format_whose_decoder_starts_another_program_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a.eps")
    with pytest.raises(InputError, match=r"^a\.eps: is not an image .*convert it"):
        take_picture(tmp_path / "a.eps", tmp_path / "0001")


def test_the_size_of_a_picture_is_that_of_it_upright(tmp_path: Path) -> None:
    taken = take_picture(saved(tmp_path / "a.jpg", orientation=6), tmp_path / "0001")
    assert taken.size_hw == (40, 30)


def test_a_truncated_picture_is_refused_by_its_name(tmp_path: Path) -> None:
    noise = Image.effect_noise((200, 200), 90)
    noise.save(tmp_path / "whole.jpg")
    upload = tmp_path / "cut.jpg"
    upload.write_bytes((tmp_path / "whole.jpg").read_bytes()[:4000])
    with pytest.raises(InputError, match=r"^cut\.jpg: is damaged or cut off .*download it again$"):
        take_picture(upload, tmp_path / "0001")


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    upload = tmp_path / "notes.png"
    upload.write_text("shopping: umbrella")
    with pytest.raises(InputError, match=r"^notes\.png: is not an image .*convert it"):
        take_picture(upload, tmp_path / "0001")


@pytest.mark.parametrize("trailing", [b"", b"\0\0\0\0abCd\0\0\0\0"])
def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(
    trailing: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor after a PNG that says more behind its pixels, where its orientation may stand."""
    upload = saved(tmp_path / "a.png", (400, 300))
    upload.write_bytes(upload.read_bytes()[:-12] + trailing + upload.read_bytes()[-12:])
    monkeypatch.delattr(PngImageFile, "load_prepare")
    with pytest.raises(InputError, match=r"^a\.png: is too large .*400x300.*100000.*; shrink it"):
        take_picture(upload, tmp_path / "0001", max_pixels=100_000)


def test_a_picture_that_is_a_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"400 x 19 pixels, too thin .*at most 20 times as long"):
        take_picture(saved(tmp_path / "a.png", (400, 19)), tmp_path / "0001")
    assert take_picture(saved(tmp_path / "b.png", (400, 20)), tmp_path / "2").size_hw == (20, 400)


def test_a_picture_without_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 40 x 3 pixels, too few"):
        take_picture(saved(tmp_path / "a.png", (40, 3)), tmp_path / "0001")


def test_a_box_is_put_in_order_and_clipped() -> None:
    assert checked_box([50, 20, 10, -5], PICTURE) == [10.0, 0.0, 40.0, 20.0]


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
        checked_box(box, PICTURE)
