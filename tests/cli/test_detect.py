import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from faster_coco_eval import COCO
from PIL import Image
from pyarrow import parquet

from regionclip import load
from regionclip.cli import main
from regionclip.detect import Detector
from regionclip.methods.regionclip import Config, build
from regionclip.methods.regionclip.reading import ReadModel, save_model
from regionclip.structures import Detections, PreparedImage, Proposals
from tests.tiny import TINY_CONFIG, tiny_model
from tests.tiny_clip import TINY, tiny_clip

OUTPUT = Path("out")


@pytest.fixture
def detect(model_file: str, photos: Path) -> Any:
    """Runs the command on a grid, with the first 3 boxes of anything."""

    def run(*arguments: str, classes: str = "cat, red [bus]") -> int:
        options = {
            "--model": model_file,
            "--proposals": "grid",
            "--device": "cpu",
            "--templates": "none",
            "--min-score": "0",
            "--max-detections": "3",
            "--classes": classes,
            "--output": "out",
        }
        own = [f"{name}={value}" for name, value in options.items() if name not in arguments]
        return main(["detect", *arguments, *own])

    return run


def read_json(name: str) -> Any:
    return json.loads((OUTPUT / name).read_text())


def count_images(monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> list[str]:
    """Names of the images that the detector gets, until it is stopped at image ``fail_at``."""
    seen: list[str] = []
    original = Detector.detect_prepared

    def counted(self: Detector, images: list[PreparedImage], *args: Any, **kwargs: Any) -> Any:
        if fail_at is not None and len(seen) >= fail_at:
            raise KeyboardInterrupt
        seen.extend(image.name for image in images)
        return original(self, images, *args, **kwargs)

    monkeypatch.setattr(Detector, "detect_prepared", counted)
    return seen


def test_a_folder_becomes_a_coco_json_pictures_and_a_table(
    detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect("photos") == 0
    found = read_json("detections.json")
    names = ["photos/a.jpg", "photos/b.png", "photos/sub/a.jpg"]
    assert [each["file_name"] for each in found["images"]] == names
    assert {(each["width"], each["height"]) for each in found["images"]} == {(60, 40)}
    assert [(each["id"], each["name"]) for each in found["categories"]] == [
        (1, "cat"),
        (2, "red [bus]"),
    ]
    assert [each["image_id"] for each in found["annotations"]] == [1] * 3 + [2] * 3 + [3] * 3
    for name in ("a.jpg", "b.jpg", "sub/a.jpg"):
        with Image.open(OUTPUT / "pictures" / name) as picture:
            assert picture.format == "JPEG"
    shown = capsys.readouterr().out
    assert "red [bus]" in shown
    assert "3 images done" in shown


def test_detections_are_those_of_the_library(detect: Any, model_file: str) -> None:
    assert detect("photos/a.jpg", "--format", "coco-results") == 0
    detector = load(model_file, proposals="grid")
    vocabulary = detector.vocabulary(["cat", "red [bus]"], templates="none")
    expected = detector.detect("photos/a.jpg", vocabulary)
    assert isinstance(expected, Detections)
    rows = expected.to_coco(1)[:3]
    assert read_json("results.json") == rows
    assert not (OUTPUT / "detections.json").exists()


def test_each_box_may_appear_once_with_its_best_name(
    detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("boxes.csv").write_text("image,x0,y0,x1,y1\na.jpg,0,0,30,30\na.jpg,9,5,60,40\n")
    options = ["--format", "coco-results,parquet", "--proposals", "boxes.csv"]
    options += ["--max-detections", "4"]
    assert detect("photos/a.jpg", *options) == 0
    every = read_json("results.json")
    assert len(every) == 4
    assert detect("photos/a.jpg", *options, "--unique-boxes") == 2
    assert "unique_boxes was false, now true" in capsys.readouterr().err
    assert detect("photos/a.jpg", *options, "--unique-boxes", "--no-resume") == 0
    best = {tuple(row["bbox"]): row for row in reversed(every)}
    assert read_json("results.json") == [row for row in every if row in best.values()]
    assert parquet.read_table(OUTPUT / "detections.parquet").num_rows == len(best) == 2
    assert "2 boxes: " in capsys.readouterr().out


@pytest.fixture
def mask_model(tmp_path: Path) -> str:
    """A detector with a mask head, as those fine-tuned on LVIS have."""
    path = tmp_path / "masks.safetensors"
    model = tiny_model(replace(TINY_CONFIG, mask_head=True))
    assert model.mask_head is not None
    for parameter in model.mask_head.parameters():  # so that masks are neither empty nor full
        torch.nn.init.normal_(parameter)
    save_model(path, ReadModel(model, has_text_tower=True, reports=()))
    return str(path)


def test_masks_are_those_of_the_library_in_every_format(detect: Any, mask_model: str) -> None:
    options = ["--model", mask_model, "--masks", "--format", "coco,coco-results,parquet"]
    assert detect("photos/a.jpg", *options) == 0
    detector = load(mask_model, proposals="grid")
    selection = replace(detector.defaults.selection, min_score=0.0, max_detections=3)
    wanted = replace(detector.defaults, selection=selection, with_masks=True)
    vocabulary = detector.vocabulary(["cat", "red [bus]"], templates="none")
    expected = detector.detect("photos/a.jpg", vocabulary, options=wanted)
    assert isinstance(expected, Detections)
    assert expected.masks is not None
    assert 0 < expected.masks.float().mean() < 1
    coco = COCO(str(OUTPUT / "detections.json"))
    annotations = coco.loadAnns(coco.getAnnIds())
    masks = torch.stack([torch.from_numpy(coco.annToMask(each)).bool() for each in annotations])
    assert torch.equal(masks, expected.masks)
    assert [each["area"] for each in annotations] == masks.sum(dim=(1, 2)).tolist()
    segmentations = [each["segmentation"] for each in annotations]
    assert [row["segmentation"] for row in read_json("results.json")] == segmentations
    rows = parquet.read_table(OUTPUT / "detections.parquet").to_pylist()
    assert [row["mask"] for row in rows] == segmentations
    assert segmentations[0]["size"] == [40, 60]


def test_masks_are_drawn_also_from_what_is_known(detect: Any, mask_model: str) -> None:
    options = ["photos/a.jpg", "--model", mask_model]
    assert detect(*options, "--masks") == 0
    picture = OUTPUT / "pictures" / "a.jpg"
    drawn = picture.read_bytes()
    picture.unlink()
    assert detect(*options, "--masks", "--sheet", "sheet.png") == 0
    assert picture.read_bytes() == drawn
    assert detect(*options, "--output", "boxes") == 0
    assert Path("boxes/pictures/a.jpg").read_bytes() != drawn


def test_without_detections_there_are_no_masks(detect: Any, mask_model: str) -> None:
    options = ["--model", mask_model, "--masks", "--min-score", "2"]
    assert detect("photos", *options, "--format", "coco,parquet", "--sheet", "sheet.png") == 0
    assert read_json("detections.json")["annotations"] == []
    assert parquet.read_table(OUTPUT / "detections.parquet").num_rows == 0


def test_a_damaged_mask_is_named(
    detect: Any, mask_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect("photos/a.jpg", "--model", mask_model, "--masks", "--no-pictures") == 0
    journal = OUTPUT / "detections.jsonl"
    first, entry = journal.read_text().splitlines()
    content = json.loads(entry)
    content["masks"][0] = "xx"
    journal.write_text(f"{first}\n{json.dumps(content)}\n")
    assert detect("photos/a.jpg", "--model", mask_model, "--masks") == 2
    assert "photos/a.jpg: mask 0 is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "has no mask head; models fine-tuned on LVIS have one"),
        (["--regions", "crops"], "--masks are cut from the map of the image; leave out --regions"),
    ],
)
def test_masks_that_cannot_be_had_are_refused_before_anything_is_written(
    detect: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert detect("photos", "--masks", *arguments) == 2
    assert reason in capsys.readouterr().err
    assert not OUTPUT.exists()


def test_regions_may_be_whole_crops(
    detect: Any, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect("photos/a.jpg", "--format", "coco-results", "--regions", "crops") == 0
    detector = load(model_file, proposals="grid", regions="crops")
    vocabulary = detector.vocabulary(["cat", "red [bus]"], templates="none")
    expected = detector.detect("photos/a.jpg", vocabulary)
    assert isinstance(expected, Detections)
    rows = read_json("results.json")
    assert rows == expected.to_coco(1)[:3]
    assert detect("photos/a.jpg", "--format", "coco-results") == 2
    assert 'regions was "crops", now "map"' in capsys.readouterr().err
    assert detect("photos/a.jpg", "--format", "coco-results", "--no-resume") == 0
    assert read_json("results.json") != rows


def test_parquet_has_the_same_rows(detect: Any) -> None:
    assert detect("photos", "--format", "parquet,coco-results", "--no-pictures") == 0
    rows = parquet.read_table(OUTPUT / "detections.parquet").to_pylist()
    results = read_json("results.json")
    assert len(rows) == len(results) == 9
    assert rows[0]["image"] == "photos/a.jpg"
    assert rows[0]["name"] == ("cat", "red [bus]")[rows[0]["label"]]
    x, y, width, height = results[4]["bbox"]
    box = [rows[4][corner] for corner in ("x0", "y0", "x1", "y1")]
    assert box == pytest.approx([x, y, x + width, y + height])
    assert not (OUTPUT / "pictures").exists()


def test_its_parquet_serves_as_proposals(detect: Any) -> None:
    assert detect("photos", "--format", "parquet") == 0
    table = str(OUTPUT / "detections.parquet")
    again = ["--output", "again", "--proposals", table, "--nms-iou", "1"]
    assert detect("photos/a.jpg", *again) == 0


def test_ids_are_those_of_a_coco_json(detect: Any) -> None:
    images = [{"id": 70, "file_name": "sub/a.jpg"}, {"id": 5, "file_name": "b.png"}]
    categories = [{"id": 9, "name": "red [bus]"}, {"id": 4, "name": "cat"}]
    content = {"images": images, "annotations": [], "categories": categories}
    Path("photos/set.json").write_text(json.dumps(content))
    assert detect("photos/set.json", "--format", "coco,coco-results", "--no-pictures") == 0
    found = read_json("detections.json")
    assert [(each["id"], each["file_name"]) for each in found["images"]] == [
        (70, "sub/a.jpg"),
        (5, "b.png"),
    ]
    assert [each["id"] for each in found["categories"]] == [4, 9]
    results = read_json("results.json")
    assert {each["image_id"] for each in results} == {70, 5}
    assert {each["category_id"] for each in results} <= {4, 9}


def test_bad_images_are_named_and_the_rest_goes_on(
    detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos/a0.jpg").touch()
    content = Path("photos/b.png").read_bytes()
    Path("photos/cut.png").write_bytes(content[: len(content) // 2])
    assert detect("photos", "missing.jpg", "--batch-size", "2") == 1
    assert len(read_json("detections.json")["images"]) == 3
    captured = capsys.readouterr()
    reasons = captured.err.splitlines()
    assert reasons[0] == "photos/a0.jpg: is empty (0 bytes); copy or download it again"
    assert reasons[1].startswith("photos/cut.png: is damaged or cut off")
    assert reasons[2].startswith("missing.jpg: there is no such file")
    assert "3 images done, 3 could not be read" in captured.out


def test_images_without_detections_are_listed(detect: Any) -> None:
    assert detect("photos", "--min-score", "2", "--format", "coco,parquet") == 0
    found = read_json("detections.json")
    assert len(found["images"]) == 3
    assert found["annotations"] == []
    assert parquet.read_table(OUTPUT / "detections.parquet").num_rows == 0


def test_batches_give_what_single_images_give(detect: Any) -> None:
    assert detect("photos", "--format", "coco-results") == 0
    single = read_json("results.json")
    assert detect("photos", "--format", "coco-results", "--no-resume", "--batch-size", "3") == 0
    for one, other in zip(single, read_json("results.json"), strict=True):
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_nothing_is_done_twice(detect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert detect("photos/a.jpg") == 0
    seen = count_images(monkeypatch)
    assert detect("photos") == 0
    assert seen == ["photos/b.png", "photos/sub/a.jpg"]
    os.utime("photos/b.png", ns=(0, 0))
    assert detect("photos") == 0
    assert seen[2:] == ["photos/b.png"]
    assert len(read_json("detections.json")["images"]) == 3
    assert detect("photos", "--no-resume") == 0
    assert len(seen) == 6


def test_an_interrupted_run_goes_on_to_the_same_result(
    detect: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect("photos") == 0
    whole = (OUTPUT / "detections.json").read_text()
    with monkeypatch.context() as patch:
        seen = count_images(patch, fail_at=2)
        assert detect("photos", "--no-resume") == 130
        assert len(seen) == 2
    assert "goes on from here" in capsys.readouterr().err
    seen = count_images(monkeypatch)
    assert detect("photos") == 0
    assert seen == ["photos/sub/a.jpg"]
    assert (OUTPUT / "detections.json").read_text() == whole
    assert "(2 of them before)" in capsys.readouterr().out


def test_results_of_other_settings_are_never_mixed(
    detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect("photos") == 0
    before = (OUTPUT / "detections.json").read_text()
    assert detect("photos", classes="dog") == 2
    assert "classes was" in capsys.readouterr().err
    assert (OUTPUT / "detections.json").read_text() == before
    assert detect("photos", "--no-resume", classes="dog") == 0
    assert len(read_json("detections.json")["categories"]) == 1


def write_model(path: str, seed: int) -> None:
    model = build(Config(encoder=TINY, shortest_side=64, longest_side=96))
    model.encoder.load_state_dict(tiny_clip(seed).state_dict())
    save_model(path, ReadModel(model, has_text_tower=True, reports=()))


def test_a_model_is_known_by_what_its_file_holds(
    detect: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model("one.safetensors", seed=1)
    assert detect("photos", "--model", "one.safetensors") == 0
    Path("one.safetensors").rename("moved.bin")
    seen = count_images(monkeypatch)
    assert detect("photos", "--model", "moved.bin") == 0
    assert seen == []
    capsys.readouterr()
    write_model("one.safetensors", seed=2)
    assert detect("photos", "--model", "one.safetensors") == 2
    assert re.search(
        r"detections\.jsonl was made with other settings: "
        r'model was "one\.safetensors" \(content \w{8}\), now "one\.safetensors" \(content \w{8}\)',
        capsys.readouterr().err,
    )


def test_text_weights_are_known_by_what_their_file_holds(
    detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model("words.safetensors", seed=1)
    assert detect("photos", "--text-weights", "words.safetensors") == 0
    assert detect("photos", "--text-weights", "words.safetensors") == 0
    write_model("words.safetensors", seed=2)
    assert detect("photos", "--text-weights", "words.safetensors") == 2
    assert 'text_weights was "words.safetensors" (content' in capsys.readouterr().err


def test_proposals_are_known_by_what_their_file_holds(
    detect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for row, expected in (("1,2,30,40", 0), ("1,2,30,40", 0), ("1,2,30,39", 2)):
        Path("boxes.csv").write_text(f"image,x0,y0,x1,y1\na.jpg,{row}\n")
        assert detect("photos/a.jpg", "--proposals", "boxes.csv") == expected
    assert 'proposals was "boxes.csv" (content' in capsys.readouterr().err


def test_proposals_that_a_model_without_gets_are_those_of_their_name(
    detect: Any, model_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regionclip.cli.running.PROPOSALS_OF_MODELS_WITHOUT", "grid")
    assert detect("photos") == 0
    own = ["--model", model_file, "--device", "cpu", "--templates", "none", "--min-score", "0"]
    own += ["--max-detections", "3", "--classes", "cat, red [bus]", "--output", "out"]
    seen = count_images(monkeypatch)
    assert main(["detect", "photos", *own]) == 0
    assert seen == []


def test_vectors_of_classes_are_known_by_what_their_file_holds(
    detect: Any, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary = load(model_file).vocabulary(["cat", "dog"], templates="none")
    for number, expected in ((1, 0), (1, 0), (2, 2)):
        replace(vocabulary, embeddings=number + vocabulary.embeddings).save("words")
        own = ["--model", model_file, "--proposals", "grid", "--device", "cpu"]
        assert main(["detect", "photos", *own, "--classes", "words", "--output", "out"]) == expected
    assert 'class_vectors was "words" (content' in capsys.readouterr().err


def test_class_embeddings_of_old_give_what_their_names_give(
    detect: Any, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect("photos", "--format", "coco-results") == 0
    expected = read_json("results.json")
    rows = load(model_file).vocabulary(["cat", "red [bus]"], templates="none").embeddings
    torch.save(rows, "cls_emb.pth")
    own = ["--model", model_file, "--proposals", "grid", "--device", "cpu", "--min-score", "0"]
    own += ["--max-detections", "3", "--format", "coco-results", "--output", "out"]
    own += ["--classes", "cls_emb.pth", "--no-resume"]
    assert main(["detect", "photos", *own, "--class-names", "cat, red [bus]"]) == 0
    assert read_json("results.json") == expected
    capsys.readouterr()
    torch.save(torch.cat([rows, rows], dim=1), "cls_emb.pth")
    assert main(["detect", "photos", *own, "--class-names", "cat, red [bus]"]) == 2
    assert (
        "--classes cls_emb.pth: has rows of 24 numbers, and the model's vectors have 12: they "
        "were made with another encoder"
    ) in capsys.readouterr().err


def test_missing_pictures_are_drawn_from_what_is_known(
    detect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert detect("photos", "--no-pictures") == 0
    seen = count_images(monkeypatch)
    assert detect("photos") == 0
    assert seen == []
    assert len(list((OUTPUT / "pictures").rglob("*.jpg"))) == 3


def test_own_pictures_are_not_detected_in(detect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = count_images(monkeypatch)
    assert detect("photos", "--output", "photos/out") == 0
    assert detect("photos", "--output", "photos/out") == 0
    assert len(seen) == 3


def test_a_sheet_shows_the_pictures(detect: Any) -> None:
    assert detect("photos", "--sheet", "sheets/all.png") == 0
    with Image.open("sheets/all.png") as sheet:
        assert sheet.width > 2 * 384
        assert sheet.height > 2 * 256


def test_frames_of_a_video_are_images_and_come_back_for_their_pictures(detect: Any) -> None:
    av = pytest.importorskip("av", reason="the extra [video] is not installed")
    with av.open("clip.mkv", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for level in range(5):
            frame = av.VideoFrame.from_image(Image.new("RGB", (96, 64), (50 * level,) * 3))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert detect("clip.mkv", "photos/a.jpg", "--frame-step", "2", "--no-pictures") == 0
    names = [each["file_name"] for each in read_json("detections.json")["images"]]
    assert names == ["clip.mkv#000000", "clip.mkv#000002", "clip.mkv#000004", "photos/a.jpg"]
    assert detect("clip.mkv", "photos/a.jpg", "--frame-step", "2") == 0
    with Image.open(OUTPUT / "pictures" / "clip.mkv" / "000004.jpg") as picture:
        assert picture.getpixel((picture.width // 2, 2))[0] > 150  # type: ignore[index]


def test_memory_that_does_not_suffice_halves_the_batch(
    detect: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = Detector.propose
    sizes: list[int] = []

    def hungry(self: Detector, images: list[PreparedImage]) -> list[Proposals]:
        sizes.append(len(images))
        if len(images) > limit:
            raise torch.OutOfMemoryError("out of memory")
        return original(self, images)

    monkeypatch.setattr(Detector, "propose", hungry)
    limit = 1
    assert detect("photos", "--batch-size", "3") == 0
    assert sizes == [3, 1, 2, 1, 1]
    limit = 0
    assert detect("photos", "--no-resume") == 2
    assert "does not suffice for one image; lower --memory-budget" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["photos", "--format", "xml"], "--format xml: is unknown; expected some of coco"),
        (["photos", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["photos", "--frame-step", "-1"], "--frame-step must be at least 1, got -1"),
        (["photos", "--memory-budget", "much"], "'much' is no size of memory"),
        (["photos", "--output", "photos/a.jpg"], "photos/a.jpg is a file; give a folder"),
        (["photos", "--sheet", "sheet.txt"], "--sheet sheet.txt: is no picture file"),
        (["photos", "--min-score", "-1"], "min_score must be finite and at least 0"),
        (["photos", "--model", "nothing"], "'nothing'"),
        (["photos", "--proposals", "nothing"], "unknown proposals 'nothing'"),
        (["photos", "--classes", "names.txt"], "names.txt: there is no such file of names"),
        (["empty"], "there is no image in the folder empty"),
        ([], "no images given"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    detect: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    Path("empty").mkdir()
    assert detect(*arguments) == 2
    shown = capsys.readouterr().err
    assert reason in shown
    assert shown.startswith("error: ")
    assert len(shown.splitlines()) == 1


def test_a_model_without_classes_asks_for_some(
    model_file: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", model_file, "--proposals", "grid", "--output", "out"]
    assert main(["detect", "photos", *options]) == 2
    assert "carries no classes of its own; name some" in capsys.readouterr().err
