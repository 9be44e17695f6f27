import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.data.datasets import Member
from regionclip.data.images import ImageReadError, read_header, read_image

ORIENTATION = 0x0112
# 2 x 3 pixels, all different: red, green, blue over yellow, cyan, magenta
COLOURS = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 0], [0, 255, 255], [255, 0, 255]]],
    dtype=np.uint8,
)


def noise(height: int = 40, width: int = 60) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def pixels_of(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_a_lossless_file_gives_its_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLOURS).save(path, lossless=True)
    assert np.array_equal(pixels_of(read_image(path)), COLOURS)
    assert np.array_equal(pixels_of(read_image(str(path))), COLOURS)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, COLOURS),
        (2, COLOURS[:, ::-1]),
        (3, COLOURS[::-1, ::-1]),
        (4, COLOURS[::-1]),
        (5, COLOURS.transpose(1, 0, 2)),
        (6, np.rot90(COLOURS, k=-1)),
        (7, np.rot90(COLOURS, k=-1)[:, ::-1][::-1, ::-1]),
        (8, np.rot90(COLOURS)),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_is_applied_once(
    tmp_path: Path, suffix: str, orientation: int, upright: np.ndarray
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLOURS).save(path, exif=exif)
    if orientation == 7:
        upright = COLOURS[::-1, ::-1].transpose(1, 0, 2)
    assert np.array_equal(pixels_of(read_image(path)), upright)


def test_broken_exif_leaves_the_picture_as_it_is_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = tmp_path / "a.jpg"
    noise().save(path, exif=exif)
    content = path.read_bytes()
    start = content.index(b"Exif") + 14
    path.write_bytes(content[:start] + b"\xff" * 10 + content[start + 10 :])
    assert read_image(path).size == (60, 40)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(path)
    assert pixels_of(read_image(path))[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_float_grey_is_scaled_from_zero_to_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 0.2, 1]], dtype=np.float32)).save(path)
    assert pixels_of(read_image(path))[0, :, 0].tolist() == [0, 51, 255]


def test_grey_values_without_agreed_white_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(path)
    with pytest.raises(ImageReadError, match=r"a\.tif: its grey values reach from 0 to 70000"):
        read_image(path)


def test_transparency_is_composited_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(rgba).save(path)
    assert pixels_of(read_image(path))[0].tolist() == [[255, 0, 0], [255] * 3, [204] * 3]


def test_a_transparent_palette_colour_becomes_white(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    for name, transparency in (("a.png", bytes([255, 0])), ("a.gif", 1)):
        picture.save(tmp_path / name, transparency=transparency)
        assert pixels_of(read_image(tmp_path / name))[0].tolist() == [[10, 20, 30], [255] * 3]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr"])
def test_every_colour_mode_becomes_rgb_of_the_same_colour(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.new("RGB", (16, 16), "white").convert(mode).save(path)
    assert (pixels_of(read_image(path)) >= 250).all()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    assert (pixels_of(read_image(path)) == [255, 0, 0]).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.5, 0.02])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    noise(200, 300).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageReadError, match=rf"a\.{suffix}: is (damaged|not an image)"):
        read_image(path)


