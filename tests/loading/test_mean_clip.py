import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import regionclip
from regionclip.checkpoints import CheckpointError
from regionclip.cli import main
from regionclip.encoders.mean_clip import MEAN_SPECS, MeanClip
from regionclip.encoders.mean_clip_weights import mean_clip_tensors, mean_spec_of
from regionclip.loading import LoadOptions
from regionclip.loading.mean_clip import mean_clip_detector_of, read_model, save_model
from regionclip.structures import Detections
from tests.tiny_mean import tiny_mean

PICTURE = Image.effect_noise((90, 60), 80).convert("RGB")
BOXES = torch.tensor([[0.0, 0.0, 90.0, 60.0], [10.0, 5.0, 50.0, 40.0]])
HEAD = "roi_heads.box_predictor.lang_encoder."


def written(encoder: MeanClip, form: str) -> dict[str, Tensor]:
    """The tensors by the names that the branch reads (``training``) or has (``detector``)."""
    places = {
        "training": {
            "clip.visual.": "image_encoder.",
            "clip.text_projection": "text_projection",
            "clip.logit_scale": "logit_scale",
            "clip.": "text_encoder.",
            "norm.": "norm.",
        },
        "detector": {
            "clip.visual.": "backbone.",
            "clip.text_projection": f"{HEAD}lang_proj",
            "clip.logit_scale": f"{HEAD}logit_scale",
            "clip.": f"{HEAD}lang_encoder.",
            "norm.": "backbone.norm.",
        },
        "language": {
            "clip.visual.": "backbone.",
            "clip.text_projection": "lang_projection",
            "clip.logit_scale": "logit_scale",
            "clip.": "lang_encoder.",
            "norm.": "norm.",
        },
    }[form]
    state = {}
    for name, tensor in encoder.state_dict().items():
        if encoder.spec.trunk == "vit":
            name = name.replace("visual.fc_norm.", "visual.norm.")
        for ours, theirs in places.items():
            if name.startswith(ours):
                name = theirs + name.removeprefix(ours)
                break
        state[name] = tensor
    return state


@pytest.fixture
def tiny_specs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the tiny towers were the branch's: no tensor tells attention heads."""
    for name, spec in list(MEAN_SPECS.items()):
        monkeypatch.setitem(MEAN_SPECS, name, tiny_mean(spec.trunk).spec)


@pytest.mark.usefixtures("tiny_specs")
@pytest.mark.parametrize(
    ("trunk", "form"),
    [
        ("vit", "training"),
        ("vit", "detector"),
        ("vit", "language"),
        ("swin", "detector"),
        ("davit", "training"),
        ("focalnet", "language"),
    ],
)
def test_files_of_every_form_tell_their_tower_and_fill_the_model(
    trunk: str, form: str, tmp_path: Path
) -> None:
    encoder = tiny_mean(trunk)
    torch.save({"model": written(encoder, form)}, tmp_path / "file.pth")
    read = read_model(tmp_path / "file.pth")
    assert read.model.spec == encoder.spec
    assert set(read.report.loaded) == set(encoder.state_dict())
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(read.model.state_dict()[name], tensor), name


@pytest.mark.parametrize("trunk", ["swin", "davit", "focalnet", "vit"])
def test_a_tower_of_a_released_size_is_told_by_its_names_alone(trunk: str) -> None:
    spec = mean_spec_of(written(tiny_mean(trunk), "detector"), source="file.pth")
    assert (spec.trunk, spec.map_channels) == (trunk, 768 if trunk == "vit" else 1024)


def test_davits_layout_of_its_authors_is_told_too() -> None:
    state = {
        "image_encoder.main_blocks.0.0.0.cpe.0.proj.weight": torch.zeros(1),
        "image_projection": torch.zeros(1),
    }
    assert mean_spec_of(state, source="file.pth").trunk == "davit"


@pytest.mark.usefixtures("tiny_specs")
def test_positions_of_another_grid_are_resized(tmp_path: Path) -> None:
    encoder = tiny_mean("vit")
    state = written(encoder, "training")
    grid = torch.arange(6.0)
    plane = (grid[:, None] + 10 * grid).flatten()
    positions = torch.cat([torch.full((1,), 7.0), plane])[None, :, None].expand(1, 37, 16)
    torch.save(state | {"image_encoder.pos_embed": positions}, tmp_path / "other.pth")
    found = read_model(tmp_path / "other.pth").model.state_dict()["clip.visual.pos_embed"]
    assert found.shape == (1, 17, 16)
    assert torch.equal(found[0, 0], positions[0, 0])
    cells = found[0, 1:, 0].unflatten(0, (4, 4))
    # cubic convolution with a = -0.75, whose weights add up to one, at 1.75 and 3.25
    near = [-0.03515625, 0.26171875, 0.87890625, -0.10546875]
    weights = torch.tensor([[*near, 0.0, 0.0], [0.0, 0.0, *near[::-1]]])
    assert torch.equal(weights.sum(dim=1), torch.ones(2))
    at = weights @ grid
    torch.testing.assert_close(cells[1:3, 1:3], at[:, None] + 10 * at)
    for others in (positions[:, :30], positions[0]):
        torch.save(state | {"image_encoder.pos_embed": others}, tmp_path / "odd.pth")
        with pytest.raises(
            CheckpointError, match=r"odd\.pth does not fit tiny-vit: 1 of .*pos_emb"
        ):
            read_model(tmp_path / "odd.pth")


