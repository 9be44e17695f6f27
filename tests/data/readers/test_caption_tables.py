from pathlib import Path

import pytest

from regionclip.data.readers.caption_tables import is_caption_header, read_caption_table


def table(folder: Path, content: str) -> Path:
    path = folder / "captions.csv"
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        'image,caption\na.jpg,"a dog, running"\nb.jpg,a cat\na.jpg,the dog\nc.jpg, \n',
        "\ufefffilepath\ttitle\r\na.jpg\ta dog, running\r\nb.jpg\ta cat\r\na.jpg\tthe dog\r\n"
        "c.jpg\t\r\n",
        'n, Caption ,File\n1,"a dog, running", a.jpg \n\n2,a cat,b.jpg\n3,the dog,a.jpg\n'
        "4,,c.jpg\n",
    ],
)
def test_rows_of_an_image_gather_in_the_order_of_the_table(tmp_path: Path, content: str) -> None:
    dataset = read_caption_table(table(tmp_path, content))
    assert [each.image_id for each in dataset] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [each.captions for each in dataset] == [("a dog, running", "the dog"), ("a cat",), ()]
    assert dataset.categories == ()
    assert dataset.samples[0].image == tmp_path / "a.jpg"


def test_images_are_found_near_the_table_or_where_they_are_said_to_be(tmp_path: Path) -> None:
    path = table(tmp_path, "image,caption\na.jpg,a dog\n")
    assert read_caption_table(path, image_root="x").samples[0].image == Path("x/a.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    assert read_caption_table(path).samples[0].image == tmp_path / "images" / "a.jpg"


def test_a_caption_in_quotes_may_have_several_lines(tmp_path: Path) -> None:
    dataset = read_caption_table(table(tmp_path, 'image,text\na.jpg,"a dog\nand a cat"\n'))
    assert dataset.samples[0].captions == ("a dog\nand a cat",)


def test_captions_in_another_encoding_are_kept_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "captions.csv"
    path.write_bytes(b"image,caption\na.jpg,a caf\xe9\nb.jpg,a caf\xc3\xa9\nc.jpg,th\xe9,\n")
    dataset = read_caption_table(path)
    assert [each.captions for each in dataset] == [
        ("a caf\ufffd",),
        ("a caf\u00e9",),
        ("th\ufffd",),
    ]
    assert caplog.messages == [f"{path}: 2 captions are not in UTF-8; they are kept"]


def test_a_table_without_rows_is_an_empty_data_set(tmp_path: Path) -> None:
    assert len(read_caption_table(table(tmp_path, "image,caption\n"))) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column of images; expected one of image, file, .* got an empty file"),
        (b"photo,caption\n", "no column of images; .* got photo, caption"),
        (b"image,words\n", "no column of captions; expected one of caption, title, text"),
        (b"image,caption\na.jpg,x\nb.jpg\n", r"captions\.csv:3: the row has no image"),
        (b"image,caption\n ,x\n", r"captions\.csv:2: the row has no image"),
        (b"image,caption\n\xff,x\n", r"captions\.csv:2: the image '\ufffd' is not named in UTF-8"),
        (b'image,caption\na,"' + b"x" * 200_000, "cannot be read as a table: field larger"),
    ],
)
def test_an_unusable_table_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "captions.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_caption_table(path)
    assert "captions.csv" in str(error.value)


def test_a_missing_table_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.csv cannot be read as a table: .*No such file"):
        read_caption_table(tmp_path / "gone.csv")


def test_a_header_is_recognised_by_both_columns() -> None:
    assert is_caption_header("image,caption")
    assert is_caption_header("Filepath\tTitle")
    assert not is_caption_header("image,label")
    assert not is_caption_header("")
