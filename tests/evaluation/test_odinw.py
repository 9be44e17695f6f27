import math
from pathlib import Path

import pytest

from regionclip.evaluation.odinw import evaluate_odinw, find_sets

from .made import BOX, dataset, found


def test_the_mean_does_not_weigh_sets_by_size() -> None:
    small, large = dataset([[("cat", BOX)]], ("cat",)), dataset([[("pawn", BOX)]] * 9, ("pawn",))
    report = evaluate_odinw(
        {"small": small, "large": large},
        {
            "small": [found(("cat", BOX, 0.9), names=("cat",))],
            "large": [found(names=("pawn",))] * 9,
        },
    )
    assert report.metrics["ap"] == 0.5
    assert (report.metrics["ap_small"], report.metrics["ap_large"]) == (1.0, 0.0)
    assert report.num_images == 10
    assert report.tables[0].rows[1][:4] == ("large", "1", "9", "9")
    assert [part.source for part in report.parts] == ["made.json", "made.json"]


def test_sets_without_boxes_are_not_in_the_mean_and_are_named() -> None:
    report = evaluate_odinw(
        {"a": dataset([[("cat", BOX)]]), "b": dataset([[]])},
        {"a": [found(("cat", BOX, 0.9))], "b": [found()]},
    )
    assert report.metrics["ap"] == 1.0
    assert math.isnan(report.metrics["ap_b"])
    assert report.notes == ("Without a box, and so not in the mean: b.",)


def test_no_sets_or_no_detections_are_refused() -> None:
    with pytest.raises(ValueError, match="no data set to take a mean over"):
        evaluate_odinw({}, {})
    with pytest.raises(ValueError, match="no detections of the data set a"):
        evaluate_odinw({"a": dataset([])}, {})


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def test_sets_are_found_below_a_folder(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "Aquarium/raw/test/annotations_without_background.json",
        "Aquarium/raw/test/annotations.json",
        "Aquarium/raw/valid/annotations.json",
        "pothole/test/labels.json",
    )
    assert {name: path.name for name, path in find_sets(tmp_path, "test").items()} == {
        "Aquarium/raw": "annotations_without_background.json",
        "pothole": "labels.json",
    }
    assert list(find_sets(tmp_path, "valid")) == ["Aquarium/raw"]
    with pytest.raises(ValueError, match="holds no COCO json inside folders called train"):
        find_sets(tmp_path, "train")


def test_a_folder_of_single_files_is_a_set_per_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.json", "b.json", "c/instances.json")
    assert list(find_sets(tmp_path, "")) == ["a", "b", "c"]
    touch(tmp_path, "c/more.json")
    with pytest.raises(ValueError, match=r"c in .* has several jsons \(instances.json, more.json"):
        find_sets(tmp_path, "")
    with pytest.raises(ValueError, match="holds no COCO json; give a folder of data sets"):
        find_sets(tmp_path / "nothing", "")