@pytest.mark.usefixtures("tiny_specs")
def test_a_file_of_another_tower_or_size_is_refused(tmp_path: Path) -> None:
    state = written(tiny_mean("vit"), "training")
    wide = {"image_encoder.blocks.1.mlp.fc2.bias": torch.zeros(32)}
    for other, message in (
        ({name: each for name, each in state.items() if "mlp.fc2" not in name}, "lacks 4 of "),
        (state | wide, r"does not fit tiny-vit: 1 of .* \(32,\), expected \(16,\)"),
    ):
        torch.save(other, tmp_path / "other.pth")
        with pytest.raises(CheckpointError, match=message):
            regionclip.load(tmp_path / "other.pth")
    doubled = state | {"lang_projection": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"has clip\.text_projection under two names"):
        mean_clip_tensors(tiny_mean("vit"), doubled, source="twice.pth")
    torch.save({"image_projection": torch.zeros(2, 3)}, tmp_path / "none.pth")
    message = r"none\.pth has an 'image_projection', .* one of UniCL-ViT-B-16, UniCL-Swin-B, UniCL-"
    with pytest.raises(CheckpointError, match=message):
        regionclip.load(tmp_path / "none.pth")


@pytest.fixture(scope="module")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    save_model(path, tiny_mean("vit"), licence="ours")
    return path


@pytest.mark.usefixtures("tiny_specs")
def test_a_converted_file_needs_no_telling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, own = tmp_path / "original.pth", tmp_path / "own.safetensors"
    torch.save({"model": written(tiny_mean("vit"), "training")}, original)
    assert main(["models", "convert", str(original), str(own)]) == 0
    assert "tiny-vit" in capsys.readouterr().out
    expected = regionclip.load(original).encode_regions(PICTURE, BOXES)
    monkeypatch.undo()
    model = regionclip.load(own)
    assert torch.equal(model.encode_regions(PICTURE, BOXES), expected)
    assert model.encoder_id == tiny_mean("vit").encoder_id


def test_what_does_not_go_with_such_an_encoder_is_refused(own_file: Path) -> None:
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"regions": "crops"}, "own.safetensors has regions of its map alone.*regions='crops'"),
        ({"text_weights": own_file}, "runs with its own text tower; leave out text_weights"),
        ({"region_prompt": "a.pth"}, "has no attention pool that a region prompt would suit"),
        ({"options": LoadOptions(activation="gelu")}, "activation 'gelu' is for files of CLIPs"),
    )
    for given, message in refused:
        with pytest.raises(ValueError, match=message):
            regionclip.load(own_file, **given)


@pytest.mark.parametrize("options", [["--boxes", "truth"], ["--proposals", "boxes.csv"]])
def test_such_an_encoder_is_measured_on_true_boxes_and_on_proposals(
    own_file: Path, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    PICTURE.save("a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 90, "height": 60}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 60, 50], "area": 3000},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [50, 20, 40, 40], "area": 1600},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    Path("val.json").write_text(json.dumps(content))
    Path("boxes.csv").write_text("image,x0,y0,x1,y1\na.png,0,0,60,50\na.png,50,20,90,60\n")
    words = ["evaluate", str(own_file), "--data", "val.json", "--protocol", "coco"]
    assert main([*words, *options, "--output", "found"]) == 0
    report = json.loads(Path("found/report.json").read_text())
    # of two names none is unlikely: what has a box is found under both
    assert (report["metrics"]["ar100"], report["splits"]["all"]["boxes"]) == (1, 2)
    used = report["settings"]["proposals"]
    assert (used and used["name"]) == (None if "truth" in options else "boxes.csv")


def test_each_box_is_one_of_the_classes() -> None:
    encoder = tiny_mean("vit")
    model = mean_clip_detector_of(encoder)
    found = model.detect(PICTURE, ["cat", "a dog"], boxes=BOXES)
    assert isinstance(found, Detections)
    vectors = F.normalize(model.encode_regions(PICTURE, BOXES), dim=1)
    # two prompts per name, each of length one
    prompts = ["cat.", "a photo of a cat.", "a dog.", "a photo of a a dog."]
    words = F.normalize(model.encode_text(prompts), dim=1).unflatten(0, (2, 2)).mean(dim=1)
    cosines = vectors @ F.normalize(words, dim=1).T
    expected = (cosines * encoder.clip.logit_scale.exp()).softmax(dim=1)
    torch.testing.assert_close(expected.sum(dim=1), torch.ones(2))
    best = expected.max()
    torch.testing.assert_close(found.scores.max(), best, rtol=1e-4, atol=1e-5)


def test_no_boxes_give_no_detections() -> None:
    found = mean_clip_detector_of(tiny_mean("swin")).detect(PICTURE, ["cat"], boxes=BOXES[:0])
    assert isinstance(found, Detections)
    assert len(found.boxes) == 0
