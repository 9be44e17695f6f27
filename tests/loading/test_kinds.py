import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import jaxtyping
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from torch import Tensor

from regionclip.checkpoints import CheckpointError
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.loading import LoadOptions, load
from regionclip.loading.proposals import open_proposals
from regionclip.methods import known_entry, known_name
from regionclip.methods.cora.reading import save_region_prompt
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, read_model, save_model
from regionclip.proposals.grid import SlidingGrid
from regionclip.proposals.onnx_detector import OnnxDetector, OnnxDetectorConfig
from regionclip.proposals.rpn import RegionProposalNetwork
from regionclip.regions.crops import CropRegions
from regionclip.regions.dense_regions import DenseRegions
from regionclip.regions.mask_attention import MaskAttentionRegions
from regionclip.structures import Detections, PreparedImage
from regionclip.weights import WeightsEntry
from tests.tiny import TINY_CONFIG, tiny_model
from tests.tiny_clip import tiny_vit

# the original's text towers have heads of 64 channels, and shapes tell no other number
SPEC = replace(TINY_CONFIG.encoder, text_width=64, text_heads=1)
CONFIG = replace(TINY_CONFIG, encoder=SPEC)
YOLOX = Path(__file__).parents[3] / "shared" / "data" / "weights" / "yolox_nano.onnx"
PICTURE = Image.fromarray(np.arange(90 * 70 * 3, dtype=np.uint8).reshape(90, 70, 3))


def pretrained_state(model: RegionClip) -> dict[str, Tensor]:
    """The recogniser by the names of RegionCLIP's pretrained file."""
    state = {}
    for key, tensor in model.encoder.clip.state_dict().items():
        if key.startswith("visual."):
            state["backbone." + key.removeprefix("visual.")] = tensor
        elif key != "logit_scale":
            state["lang_encoder." + key] = tensor
    return {key: each for key, each in state.items() if not key.endswith("num_batches_tracked")}


def rpn_state(network: RegionProposalNetwork) -> dict[str, Tensor]:
    """A C4 localiser by detectron2's names."""
    renames = (
        (r"^backbone\.conv1", "backbone.stem.conv1"),
        (r"^backbone\.bn1", "backbone.stem.conv1.norm"),
        (r"^backbone\.layer(\d)\.(\d+)\.downsample\.0", r"backbone.res\1.\2.shortcut"),
        (r"^backbone\.layer(\d)\.(\d+)\.downsample\.1", r"backbone.res\1.\2.shortcut.norm"),
        (r"^backbone\.layer(\d)\.(\d+)\.bn(\d)", r"backbone.res\1.\2.conv\3.norm"),
        (r"^backbone\.layer(\d)", r"backbone.res\1"),
        (r"^head\.conv\.0\.0", "proposal_generator.rpn_head.conv"),
        (r"^head\.cls_logits", "proposal_generator.rpn_head.objectness_logits"),
        (r"^head\.bbox_pred", "proposal_generator.rpn_head.anchor_deltas"),
    )
    state = {}
    for key, tensor in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        for pattern, replacement in renames:
            if re.search(pattern, key):
                key = re.sub(pattern, replacement, key)
                break
        key = re.sub(r"\.res(\d)\.", lambda match: f".res{int(match[1]) + 1}.", key)
        state[key] = tensor
    return state


@pytest.fixture
def model() -> RegionClip:
    # detectron2's localisers have fifteen anchors per cell, which no shape but the head's tells
    assert CONFIG.rpn is not None
    rpn = replace(CONFIG.rpn, anchor_sizes=((32.0, 64.0, 128.0, 256.0, 512.0),), width=4)
    return tiny_model(replace(CONFIG, rpn=rpn))


@pytest.fixture
def pretrained(model: RegionClip, tmp_path: Path) -> Path:
    path = tmp_path / "holiday.jpg.pth"
    torch.save({"model": pretrained_state(model), "iteration": 7}, path)
    return path


