import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import regionclip
from regionclip.checkpoints import BARE_TENSOR, CheckpointError, load_strict, read_checkpoint
from regionclip.encoders.clip_resnet import SPECS, ClipResNet, ClipResNetSpec
from regionclip.methods.regionclip.config import VARIANTS
from regionclip.methods.regionclip.weights import WEIGHTS, recognise_checkpoint
from tests.parity.comparing import parity_folder

TINY = ClipResNetSpec(
    name="tiny",
    embed_dim=16,
    image_size=64,
    layers=(1, 2, 1, 1),
    width=8,
    text_width=64,
    text_heads=1,
    text_layers=2,
    vocab_size=600,
)


def tiny_clip(seed: int = 0) -> dict[str, Tensor]:
    """Weights whose batch norms are not as they are built: mean 0, variance 1."""
    torch.manual_seed(seed)
    state = dict(ClipResNet(TINY).clip.state_dict())
    for name, tensor in state.items():
        if name.endswith(("running_mean", "running_var")):
            state[name] = torch.rand(tensor.shape) + 0.5
    return state


def frozen(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As detectron2's frozen batch norms are saved."""
    return {name: value for name, value in state.items() if "num_batches" not in name}


def renamed(state: Mapping[str, Tensor], image: str, text: str) -> dict[str, Tensor]:
    return {
        image + name.removeprefix("visual.") if name.startswith("visual.") else text + name: value
        for name, value in state.items()
    }


def image_tower(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    visual = {name: value for name, value in state.items() if name.startswith("visual.")}
    return renamed(visual, prefix, "")


def layout(name: str) -> dict[str, Tensor]:
    """The tensors of an original file, without memory behind them."""
    path = parity_folder() / "regionclip" / "manifests" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"the layout of an original file is missing: {path}")
    manifest = json.loads(path.read_text())
    return {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (shape, dtype) in manifest.items()
    }


def assert_fills_an_encoder(encoder: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    model = ClipResNet(TINY)
    load_strict(model.clip, encoder, source="a.pth", target="tiny")
    for name, value in model.clip.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("student", ["backbone.", "visual."])
@pytest.mark.parametrize("teacher", ["teacher_backbone.", "teacher_visual."])
@pytest.mark.parametrize("text", ["", "lang_encoder."])
def test_every_layout_of_teacher_and_student_fills_the_student(
    student: str, teacher: str, text: str
) -> None:
    state = tiny_clip()
    file = renamed(frozen(state), student, text) | image_tower(tiny_clip(1), teacher)
    found = recognise_checkpoint(file, source="a.pth")
    assert found.kind == ("pretrained" if text else "clip")
    assert_fills_an_encoder(found.encoder, state)
    assert torch.equal(found.teacher["visual.conv1.weight"], tiny_clip(1)["visual.conv1.weight"])
    assert found.left_over == ()


def test_a_teacher_without_a_student_is_refused() -> None:
    file = renamed(tiny_clip(), "teacher_backbone.", "")
    with pytest.raises(CheckpointError, match=r"a.pth has a teacher's image tower .* no student"):
        recognise_checkpoint(file, source="a.pth")


def test_the_architecture_is_read_from_shapes() -> None:
    found = recognise_checkpoint(tiny_clip(), source="a.pth")
    assert found.spec == replace(TINY, name="RN-1-2-1-1-w8")
    assert found.kind == "clip"
    assert found.has_text_tower


def test_a_missing_logit_scale_is_clips_limit_of_100() -> None:
    state = tiny_clip()
    del state["logit_scale"]
    found = recognise_checkpoint(state, source="a.pth")
    assert found.encoder["logit_scale"].exp().item() == pytest.approx(100)


def test_numbers_and_masks_of_openais_archives_are_no_weights() -> None:
    extras = {
        "input_resolution": torch.tensor(224),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
        "transformer.resblocks.0.attn_mask": torch.zeros(77, 77),
    }
    found = recognise_checkpoint(tiny_clip() | extras, source="a.pt")
    assert_fills_an_encoder(found.encoder, tiny_clip())
    assert found.left_over == ()


def test_an_openai_archive_is_read_as_it_is(tmp_path: Path) -> None:
    clip = ClipResNet(TINY).clip.eval()
    clip.load_state_dict(tiny_clip())
    inputs = torch.zeros(1, 3, 64, 64), torch.zeros(1, 77, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but OpenAI's archives are made like this
        torch.jit.save(torch.jit.trace(clip, inputs), tmp_path / "RN50.pt")
    found = recognise_checkpoint(read_checkpoint(tmp_path / "RN50.pt"), source="RN50.pt")
    assert found.kind == "clip"
    assert found.left_over == ()
    assert_fills_an_encoder(found.encoder, tiny_clip())


def test_unknown_names_beside_a_known_layout_are_left_over() -> None:
    file = tiny_clip() | {"queue": torch.zeros(2)}
    assert recognise_checkpoint(file, source="a.pth").left_over == ("queue",)


def test_an_embedding_file_is_rows_of_float32() -> None:
    found = recognise_checkpoint({BARE_TENSOR: torch.ones(3, 4).half()}, source="a.pth")
    assert found.kind == "embeddings"
    assert found.embeddings is not None
    assert found.embeddings.dtype == torch.float32
    single = recognise_checkpoint({BARE_TENSOR: torch.ones(4)}, source="a.pth")
    assert single.embeddings is not None
    assert single.embeddings.shape == (1, 4)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({BARE_TENSOR: torch.ones(2, 3, 4)}, r"one tensor of shape \(2, 3, 4\)"),
        ({"model.0.conv.weight": torch.ones(1)}, "looks like none of the known files: 1 tensors"),
        ({"visual.proj": torch.ones(1)}, "is a CLIP with a vision transformer"),
        (
            {"visual.attnpool.c_proj.weight": torch.ones(4, 64)},
            "has a CLIP encoder without 'visual.attnpool.positional_embedding'",
        ),
        (image_tower(tiny_clip(), "backbone."), "has an image tower of no released size"),
    ],
)
def test_a_wrong_file_is_described(file: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"a.pth {message}|a.pth holds {message}"):
        recognise_checkpoint(file, source="a.pth")


@pytest.mark.parametrize(
    ("name", "kind", "architecture", "proposer", "heads"),
    [
        ("regionclip_pretrained-cc_rn50", "pretrained", "RN50", 287, 0),
        ("regionclip_pretrained-cc_rn50x4", "pretrained", "RN50x4", 287, 0),
        ("regionclip_finetuned-coco_rn50", "finetuned", "RN50", 221, 5),
        ("regionclip_finetuned-coco_rn50x4", "finetuned", "RN50x4", 221, 5),
        ("regionclip_finetuned-lvis_rn50", "finetuned", "RN50", 374, 9),
        ("regionclip_finetuned-lvis_rn50x4", "finetuned", "RN50x4", 374, 9),
        ("teacher_RN50_student_RN50_OAI_CLIP", "clip", "RN50", 0, 0),
        ("teacher_RN50x4_student_RN50x4_OAI_CLIP.visual_names", "clip", "RN50x4", 0, 0),
    ],
)
def test_released_layouts_are_recognised_whole(
    name: str, kind: str, architecture: str, proposer: int, heads: int
) -> None:
    found = recognise_checkpoint(layout(name), source=name)
    assert found.kind == kind
    assert found.spec == SPECS[architecture]
    assert len(found.proposer) == proposer
    assert len(found.box_predictor) + len(found.mask_head) == heads
    assert found.left_over == ()
    assert found.has_text_tower == (kind != "finetuned")
    with torch.device("meta"):
        expected = ClipResNet(SPECS[architecture]).clip.state_dict()
    if kind == "finetuned":
        expected = {name: value for name, value in expected.items() if name.startswith("visual.")}
    shapes = {name: tensor.shape for name, tensor in found.encoder.items()}
    assert shapes == {name: tensor.shape for name, tensor in expected.items()}


@pytest.mark.parametrize("size", ["rn50", "rn50x4"])
@pytest.mark.parametrize("absent", [("teacher_",), ("offline_",), ("teacher_", "offline_")])
def test_pretrained_files_may_lack_teacher_and_localiser(
    size: str, absent: tuple[str, ...]
) -> None:
    file = layout(f"regionclip_pretrained-cc_{size}")
    file = {name: value for name, value in file.items() if not name.startswith(absent)}
    found = recognise_checkpoint(file, source="a.pth")
    assert found.kind == "pretrained"
    assert bool(found.teacher) == ("teacher_" not in absent)
    assert bool(found.proposer) == ("offline_" not in absent)
    assert found.left_over == ()


@pytest.mark.parametrize(
    "name",
    [
        "rpn_coco_48",
        "rpn_coco_65",
        "rpn_coco_80",
        "rpn_lvis_866",
        "rpn_lvis_866_lsj",
        "rpn_lvis_1203_clipbackbone",
    ],
)
def test_localiser_files_are_all_proposer(name: str) -> None:
    found = recognise_checkpoint(layout(name), source=name)
    assert found.kind == "rpn"
    assert not found.encoder
    assert all(key.startswith("roi_heads.") for key in found.left_over)


def test_loading_a_localiser_file_leaves_the_recogniser_bit_identical(tmp_path: Path) -> None:
    """The originals reset every batch norm of the recogniser at this point."""
    expected = tiny_clip()
    torch.save(
        {"model": renamed(frozen(expected), "backbone.", "lang_encoder.")}, tmp_path / "a.pth"
    )
    localiser = {
        key: torch.rand(tensor.shape)
        for key, tensor in layout("rpn_lvis_866").items()
        if not key.startswith("roi_heads.")
    }
    torch.save({"model": localiser}, tmp_path / "rpn.pth")
    detector = regionclip.load(tmp_path / "a.pth", proposals=tmp_path / "rpn.pth")
    encoder = detector.parts.encoder
    assert isinstance(encoder, ClipResNet)
    assert detector.parts.proposer is not None
    for name, tensor in encoder.clip.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    picture = torch.rand(3, 60, 80)
    boxes = torch.tensor([[3.0, 5.0, 40.0, 50.0], [0.0, 0.0, 80.0, 60.0]])
    alone = regionclip.load(tmp_path / "a.pth").encode_regions(picture, boxes)
    assert torch.equal(detector.encode_regions(picture, boxes), alone)


def test_entries_name_variants_and_encoders_that_exist() -> None:
    for name, entry in WEIGHTS.items():
        assert entry.variant in ("", *VARIANTS), name
        assert entry.encoder in ("", *SPECS), name
        if entry.variant and entry.encoder:
            assert VARIANTS[entry.variant].encoder.name == entry.encoder, name
