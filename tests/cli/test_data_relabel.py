import json
from pathlib import Path

import pytest

from regionclip.cli import main
from regionclip.methods.cora.reading import save_region_prompt
from tests.evaluation.made import BOX, ELSEWHERE
from tests.evaluation.painted import paint
from tests.tiny_clip import tiny_clip


@pytest.fixture
def data(workspace: Path) -> Path:
    """Three images with boxes of three classes."""
    images = [[("cat", BOX), ("cow", ELSEWHERE)], [("dog", BOX)], [("cat", ELSEWHERE)]]
    dataset = paint(Path("set"), images)
    annotations = []
    for sample in dataset:
        for box, label in zip(sample.objects.boxes.tolist(), sample.objects.labels, strict=True):
            x0, y0, x1, y1 = box
            annotations.append(
                {
                    "id": 10 + len(annotations),
                    "image_id": sample.image_id,
                    "category_id": dataset.categories[int(label)].id,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    content = {
        "images": [
            {"id": each.image_id, "file_name": each.name, "height": 100, "width": 100}
            for each in dataset
        ],
        "annotations": annotations,
        "categories": [{"id": each.id, "name": each.name} for each in dataset.categories],
    }
    path = Path("set") / "train.json"
    path.write_text(json.dumps(content))
    return path


def relabel(data: Path, model: str, *arguments: str, output: str = "new.json") -> int:
    command = ["data", "relabel", str(data), "--output", output, "--model", model]
    return main([*command, "--device", "cpu", *arguments])


def test_boxes_get_the_models_classes_and_agreement_is_printed(
    data: Path, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = data.read_bytes()
    assert relabel(data, model_file) == 0
    assert data.read_bytes() == before
    old, new = (json.loads(path.read_text()) for path in (data, Path("new.json")))
    assert new["images"] == old["images"]
    assert new["categories"] == old["categories"]
    same = 0
    for one, other in zip(old["annotations"], new["annotations"], strict=True):
        assert other["annotated_category_id"] == one["category_id"]
        assert other["category_id"] in (10, 20, 30)
        assert other["bbox"] == one["bbox"]
        same += one["category_id"] == other["category_id"]
    shown = capsys.readouterr().out
    assert f"{same} of 4 boxes are named as they were annotated ({25.0 * same:.1f} %)" in shown
    assert "written to new.json" in shown


def test_a_region_prompt_of_the_models_kind_is_used_and_another_refused(
    data: Path, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = tiny_clip().visual.attnpool.positional_embedding
    save_region_prompt("own.pth", prompt)
    save_region_prompt("other.pth", prompt[:-1])
    assert relabel(data, model_file, "--region-prompt", "own.pth") == 0
    assert relabel(data, model_file, "--region-prompt", "other.pth", output="no.json") == 2
    assert "is it one of another architecture?" in capsys.readouterr().err
    assert not Path("no.json").exists()
    assert relabel(data, model_file, "--region-prompt", "none.pth", output="no.json") == 2


def test_nothing_is_overwritten(
    data: Path, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = data.read_bytes()
    assert relabel(data, model_file, output=str(data)) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert data.read_bytes() == before


def test_an_image_that_cannot_be_read_is_named_and_keeps_its_labels(
    data: Path, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("set/1.png").write_bytes(b"no image")
    assert relabel(data, model_file) == 1
    captured = capsys.readouterr()
    assert "1.png" in captured.err
    assert "of 3 boxes" in captured.out
    third = json.loads(Path("new.json").read_text())["annotations"][2]
    assert third["category_id"] == 20
    assert "annotated_category_id" not in third


def test_counts_below_one_are_refused(
    data: Path, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert relabel(data, model_file, "--batch-size", "0") == 2
    assert "--batch-size must be at least 1, got 0" in capsys.readouterr().err