@pytest.fixture
def localiser(model: RegionClip, tmp_path: Path) -> Path:
    assert model.proposer is not None
    path = tmp_path / "second.pth"
    torch.save({"model": rpn_state(model.proposer)}, path)
    return path


def test_a_localiser_file_leaves_every_recogniser_tensor_bit_identical(
    model: RegionClip, pretrained: Path, localiser: Path
) -> None:
    alone, both = load(pretrained), load(pretrained, proposals=localiser)
    written = model.encoder.clip.state_dict()
    for detector in (alone, both):
        found = detector.parts.encoder.clip.state_dict()  # type: ignore[attr-defined]
        for key, tensor in written.items():
            if key != "logit_scale":
                assert torch.equal(found[key], tensor), key
    boxes = torch.tensor([[5.0, 5.0, 60.0, 80.0]])
    vectors = [each.encode_regions(PICTURE, boxes) for each in (alone, both)]
    assert torch.equal(*vectors)
    assert vectors[0].abs().max() > 0


def test_a_localiser_file_gives_the_proposals_it_was_trained_for(
    model: RegionClip, pretrained: Path, localiser: Path
) -> None:
    detector = load(pretrained, proposals=localiser)
    prepared = detector.prepare(PICTURE)
    assert model.proposer is not None
    model.proposer.selection = detector.parts.proposer.selection  # type: ignore[union-attr]
    expected, found = model.proposer.propose([prepared])[0], detector.propose([prepared])[0]
    assert found.objectness is not None
    assert expected.objectness is not None
    # boxes of equal objectness may swap places once norms are folded
    torch.testing.assert_close(found.objectness, expected.objectness, rtol=1e-4, atol=1e-4)


def test_names_of_files_play_no_role(pretrained: Path, tmp_path: Path) -> None:
    other = tmp_path / "teacher_RN50_student_RN50_OAI_CLIP.pth"
    other.write_bytes(pretrained.read_bytes())
    first, second = (read_model(path).model.state_dict() for path in (pretrained, other))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_file_that_lacks_a_tensor_is_refused_by_name(model: RegionClip, tmp_path: Path) -> None:
    state = pretrained_state(model)
    del state["backbone.layer2.0.conv2.weight"]
    path = tmp_path / "cut.pth"
    torch.save({"model": state}, path)
    with pytest.raises(
        CheckpointError, match=r"cut\.pth lacks 1 of .*visual\.layer2\.0\.conv2\.weight"
    ):
        load(path)


def test_a_localiser_alone_is_no_model(localiser: Path) -> None:
    with pytest.raises(
        CheckpointError, match="holds a proposal network only; give it as proposals"
    ):
        load(localiser)


def test_a_converted_file_detects_the_same(pretrained: Path, tmp_path: Path) -> None:
    converted = tmp_path / "converted.safetensors"
    save_model(converted, read_model(pretrained), licence="Apache-2.0")
    found = [
        load(path, proposals="grid").detect(PICTURE, ["cat"]) for path in (pretrained, converted)
    ]
    first, second = found
    assert isinstance(first, Detections)
    assert isinstance(second, Detections)
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.scores, second.scores)


def test_a_fine_tuned_file_knows_its_own_classes_and_says_why_no_others(tmp_path: Path) -> None:
    config = replace(
        CONFIG,
        box_regression=True,
        num_train_classes=48,
        num_test_classes=65,
        class_names="coco65",
    )
    path = tmp_path / "tuned.safetensors"
    save_model(path, ReadModel(tiny_model(config), has_text_tower=False, reports=()))
    detector = load(path)
    assert detector.parts.class_vocabulary is not None
    assert len(detector.parts.class_vocabulary) == 65
    assert isinstance(detector.detect(PICTURE), Detections)
    with pytest.raises(ValueError, match=r"carries no text tower.*text_weights='openai:tiny'"):
        detector.detect(PICTURE, ["cat"])


