"""``regionclip evaluate --data``: models and files of detections, judged by named protocols."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

import regionclip
from regionclip.cli import main
from regionclip.cli.evaluate import ProtocolName
from regionclip.data.readers import open_dataset
from regionclip.detect import Detector
from regionclip.evaluation.coco import evaluate_coco
from regionclip.evaluation.diverse_weather import DOMAINS
from regionclip.evaluation.finding import detect_dataset, find_in_true_boxes
from regionclip.evaluation.protocols import COLLECTIONS, PROTOCOLS
from regionclip.structures import PreparedImage
from tests.evaluation.made import Box

NAMES = ("cat", "dog", "red_bus")
BOXES: Sequence[Box] = ((0, 0, 30, 30), (30, 0, 60, 30), (10, 10, 50, 40))


def write_set(
    path: Path, *, num_images: int = 4, names: Sequence[str] = NAMES, split: bool = False
) -> Path:
    """A COCO json beside its images of noise: one box more per image, from none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(num_images):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path.parent / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "width": 60, "height": 40})
        for x0, y0, x1, y1 in BOXES[: index % 4]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": len(annotations) % len(names) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                }
            )
    categories: list[dict[str, Any]] = [
        {"id": number, "name": name} for number, name in enumerate(names, start=1)
    ]
    if split:
        for each in categories:
            each["split"] = "novel" if each["id"] == 1 else "base"
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


def truth_as_results(path: Path, *, score: float = 0.9) -> list[dict[str, Any]]:
    """What a model that finds everything writes."""
    rows = json.loads(path.read_text())["annotations"]
    return [
        {key: row[key] for key in ("image_id", "category_id", "bbox")} | {"score": score}
        for row in rows
    ]