def test_what_is_no_image_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    reasons = {
        "text.jpg": "is not an image that Pillow can read; convert it",
        "empty.jpg": r"is empty \(0 bytes\)",
        "missing.jpg": "there is no such file",
        ".": "is a folder",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageReadError, match=reason) as caught:
            read_image(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("url", ["https://a.org/b.jpg", "s3://bucket/b.jpg", "file://host/b.jpg"])
def test_nothing_is_fetched(url: str) -> None:
    for source in (url, Path(url)):
        with pytest.raises(ImageReadError, match="is a URL and nothing is fetched here"):
            read_image(source)


@pytest.mark.parametrize("size", [(50_000, 50_000), (1_000, 1_000)])
def test_a_huge_header_is_refused_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(*size))
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageReadError, match=r"bomb\.png: is too large to decode safely"):
        read_image(path, max_pixels=900_000)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_the_limit_is_on_pixels_and_inclusive(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    noise(40, 60).save(path)
    assert read_image(path, max_pixels=2400).size == (60, 40)
    with pytest.raises(ImageReadError, match="60x40 is more than 2399 pixels"):
        read_image(path, max_pixels=2399)


def test_pil_warnings_stay_inside_and_filters_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.png"
    noise(40, 60).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # PIL warns from here to twice as many
    before = list(warnings.filters)
    sizes: list[tuple[int, int]] = []

    def read_often() -> None:
        sizes.extend(read_image(path).size for _ in range(20))

    threads = [threading.Thread(target=read_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [(60, 40)] * 80
    assert list(warnings.filters) == before


def test_arrays_and_tensors_give_their_pixels() -> None:
    tensor = torch.from_numpy(COLOURS.copy()).permute(2, 0, 1)
    for source in (COLOURS, tensor, tensor / 255, (tensor / 255).half()):
        assert np.array_equal(pixels_of(read_image(source)), COLOURS)


def test_a_pil_image_is_turned_upright_and_not_changed() -> None:
    picture = Image.fromarray(COLOURS)
    picture.getexif()[ORIENTATION] = 3
    assert np.array_equal(pixels_of(read_image(picture)), COLOURS[::-1, ::-1])
    assert np.array_equal(np.asarray(picture), COLOURS)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.zeros((2, 3, 3)), r"must be RGB, uint8, of shape \(H, W, 3\), got float64"),
        (np.zeros((2, 3), np.uint8), r"of shape \(2, 3\)"),
        (np.zeros((2, 3, 4), np.uint8), r"of shape \(2, 3, 4\)"),
        (np.zeros((0, 3, 3), np.uint8), r"of shape \(0, 3, 3\)"),
        (torch.zeros(2, 3, 3), r"must be RGB of shape \(3, H, W\).* of shape \(2, 3, 3\)"),
        (torch.zeros(3, 2, 2, dtype=torch.int32), "got int32"),
        (torch.full((3, 2, 2), 200.0), "from 200 to 200; divide by 255"),
        (torch.full((3, 2, 2), -0.5), r"must lie in \[0, 1\]"),
        (torch.full((3, 2, 2), torch.nan), r"must lie in \[0, 1\]"),
    ],
)
def test_other_arrays_and_tensors_are_refused_by_name(source: object, reason: str) -> None:
    with pytest.raises(ImageReadError, match=f"image 3: .*{reason}"):
        read_image(source, name="image 3")  # type: ignore[arg-type]


def test_a_member_of_an_archive_is_read_like_a_file(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.fromarray(COLOURS).save(content, "png")
    archive = tmp_path / "shard.tar"
    archive.write_bytes(b"before" + content.getvalue() + b"after")
    member = Member(archive, "a.png", offset=6, size=len(content.getvalue()))
    assert np.array_equal(pixels_of(read_image(member)), COLOURS)
    assert read_header(member).size_hw == (2, 3)


@pytest.mark.parametrize(
    ("offset", "size", "message"),
    [
        (0, 10, r"shard\.tar/a\.png: is not an image that Pillow can read"),
        (95, 10, r"shard\.tar/a\.png: its archive ends 5 bytes too early"),
        (0, 0, r"shard\.tar/a\.png: is empty"),
    ],
)
def test_an_unreadable_member_is_refused_by_name(
    tmp_path: Path, offset: int, size: int, message: str
) -> None:
    archive = tmp_path / "shard.tar"
    archive.write_bytes(b"x" * 100)
    with pytest.raises(ImageReadError, match=message):
        read_image(Member(archive, "a.png", offset, size))


def test_a_member_of_a_missing_archive_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"gone\.tar/a\.png: cannot be read \(No such file"):
        read_image(Member(tmp_path / "gone.tar", "a.png", 0, 10))


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
@pytest.mark.parametrize(
    ("orientation", "turn", "size_hw"),
    [
        (1, "none", (2, 3)),
        (3, "keeps size", (2, 3)),
        (6, "swaps sides", (3, 2)),
    ],
)
def test_a_header_tells_the_size_that_reading_gives(
    tmp_path: Path, suffix: str, orientation: int, turn: str, size_hw: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLOURS).save(path, exif=exif)
    header = read_header(path)
    assert (header.size_hw, header.exif_turn) == (size_hw, turn)
    assert read_image(path).size == size_hw[::-1]


def test_exif_behind_a_pngs_pixels_is_found(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = io.BytesIO()
    Image.fromarray(COLOURS).save(content, "png")
    late = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    path = tmp_path / "a.png"
    path.write_bytes(content.getvalue()[:-12] + late + content.getvalue()[-12:])
    assert read_header(path).size_hw == (3, 2)
    assert read_image(path).size == (2, 3)