def test_another_file_lends_a_text_tower(pretrained: Path, tmp_path: Path) -> None:
    path = tmp_path / "tuned.safetensors"
    save_model(path, ReadModel(tiny_model(CONFIG), has_text_tower=False, reports=()))
    detector = load(path, text_weights=pretrained)
    assert detector.encoder_id == load(pretrained).encoder_id
    assert isinstance(detector.detect(PICTURE, ["cat"]), Detections)


def test_a_text_tower_of_open_clips_is_in_another_space(tmp_path: Path) -> None:
    path = tmp_path / "tuned.safetensors"
    save_model(path, ReadModel(tiny_model(CONFIG), has_text_tower=False, reports=()))
    message = "a model of open_clip's in a space of its own.* 'openai:tiny'"
    with pytest.raises(ValueError, match=message):
        load(path, text_weights="laion2b_s34b_b88k:ViT-B-16")
    with pytest.raises(ValueError, match="unknown open_clip architecture 'RN5O'"):
        load(path, text_weights="openai:RN5O")


@pytest.mark.parametrize("kind", ["whole-crop model", "ResNet"])
def test_crops_take_precision_and_memory_budget(
    kind: str, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenClipEncoder, "create", lambda *_: tiny_vit())
    name = "nowhere:tiny-vit" if kind == "whole-crop model" else pretrained
    boxes = torch.tensor([[5.0, 5.0, 60.0, 80.0], [0.0, 0.0, 20.0, 30.0]])
    whole = load(name, regions="crops")
    half = load(name, regions="crops", precision="bf16")
    narrow = load(name, regions="crops", options=LoadOptions(memory_budget=1))
    vectors = whole.encode_regions(PICTURE, boxes)
    reduced = half.encode_regions(PICTURE, boxes)
    assert not torch.equal(reduced, vectors)
    assert torch.cosine_similarity(reduced, vectors).min() > 0.99
    assert isinstance(narrow.parts.regions, CropRegions)
    assert narrow.parts.regions.chunk_size == 1
    torch.testing.assert_close(narrow.encode_regions(PICTURE, boxes), vectors)


def test_a_named_vit_gives_regions_of_its_map_and_knows_no_other_kinds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OpenClipEncoder, "create", lambda *_: tiny_vit())
    detector = load("nowhere:tiny-vit")
    assert isinstance(detector.parts.regions, DenseRegions)
    whole = load("nowhere:tiny-vit", regions="crops")
    assert detector.encoder_id == whole.encoder_id
    assert detector.parts.templates == whole.parts.templates
    words = [each.vocabulary(["cat"]).embeddings for each in (detector, whole)]
    assert torch.equal(*words)
    asked = load("nowhere:tiny-vit", regions="mask-attention")
    assert isinstance(asked.parts.regions, MaskAttentionRegions)
    assert detector.prepare(PICTURE).size_hw == (512, 398)
    boxes = torch.tensor([[5.0, 5.0, 60.0, 80.0], [0.0, 0.0, 20.0, 30.0]])
    assert detector.encode_regions(PICTURE, boxes).shape == (2, 10)
    with pytest.raises(ValueError, match="nowhere:tiny-vit has no regions 'layer4'; use 'map'"):
        load("nowhere:tiny-vit", regions="layer4")
    monkeypatch.setattr("regionclip.loading.open_clip.dense_form_of", lambda _: None)
    assert isinstance(load("nowhere:tiny-vit").parts.regions, CropRegions)
    with pytest.raises(ValueError, match="nowhere:tiny-vit has no regions 'dense'"):
        load("nowhere:tiny-vit", regions="dense")


def test_the_names_that_open_clip_gives_an_activation_are_those_without() -> None:
    assert known_name("yfcc15m:RN50-quickgelu") == "yfcc15m:RN50"
    assert known_entry("yfcc15m:RN50-quickgelu") == known_entry("yfcc15m:RN50") is not None
    assert known_name("dfn2b:ViT-B-16-quickgelu") == "dfn2b:ViT-B-16-quickgelu"
    assert known_entry("dfn2b:ViT-B-16-quickgelu") is None


