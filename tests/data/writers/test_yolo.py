from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from regionclip.data.datasets import Category, Dataset, Objects, Sample
from regionclip.data.readers import open_dataset
from regionclip.data.writers import write_yolo

NAMES = ("cat", "no", "Kühlschrank: groß")


def objects(*rows: tuple[list[float], int], **flags: list[Any]) -> Objects:
    crowd = torch.tensor(flags.pop("is_crowd", [False] * len(rows)))
    made = Objects.from_rows([box for box, _ in rows], [label for _, label in rows], **flags)
    return Objects(made.boxes, made.labels, crowd, made.is_difficult, made.segmentations)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 20)).save(folder / name)
    return folder


def dataset(folder: Path, *annotated: Objects, names: tuple[str, ...] = NAMES) -> Dataset:
    samples = tuple(
        Sample(f"{letter}.png", folder / f"{letter}.png", letter, (20, 40), own)
        for letter, own in zip("ab", annotated, strict=False)
    )
    categories = tuple(Category(name, 10 * number) for number, name in enumerate(names))
    return Dataset("my", categories, samples)


def test_what_is_written_is_read_again(tmp_path: Path, pictures: Path) -> None:
    first = objects(([1.25, 2, 30, 19.5], 2), ([0, 0, 40, 20], 0))
    source = dataset(pictures, first, Objects.empty())
    losses = write_yolo(tmp_path / "out", {"train": source, "val": source})
    assert losses.sentences() == []
    again = open_dataset(tmp_path / "out", split="train")
    assert again.class_names == NAMES
    torch.testing.assert_close(again.samples[0].objects.boxes, first.boxes)
    assert again.samples[0].objects.labels.tolist() == [2, 0]
    assert [len(each.objects) for each in again] == [2, 0]
    assert [each.name for each in again] == ["images/train/a.png", "images/train/b.png"]
    assert (tmp_path / "out" / "images" / "val" / "a.png").samefile(pictures / "a.png")
    assert (tmp_path / "out" / "labels" / "train" / "b.txt").read_text() == ""


def test_a_line_is_class_centre_and_size(tmp_path: Path, pictures: Path) -> None:
    write_yolo(tmp_path / "out", {"train": dataset(pictures, objects(([10, 5, 30, 20], 1)))})
    text = (tmp_path / "out" / "labels" / "train" / "a.txt").read_text()
    assert text == "1 0.50000000 0.62500000 0.50000000 0.75000000\n"
    content = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert content == {"train": "images/train", "names": dict(enumerate(NAMES))}


def test_what_yolo_cannot_hold_is_left_out_and_said(tmp_path: Path, pictures: Path) -> None:
    annotated = objects(
        ([-5, 5, 10, 30], 0),  # clipped
        ([50, 0, 60, 10], 0),  # outside
        ([5, 5, 5, 9], 0),  # without area
        ([0, 0, 20, 20], 1),  # a crowd
        ([0, 0, 20, 10], 1),
        is_crowd=[False, False, False, True, False],
        is_difficult=[False, False, False, False, True],
        segmentations=[[[0, 0, 1, 0, 1, 1]], None, None, None, None],
    )
    losses = write_yolo(tmp_path / "out", {"train": dataset(pictures, annotated)})
    assert losses.num_left_out == 3
    assert losses.sentences() == [
        "1 crowds (iscrowd) left out",
        "1 boxes clipped to their image",
        "2 boxes without area in their image left out",
        "1 difficult objects written as any other",
        "1 masks left out; their boxes are written",
    ]
    (sample,) = open_dataset(tmp_path / "out")
    torch.testing.assert_close(
        sample.objects.boxes, torch.tensor([[0.0, 5, 10, 20], [0, 0, 20, 10]])
    )
    assert (tmp_path / "out" / "data.yaml").read_text().startswith("# 1 crowds (iscrowd) left out")


@pytest.mark.parametrize(
    ("names", "message"),
    [(("cat", "dog"), r"have different classes \(cat, no, .*; cat, dog\)"), ((), "no categories")],
)
def test_classes_must_be_there_and_the_same(
    tmp_path: Path, pictures: Path, names: tuple[str, ...], message: str
) -> None:
    datasets: dict[str, Any] = {"val": dataset(pictures, Objects.empty(), names=names)}
    if names:
        datasets = {"train": dataset(pictures, Objects.empty())} | datasets
    with pytest.raises(ValueError, match=message):
        write_yolo(tmp_path / "out", datasets)
