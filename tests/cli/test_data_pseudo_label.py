import json
from pathlib import Path

import pytest

from regionclip.cli import main
from regionclip.methods.cora.reading import save_region_prompt
from tests.evaluation.made import BOX
from tests.evaluation.painted import paint
from tests.tiny_clip import tiny_clip


@pytest.fixture
def data(workspace: Path) -> Path:
    """Two images, a box in the first."""
    dataset = paint(Path("set"), [[("cat", BOX)], []])
    images = [
        {"id": each.image_id, "file_name": each.name, "height": 100, "width": 100}
        for each in dataset
    ]
    row = {"id": 1, "image_id": 1, "category_id": 5, "bbox": [10, 10, 20, 20], "area": 400}
    content = {
        "images": images,
        "annotations": [row | {"iscrowd": 0}],
        "categories": [{"id": 5, "name": "pear"}],
    }
    path = Path("set") / "base.json"
    path.write_text(json.dumps(content))
    return path


def label(data: Path, model: str, *arguments: str, output: str = "new.json") -> int:
    command = ["data", "pseudo-label", str(data), "--output", output, "--model", model]
    return main([*command, "--proposals", "grid", "--device", "cpu", *arguments])


def test_boxes_of_novel_classes_are_added_and_counted(
    data: Path, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = data.read_bytes()
    assert label(data, model_file, "--novel", "cat, dog", "--min-score", "0") == 0
    assert data.read_bytes() == before
    new = json.loads(Path("new.json").read_text())
    assert new["annotations"][0] == json.loads(before)["annotations"][0]
    added = new["annotations"][1:]
    assert added
    assert all(each["is_pseudo"] and each["category_id"] > 5 for each in added)
    assert [each.get("split") for each in new["categories"]] == [None, "novel", "novel"]
    assert f"{len(added)} boxes in" in capsys.readouterr().out

    assert label(data, model_file, "--novel", "dog") == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_a_novel_class_with_boxes_of_people_is_refused(
    data: Path, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(data, model_file, "--novel", "dog, Pear") == 2
    assert "is of a novel class (5) already" in capsys.readouterr().err
    assert not Path("new.json").exists()


def test_a_region_prompt_is_used_to_name_boxes(data: Path, model_file: str) -> None:
    prompt = 5 * tiny_clip(seed=1).visual.attnpool.positional_embedding
    save_region_prompt("prompt.pth", prompt)
    options = ("--novel", "cat, dog", "--min-score", "0", "--max-iou", "1")
    scores = []
    for name, own in (("with", ("--region-prompt", "prompt.pth")), ("without", ())):
        assert label(data, model_file, *options, *own, output=f"{name}.json") == 0
        rows = json.loads(Path(f"{name}.json").read_text())["annotations"]
        scores.append([each.get("score") for each in rows])
    assert scores[0] != scores[1]
    assert label(data, model_file, *options, "--region-prompt", "no.pth", output="no.json") == 2


def test_an_image_that_cannot_be_read_is_named(
    data: Path, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("set/1.png").write_bytes(b"no image")
    assert label(data, model_file, "--novel", "dog", "--min-score", "0") == 1
    assert "1.png" in capsys.readouterr().err
    assert label(data, model_file, "--novel", "dog", "--workers", "0", output="no.json") == 2