def test_a_whole_crop_model_takes_no_other_text_tower(pretrained: Path) -> None:
    with pytest.raises(ValueError, match="nowhere:ViT-X runs with its own text tower; leave out"):
        load("nowhere:ViT-X", text_weights=pretrained)


def test_a_region_prompt_takes_the_place_of_the_pools_positions(
    pretrained: Path, tmp_path: Path
) -> None:
    boxes = torch.tensor([[5.0, 5.0, 60.0, 80.0]])
    without = load(pretrained).encode_regions(PICTURE, boxes)
    model = read_model(pretrained).model
    positions = model.encoder.visual.attnpool.positional_embedding
    prompt = torch.randn(positions.shape, generator=torch.Generator().manual_seed(1))
    save_region_prompt(tmp_path / "prompt.pth", prompt)
    found = load(pretrained, region_prompt=tmp_path / "prompt.pth").encode_regions(PICTURE, boxes)
    with torch.no_grad():
        positions.copy_(prompt)
    save_model(tmp_path / "prompted.safetensors", replace(read_model(pretrained), model=model))
    expected = load(tmp_path / "prompted.safetensors").encode_regions(PICTURE, boxes)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, without, atol=1e-2)
    save_region_prompt(tmp_path / "other.pth", torch.zeros(50, 2048))
    with pytest.raises(CheckpointError, match=r"other.pth is of shape \(50, 2048\), and .* takes"):
        load(pretrained, region_prompt=str(tmp_path / "other.pth"))
    with pytest.raises(CheckpointError, match="holds no region prompt"):
        load(pretrained, region_prompt=pretrained)
    with pytest.raises(
        ValueError, match=r"prompt.pth pools regions of a ResNet.*leave out regions="
    ):
        load(pretrained, regions="crops", region_prompt=tmp_path / "prompt.pth")
    with pytest.raises(CheckpointError, match="is a region prompt, which goes with a model"):
        load(tmp_path / "prompt.pth")