def write_results(path: Path, rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def data(workspace: Path) -> Path:
    return write_set(Path("set/val.json"))


@pytest.fixture
def perfect(data: Path) -> Path:
    return write_results(Path("results.json"), truth_as_results(data))


@pytest.fixture
def evaluate(model_file: str, workspace: Path) -> Any:
    """Runs the command with the tiny model, given the true boxes, on names without prompts."""

    def run(*arguments: str) -> int:
        options = ["--device=cpu", "--templates=none", "--min-score=0", "--output=out"]
        return main(["evaluate", model_file, *arguments, *options])

    return run


def report(folder: str = "out") -> dict[str, Any]:
    return json.loads((Path(folder) / "report.json").read_text())


def test_the_protocols_of_the_command_are_those_of_the_library() -> None:
    assert get_args(ProtocolName) == (*PROTOCOLS, *COLLECTIONS)


def test_a_file_of_detections_needs_no_model(
    data: Path, perfect: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--detections", str(perfect), "--data", str(data), "--output", "out"]
    assert main(["evaluate", *arguments, "--per-class"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("coco on set/val.json: 4 images", "ap50", "100.0", "red_bus", "COCO: ap is the"):
        assert text in shown
    content = report()
    assert content["detections"] == "results.json"
    assert content["metrics"]["ap"] == 1.0
    assert content["splits"]["all"] == {"classes": 3, "images": 3, "boxes": 6}
    assert Path("out/report.md").read_text().startswith("# results.json\n")


@pytest.mark.parametrize("protocol", ["voc07", "voc12", "lvis", "proposals", "region-accuracy"])
def test_other_protocols_judge_the_same_file(data: Path, perfect: Path, protocol: str) -> None:
    arguments = ["--detections", str(perfect), "--data", str(data), "--output", "out"]
    assert main(["evaluate", *arguments, "--protocol", protocol]) == 0
    metrics = report()["metrics"]
    full = {"proposals": "ar_1000", "region-accuracy": "top1", "lvis": "ap"}.get(protocol, "ap50")
    assert metrics[full] == 1.0


def test_a_model_is_judged_as_in_the_library(evaluate: Any, data: Path, model_file: str) -> None:
    assert evaluate("--data", str(data), "--boxes", "truth") == 0
    detector = regionclip.load(model_file)
    dataset = open_dataset(data)
    options = detector.defaults
    options = type(options)(
        selection=type(options.selection)(min_score=0.0),
        objectness_fusion=options.objectness_fusion,
    )
    vocabulary = detector.vocabulary(("cat", "dog", "red bus"), templates="none")
    found = [
        type(own)(own.boxes, own.scores, own.labels, dataset.class_names)
        for own in detect_dataset(detector, dataset, vocabulary, options, find=find_in_true_boxes)
    ]
    expected = evaluate_coco(dataset, found).metrics
    metrics = report()["metrics"]
    assert metrics["ap"] == pytest.approx(expected["ap"], abs=1e-9)
    assert 0 < metrics["ap"] < 1
    assert report()["settings"]["selection"]["min_score"] == 0.0


def test_names_of_true_boxes_and_proposals_are_judged(evaluate: Any, data: Path) -> None:
    assert evaluate("--data", str(data), "--protocol", "region-accuracy") == 0
    assert 0 < report()["metrics"]["top1"] < 1
    assert report()["metrics"]["top5"] == 1.0  # of three classes
    options = ["--protocol", "proposals", "--proposals", "grid", "--no-resume"]
    assert evaluate("--data", str(data), *options) == 0
    assert report()["metrics"]["ar_1000"] > 0


def test_images_that_cannot_be_read_are_named_and_counted_as_empty(
    evaluate: Any, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("set/2.png").write_bytes(b"no image")
    assert evaluate("--data", str(data), "--boxes", "truth") == 1
    captured = capsys.readouterr()
    assert "set/2.png: is not an image that Pillow can read" in captured.err
    assert "1 images could not be read and count as images" in " ".join(captured.out.split())
    assert report()["num_images"] == 4
    assert "set/2.png" in report()["notes"][0]


def count_images(monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> list[str]:
    seen: list[str] = []
    original = Detector.detect_prepared

    def counted(self: Detector, images: list[PreparedImage], *args: Any, **kwargs: Any) -> Any:
        if fail_at is not None and len(seen) >= fail_at:
            raise KeyboardInterrupt
        seen.extend(image.name for image in images)
        return original(self, images, *args, **kwargs)

    monkeypatch.setattr(Detector, "detect_prepared", counted)
    return seen


def test_a_run_that_was_stopped_goes_on_to_the_same_figures(
    evaluate: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--data", str(data), "--boxes", "truth")
    assert evaluate(*arguments) == 0
    whole = report()
    with monkeypatch.context() as patch:
        count_images(patch, fail_at=2)
        assert evaluate(*arguments, "--no-resume") == 130
    seen = count_images(monkeypatch)
    assert evaluate(*arguments) == 0
    assert seen == ["set/2.png", "set/3.png"]
    assert report() == whole
    assert evaluate(*arguments, "--protocol", "voc07") == 0  # of the same detections
    assert len(seen) == 2
    assert evaluate(*arguments, "--nms-iou", "0.3") == 2  # of others


def test_what_other_processes_had_done_is_taken_over(
    evaluate: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--data", str(data), "--boxes", "truth")
    assert evaluate(*arguments) == 0
    whole = report()
    lines = Path("out/detections.jsonl").read_text().splitlines(keepends=True)
    Path("out/detections.jsonl").write_text("".join(lines[:2]))
    Path("out/detections.1.jsonl").write_text("".join([lines[0], lines[3]]))
    seen = count_images(monkeypatch)
    assert evaluate(*arguments) == 0
    assert seen == ["set/1.png", "set/3.png"]
    assert report() == whole
    assert not Path("out/detections.1.jsonl").exists()


def test_expectations_decide_the_exit_code(
    data: Path, perfect: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "--detections", str(perfect), "--data", str(data)]
    assert main([*arguments, "--expect", "ap=99.8, ap50=100"]) == 0
    assert "met" in capsys.readouterr().out
    assert main([*arguments, "--expect", "ap=99", "--output", "out"]) == 1
    assert "MISSED" in capsys.readouterr().out
    assert report()["expected"][0] == {
        "metric": "ap",
        "got": 100.0,
        "expected": 99.0,
        "tolerance": 0.5,
        "met": False,
        "source": "you",
    }
    assert "MISSED" in Path("out/report.md").read_text()
    assert main([*arguments, "--expect", "ap=99", "--tolerance", "1"]) == 0


def test_published_figures_are_expected_by_recipe(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_set(Path("set/val.json"), split=True)
    results = write_results(Path("results.json"), truth_as_results(data))
    arguments = ["--detections", str(results), "--data", str(data), "--protocol", "ov-coco"]
    options = ["--expect", "paper", "--recipe", "regionclip-ov-coco-rn50"]
    assert main(["evaluate", *arguments, *options]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "31.40" in shown
    assert "+68.60" in shown


def test_one_split_alone_is_named_only_by_its_own_classes(evaluate: Any, workspace: Path) -> None:
    data = write_set(Path("set/val.json"), split=True)
    options = ("--data", str(data), "--boxes", "truth")
    assert evaluate(*options, "--protocol", "ov-coco-novel") == 0
    content = report()
    assert content["protocol"] == "ov-coco-novel"
    assert content["metrics"]["ap50_base"] is None
    assert [each["name"] for each in content["classes"]] == ["cat"]
    assert content["num_images"] == 4


def test_classes_can_be_chosen_and_images_left_out(evaluate: Any, data: Path) -> None:
    options = ("--data", str(data), "--boxes", "truth", "--images", "annotated")
    assert evaluate(*options, "--classes", "red bus, dog") == 0
    content = report()
    assert [each["name"] for each in content["classes"]] == ["red_bus", "dog"]
    assert content["num_images"] == 2
    assert "2 images without an annotation are left out" in content["notes"][-1]
    assert evaluate(*options, "--classes", "horse") == 2


def test_names_beside_the_datas_take_part_and_are_not_judged(
    evaluate: Any, data: Path, model_file: str
) -> None:
    options = ("--data", str(data), "--boxes", "truth")
    assert evaluate(*options) == 0
    alone = report()["metrics"]
    assert evaluate(*options, "--also-named", "Dog, horse, zebra", "--no-resume") == 0
    content = report()
    assert [each["name"] for each in content["classes"]] == list(NAMES)
    assert content["notes"] == ["2 classes more were named, and are not judged."]
    # as if detections of all were left out by hand
    dataset, model = open_dataset(data), regionclip.load(model_file)
    names = model.vocabulary(("cat", "dog", "red bus", "horse", "zebra"), templates="none")
    chosen = replace(model.defaults, selection=replace(model.defaults.selection, min_score=0.0))
    found = [
        replace(each.select(each.labels < 3), class_names=NAMES)
        for each in detect_dataset(model, dataset, names, chosen, find=find_in_true_boxes)
    ]
    assert content["metrics"] == evaluate_coco(dataset, found).to_dict()["metrics"]
    assert content["metrics"] != alone


def test_vectors_of_a_file_are_put_under_the_names_of_the_data(
    evaluate: Any, data: Path, model_file: str
) -> None:
    vocabulary = regionclip.load(model_file).vocabulary(("dog", "Red bus", "cat"), templates="none")
    vocabulary.save("names.safetensors")
    options = ["--data", str(data), "--boxes", "truth"]
    assert evaluate(*options) == 0
    by_name = report()["metrics"]
    arguments = ["evaluate", model_file, *options, "--classes", "names.safetensors"]
    assert main([*arguments, "--device=cpu", "--min-score=0", "--output", "by_file"]) == 0
    metrics = report("by_file")["metrics"]
    # 'red bus' and 'Red bus' are one prompt to the tokenizer
    assert metrics["ap"] == pytest.approx(by_name["ap"], abs=1e-6)


def test_synonyms_are_what_the_model_is_asked_for(
    evaluate: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("synonyms.txt").write_text("cat = dachshund\n")
    asked: list[tuple[str, ...]] = []
    from regionclip.cli import classes

    original = classes.open_vocabulary

    def noted(detector: Any, names: Any, templates: Any) -> Any:
        asked.append(names)
        return original(detector, names, templates)

    monkeypatch.setattr(classes, "open_vocabulary", noted)
    arguments = ("--data", str(data), "--boxes", "truth", "--synonyms", "synonyms.txt")
    assert evaluate(*arguments) == 0
    assert asked == [("dachshund", "dog", "red bus")]
    assert [each["name"] for each in report()["classes"]] == list(NAMES)
    Path("synonyms.txt").write_text("cart = wagon\n")
    assert evaluate(*arguments) == 2


def test_class_embeddings_of_a_file_take_their_names_from_the_command(
    evaluate: Any, data: Path, model_file: str
) -> None:
    vocabulary = regionclip.load(model_file).vocabulary(("dog", "red bus", "cat"), templates="none")
    np.save("rows.npy", vocabulary.embeddings.numpy())
    options = ["--data", str(data), "--boxes", "truth"]
    assert evaluate(*options) == 0
    by_name = report()["metrics"]
    arguments = ["evaluate", model_file, *options, "--classes", "rows.npy", "--device=cpu"]
    names = ["--class-names", "dog, red bus, cat", "--min-score=0", "--output", "by_file"]
    assert main([*arguments, *names]) == 0
    assert report("by_file")["metrics"]["ap"] == pytest.approx(by_name["ap"], abs=1e-6)


@pytest.fixture
def weathers(workspace: Path) -> Path:
    for domain in DOMAINS:
        path = write_set(Path("dwd") / domain / "val.json", names=("bike", "car"))
        path.rename(Path("dwd") / f"{domain}.json")
        for image in path.parent.glob("*.png"):
            image.rename(Path("dwd") / f"{domain}-{image.name}")
        json_path = Path("dwd") / f"{domain}.json"
        content = json.loads(json_path.read_text())
        for each in content["images"]:
            each["file_name"] = f"{domain}-{each['file_name']}"
        json_path.write_text(json.dumps(content))
        path.parent.rmdir()
    return Path("dwd")


def test_weathers_are_reported_by_domain_rule_and_prompts(evaluate: Any, weathers: Path) -> None:
    options = ["--protocol", "diverse-weather", "--boxes", "truth", "--weather-prompts"]
    options += ["--synonyms", "diverse_weather7"]
    assert evaluate("--data", str(weathers), *options) == 0
    content = report()
    assert len(content["parts"]) == 3 * 5
    for rule in ("voc07", "coco"):
        for ending in ("", "_synonyms", "_weather_prompts"):
            assert content["metrics"][f"{rule}_targets{ending}"] is not None
    assert list(content["splits"]) == list(DOMAINS)
    markdown = Path("out/report.md").read_text()
    assert "| synonyms |" in markdown
    assert "| bike |" in markdown
    names = {path.name for path in Path("out/detections").iterdir()}
    assert "night_rainy-own-names.jsonl" in names
    assert len(names) == 15


def test_weathers_are_judged_from_a_folder_of_files(weathers: Path) -> None:
    for domain in DOMAINS:
        rows = truth_as_results(weathers / f"{domain}.json")
        write_results(Path("found") / f"{domain}.json", rows)
    arguments = ["--detections", "found", "--data", "dwd", "--protocol", "diverse-weather"]
    assert main(["evaluate", *arguments, "--output", "out"]) == 0
    assert report()["metrics"]["voc07_targets"] == 1.0
    (Path("found") / "dusk_rainy.json").unlink()
    assert main(["evaluate", *arguments]) == 2


def write_voc(folder: Path, lists: dict[str, Sequence[str]], *, name: str) -> None:
    """A VOC folder: one object of 20 x 20 pixels in every image, pixels counted from 1."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for which, images in lists.items():
        (folder / "ImageSets" / "Main" / f"{which}.txt").write_text("\n".join(images) + "\n")
        for image in images:
            pixels = np.zeros((40, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "JPEGImages" / f"{image}.jpg")
            (folder / "Annotations" / f"{image}.xml").write_text(
                f"<annotation><filename>{image}.jpg</filename><size><width>60</width>"
                f"<height>40</height><depth>3</depth></size><object><name>{name}</name><bndbox>"
                "<xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>30</ymax></bndbox></object>"
                "</annotation>"
            )


def test_weathers_in_voc_folders_are_judged_on_the_list_that_is_named(workspace: Path) -> None:
    for domain in ("daytime_clear", "night_rainy"):
        lists = {"train": ("a", "b"), "test": ("c",)}
        write_voc(Path("dwd") / domain / "VOC2007", lists, name=" Bike ")
    found = {
        "images": [{"id": index, "file_name": f"{name}.jpg"} for index, name in enumerate("abc")],
        "categories": [{"id": 1, "name": "bike"}],
        "annotations": [
            # 20 x 20 pixels, as edges
            {"image_id": index, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}
            for index in range(3)
        ],
    }
    arguments = ["--detections", "found", "--data", "dwd", "--protocol", "diverse-weather"]
    for target_list, num_images in (("train", 2), ("test", 1)):
        for domain in ("daytime_clear", "night_rainy"):
            last = 2 if domain == "night_rainy" and target_list == "train" else 3
            first = 0 if last == 2 else 2
            own = {**found, "images": found["images"][first:last]}
            own["annotations"] = found["annotations"][first:last]
            write_results(Path("found") / f"{domain}.json", own)
        options = ["--target-list", target_list, "--output", "out"]
        assert main(["evaluate", *arguments, *options]) == 0
        content = report()
        assert content["splits"]["night_rainy"]["images"] == num_images
        assert content["splits"]["daytime_clear"]["images"] == 1
        assert content["metrics"]["voc07_targets"] == 1.0
        assert content["metrics"]["coco_daytime_clear"] == 1.0


def test_a_folder_of_sets_is_averaged(workspace: Path) -> None:
    for name in ("Aquarium/raw", "pothole"):
        data = write_set(Path("odinw") / name / "test" / "labels.json")
        rows = truth_as_results(data) if name == "pothole" else []
        write_results(Path("found") / f"{name}.json", rows)
    arguments = ["--detections", "found", "--data", "odinw", "--protocol", "odinw"]
    assert main(["evaluate", *arguments, "--split", "test", "--output", "out"]) == 0
    assert report()["metrics"]["ap"] == 0.5
    assert report()["metrics"]["ap_pothole"] == 1.0


def test_detections_of_other_classes_are_refused_or_left_out(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*truth_as_results(data), {**truth_as_results(data)[0], "category_id": 9}]
    results = write_results(Path("results.json"), rows)
    arguments = ["evaluate", "--detections", str(results), "--data", str(data)]
    assert main(arguments) == 2
    assert "entry 6 has category 9, which the data set does not have" in capsys.readouterr().err
    assert main([*arguments, "--other-names", "drop", "--output", "out"]) == 0
    assert report()["metrics"]["ap"] == 1.0


def test_masks_are_read_from_a_file(workspace: Path) -> None:
    data = write_set(Path("set/val.json"), num_images=2)
    content = json.loads(data.read_text())
    (row,) = content["annotations"]
    row["segmentation"] = [[0, 0, 30, 0, 30, 30, 0, 30]]
    data.write_text(json.dumps(content))
    from regionclip.detections.run_lengths import encode_masks

    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[:30, :30] = True
    segmentation = {"size": [40, 60], "counts": encode_masks(mask[None])[0]}
    rows = [{**truth_as_results(data)[0], "segmentation": segmentation}]
    write_results(Path("results.json"), rows)
    arguments = ["--detections", "results.json", "--data", str(data), "--protocol", "lvis-masks"]
    assert main(["evaluate", *arguments, "--output", "out"]) == 0
    assert report()["metrics"]["ap"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--protocol", "coco"], "--protocol: needs --data; without it icons are drawn"),
        (["--classes", "cat"], "--classes: needs --data"),
        (["--class-names", "cat"], "--class-names: needs --data"),
        (["--data", "set/val.json"], "name a model, or a file of its detections"),
        (["m", "--data", "d", "--detections", "r.json"], "with --detections, not both"),
        (["m", "--data", "d", "--boxes", "truth", "--protocol", "proposals"], "--boxes truth: the"),
        (["--also-named", "coco80"], "--also-named: needs --data"),
        (
            ["--data", "d", "--detections", "r.json", "--also-named", "cat"],
            "--also-named: is for models; these detections are made already",
        ),
        (
            ["m", "--data", "d", "--also-named", "cat", "--protocol", "region-macc"],
            "--also-named: is for protocols of detections, not for region-macc",
        ),
        (["m", "--data", "d", "--weather-prompts"], "--weather-prompts: are for models with"),
        (["m", "--data", "d", "--expect", "paper"], "--expect paper and --recipe NAME go together"),
        (["m", "--data", "d", "--recipe", "x"], "--expect paper and --recipe NAME go together"),
        (
            ["m", "--data", "d", "--expect", "paper", "--recipe", "x"],
            "no published figures are known of 'x'",
        ),
        (["m", "--data", "d", "--expect", "high"], "'high' is no expectation"),
        (["m", "--data", "nothing.json"], "nothing.json does not exist"),
        (["m", "--data", "set/val.json", "--output", "set/val.json"], "is a file; give a folder"),
        (
            ["m", "--data", "set/val.json", "--image-root", "elsewhere"],
            "none of the 4 images of set/val.json is there (the first: elsewhere/0.png); say which",
        ),
        (["m", "--data", "set/val.json", "--workers", "0"], "--workers must be at least 1, got 0"),
        (["m", "--data", "set/val.json", "--protocol", "ov-coco"], "does not say which classes"),
        (["m", "--data", "set", "--protocol", "diverse-weather"], "has no domain of Diverse"),
        (
            ["m", "--data", "set", "--protocol", "diverse-weather", "--split", "test"],
            "the source's list 'test' and on the targets'",
        ),
        (["m", "--data", "set/val.json", "--protocol", "odinw"], "is no folder of data sets"),
        (["m", "--data", "set/val.json", "--boxes", "truth"], "'m'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert main(["evaluate", *arguments]) == 2
    shown = capsys.readouterr().err
    assert reason in shown
    assert shown.startswith("error: ")
    assert len(shown.splitlines()) == 1