def test_unknown_names_and_options_are_refused_in_a_sentence(
    pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the test run's type checker would refuse the precision before our own check does
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"did you mean .*regionclip-cc-rn50"):
        load("regionclip-cc-rn5")
    with pytest.raises(
        ValueError, match="unknown precision 'fp8'; expected one of fp32, bf16, fp16"
    ):
        load(pretrained, precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown regions 'shared'; expected one of map, dense"):
        load(pretrained, regions="shared")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown proposals 'selective search'; expected grid"):
        load(pretrained, proposals="selective search")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device 'cuda' is not available here"):
            load(pretrained, device="cuda")


def test_a_model_of_our_own_lends_its_proposals(pretrained: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_model(path, ReadModel(tiny_model(CONFIG), has_text_tower=True, reports=()))
    detector = load(pretrained, proposals=path)
    assert len(detector.propose([detector.prepare(PICTURE)])[0]) > 0
    save_model(path, read_model(pretrained))
    with pytest.raises(ValueError, match="is a model without a proposal network"):
        open_proposals(path)


def test_proposals_by_description(localiser: Path) -> None:
    assert isinstance(open_proposals("grid"), SlidingGrid)
    assert isinstance(open_proposals(localiser), RegionProposalNetwork)


def test_how_many_boxes_are_kept_may_be_said_of_any_proposals(
    localiser: Path, tmp_path: Path
) -> None:
    limits = {"nms_iou": 0.5, "max_proposals": 2}
    network = open_proposals(localiser, **limits)
    assert isinstance(network, RegionProposalNetwork)
    assert network.selection == replace(network.config.selection, nms_iou=0.5, post_nms_topk=2)
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\n" + "a.jpg,1,2,3,4\n" * 3)
    image = PreparedImage(torch.zeros(3, 8, 8), (8, 8), "a.jpg")
    for source in ("grid", "random", tmp_path / "boxes.csv"):
        (found,) = open_proposals(source, **limits).propose([image])
        assert len(found) == 2, source
        (whole,) = open_proposals(source).propose([image])
        assert torch.equal(found.boxes, whole.boxes[:2]), source


def test_an_onnx_detector_takes_limits() -> None:
    if not YOLOX.is_file():
        pytest.skip(f"a real detector is missing: {YOLOX}")
    detector = open_proposals(YOLOX, nms_iou=0.5, max_proposals=3)
    assert isinstance(detector, OnnxDetector)
    assert detector.config == OnnxDetectorConfig(nms_iou=0.5, top_k=3)


def test_a_file_of_proposals_is_told_by_its_content(localiser: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "boxes.json"
    renamed.write_bytes(localiser.read_bytes())
    assert isinstance(open_proposals(renamed), RegionProposalNetwork)
    rows = {"image": ["a.jpg"], "x0": [1.0], "y0": [2.0], "x1": [3.0], "y1": [4.0]}
    parquet.write_table(pa.table(rows), tmp_path / "boxes.onnx")
    (tmp_path / "boxes.pth").write_text("\ufeffimage,x0,y0,x1,y1\na.jpg,1,2,3,4\n")
    coco = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 7, "bbox": [1, 2, 2, 2]}],
    }
    (tmp_path / "boxes.csv").write_text("\n  " + json.dumps(coco))
    image = PreparedImage(torch.zeros(3, 8, 8), (8, 8), "a.jpg")
    for name in ("boxes.onnx", "boxes.pth", "boxes.csv"):
        (found,) = open_proposals(tmp_path / name).propose([image])
        assert found.boxes.tolist() == [[1, 2, 3, 4]], name


def test_an_onnx_detector_needs_no_suffix(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    # a version of the format, then nothing that makes a model
    (tmp_path / "detector.json").write_bytes(b"\x08\x07\x12\x04none")
    with pytest.raises(ValueError, match=r"detector\.json cannot be read as an ONNX model"):
        open_proposals(tmp_path / "detector.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"<html>Virus scan warning", "is a web page, not the file"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "is of no known kind; expected a file of boxes"),
        (b"cat\nremote control\n", "has no column image, x0, y0, x1, y1"),
        (b"PAR1 and nothing more", "cannot be read as a table of boxes"),
        (b'{"images": []}', "has no list of annotations"),
    ],
)
def test_a_file_that_gives_no_proposals_is_refused_by_what_it_holds(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "proposals.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_proposals(path)
    with pytest.raises(ValueError, match="has no files of boxes"):
        open_proposals(tmp_path)


def test_progress_tells_of_every_file_that_is_downloaded(
    pretrained: Path, localiser: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entry(path: Path, name: str) -> WeightsEntry:
        return WeightsEntry(
            file=name,
            title="a model",
            source="https://example.org",
            licence="MIT",
            method="regionclip",
            url=path.as_uri(),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )

    entries = {
        "model": entry(pretrained, "model.pth"),
        "boxes": entry(localiser, "boxes.pth"),
        "words": entry(pretrained, "words.pth"),
    }
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for module in ("methods", "loading.proposals"):
        monkeypatch.setattr(f"regionclip.{module}.known_weights", lambda: entries)
    last: dict[str, tuple[int, int | None]] = {}

    def progress(name: str, received: int, total: int | None) -> None:
        last[name] = (received, total)

    load("model", proposals="boxes", text_weights="words", options=LoadOptions(progress=progress))
    sizes = [path.stat().st_size for path in (localiser, pretrained, pretrained)]
    names = ("boxes.pth", "model.pth", "words.pth")
    assert last == {name: (size, size) for name, size in zip(names, sizes, strict=True)}
