"""Released files of dense CLIPs: read whole, with what their towers compute with, or refused."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from regionclip.checkpoints import CheckpointError
from regionclip.encoders.vit import ClipVit
from regionclip.encoders.vit_weights import round_as_openai
from regionclip.loading import LoadOptions, load
from regionclip.methods import known_weights
from regionclip.methods.clim import VARIANTS, Config, build
from regionclip.methods.clim.reading import read_model, save_model
from regionclip.methods.cora.reading import save_region_prompt
from regionclip.regions.crops import CropRegions
from regionclip.regions.dense_regions import DenseRegions
from regionclip.regions.embedder import RegionSource
from regionclip.regions.layer4_regions import Layer4Regions
from regionclip.regions.mask_attention import MaskAttentionRegions
from tests.tiny_clip import TINY, tiny_clip
from tests.tiny_dense import PLAIN, tiny_dense

# a released file's heads are 64 channels wide, and shapes tell no other number
BOXES = torch.tensor([[5.0, 5.0, 60.0, 80.0], [0.0, 0.0, 70.0, 90.0]])


@pytest.fixture(scope="module")
def encoder() -> ClipVit:
    return tiny_dense(PLAIN)


@pytest.fixture
def released(encoder: ClipVit, tmp_path: Path) -> Path:
    """As a training run leaves it."""
    path = tmp_path / "epoch_3.pt"
    state = encoder.clip.state_dict()
    torch.save({"epoch": 3, "name": "a run", "state_dict": state, "optimizer": {}}, path)
    return path


def resnet_file(path: Path) -> Path:
    spec = replace(TINY, text_width=64, text_heads=1)
    torch.save(tiny_clip(spec=spec).clip.state_dict(), path)
    return path


def picture() -> Tensor:
    return torch.rand(3, 90, 70, generator=torch.Generator().manual_seed(0))


def test_bare_wrapped_and_openais_own_form_give_one_model(
    released: Path, encoder: ClipVit, tmp_path: Path
) -> None:
    state = encoder.clip.state_dict()
    numbers = ("input_resolution", "context_length", "vocab_size")
    extras = {name: torch.tensor(32) for name in numbers}
    for number, own in enumerate((state, state | extras, {"state_dict": state | extras})):
        torch.save(own, tmp_path / f"{number}.pt")
        read = read_model(tmp_path / f"{number}.pt")
        assert read.report.missing == read.report.left_over == ()
        assert read.model.config == read_model(released).model.config
        for name, tensor in read.model.encoder.clip.state_dict().items():
            assert torch.equal(tensor, state[name]), name


def test_shapes_tell_all_but_the_activation(released: Path) -> None:
    spec = read_model(released).model.config.vit
    assert spec == replace(PLAIN, name="ViT-2x64-8")
    own = read_model(released, activation="gelu").model
    assert own.config.vit == replace(PLAIN, name="ViT-2x64-8", quick_gelu=False)
    other = read_model(released).model
    images = torch.rand(1, 3, 32, 32)
    assert not torch.equal(own.encoder.encode_image(images), other.encoder.encode_image(images))


def test_an_activation_that_nothing_tells_is_named_and_can_be_said(
    released: Path, encoder: ClipVit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def is_quick(path: Path, options: LoadOptions | None = None) -> bool:
        tower = load(path, options=options).parts.dense_tower
        assert isinstance(tower, ClipVit)
        return tower.spec.quick_gelu

    gelu = LoadOptions(activation="gelu")
    with caplog.at_level(logging.WARNING):
        assert is_quick(released)
    assert "epoch_3.pt does not say" in caplog.text
    assert "QuickGELU is taken" in caplog.text
    caplog.clear()
    assert not is_quick(released, gelu)
    assert is_quick(released, LoadOptions(activation="quick_gelu"))
    # our own files say what they compute with, and one may want it otherwise
    save_model(tmp_path / "own.safetensors", read_model(released, activation="gelu").model)
    assert not is_quick(tmp_path / "own.safetensors")
    assert is_quick(tmp_path / "own.safetensors", LoadOptions(activation="quick_gelu"))
    # OpenAI's archives say it
    numbers = ("input_resolution", "context_length", "vocab_size")
    extras = {name: torch.tensor(32) for name in numbers}
    torch.save(encoder.clip.state_dict() | extras, tmp_path / "archive.pt")
    assert is_quick(tmp_path / "archive.pt")
    assert not caplog.records
    with pytest.raises(CheckpointError, match="a ResNet, whose activations are known; leave out"):
        load(resnet_file(tmp_path / "rn.pt"), regions="layer4", options=gelu)
    with pytest.raises(ValueError, match=r"rn\.pt is none, so leave it out"):
        load(tmp_path / "rn.pt", options=gelu)


def test_a_known_name_says_whose_a_clip_with_a_resnet_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / ".cache" / "regionclip"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = resnet_file(folder / known_weights()["clim-cc3m-rn50x64"].file)
    by_name = load("clim-cc3m-rn50x64")
    assert isinstance(by_name.parts.regions, Layer4Regions)
    assert isinstance(load("clim-cc3m-rn50x64", regions="dense").parts.regions, DenseRegions)
    assert not isinstance(load(file).parts.regions, Layer4Regions)
    # of a name, the activation is known too
    vit = {"state_dict": tiny_dense(PLAIN).clip.state_dict()}
    torch.save(vit, folder / known_weights()["clim-coco-vitb16"].file)
    load("clim-coco-vitb16")
    assert not caplog.records


@pytest.mark.parametrize("name", ["visual.ln_post.bias", "token_embedding.weight", "visual.proj"])
def test_a_file_that_lacks_a_tensor_is_refused_by_name(
    name: str, encoder: ClipVit, tmp_path: Path
) -> None:
    state = {key: each for key, each in encoder.clip.state_dict().items() if key != name}
    torch.save(state, tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match=rf"cut\.pt .*{name}"):
        read_model(tmp_path / "cut.pt")


def test_a_tensor_that_has_no_place_is_refused(encoder: ClipVit, tmp_path: Path) -> None:
    state = encoder.clip.state_dict() | {"visual.rope.freqs_cos": torch.zeros(2)}
    torch.save(state, tmp_path / "more.pt")
    with pytest.raises(CheckpointError, match=r"has unknown 1 of .*freqs_cos"):
        read_model(tmp_path / "more.pt")


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"is no CLIP of OpenAI's layout .* named 'weight'"):
        read_model(tmp_path / "other.pt")


def test_rounding_is_float16s_where_openais_files_hold_that(released: Path) -> None:
    exact, rounded = read_model(released).model, read_model(released, rounding="openai").model
    same = {"ln_", "embedding", "logit_scale"}
    for (name, own), other in zip(
        rounded.named_parameters(), exact.state_dict().values(), strict=True
    ):
        assert own.dtype == torch.float32
        expected = other if any(part in name for part in same) else other.half().float()
        assert torch.equal(own, expected), name
    norms = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    norms[1].get_buffer("running_var").fill_(1 / 3)
    round_as_openai(norms)
    assert norms[1].get_buffer("running_var").item() == pytest.approx(1 / 3, abs=1e-8)


def test_our_own_file_holds_the_configuration(tmp_path: Path) -> None:
    config = Config(vit=PLAIN, longest_side=64, padding="cells")
    model = build(config)
    save_model(tmp_path / "own.safetensors", model, licence="CC0")
    read = read_model(tmp_path / "own.safetensors").model
    assert read.config == config
    states = (own.encoder.clip.state_dict()["visual.proj"] for own in (read, model))
    assert torch.equal(*states)
    detector = load(tmp_path / "own.safetensors")
    assert isinstance(detector.parts.regions, DenseRegions)
    assert detector.prepare(picture()).size_hw == (64, 50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vit": None}, "give vit or resnet, one of the two"),
        ({"resnet": TINY}, "give vit or resnet, one of the two"),
        ({"pooling": "attention"}, "pooling must be 'dense' with a vision transformer"),
        ({"longest_side": 0}, "longest_side must be positive, got 0"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(VARIANTS["openai-vitb16-coco"], **change)


def test_load_cuts_regions_of_a_vit_from_its_map_in_squares(
    released: Path, encoder: ClipVit
) -> None:
    detector = load(released)
    assert isinstance(detector.parts.regions, DenseRegions)
    assert detector.prepare(picture()).size_hw == (512, 398)
    vectors = detector.encode_regions(picture(), BOXES)
    masks = torch.zeros(2, 90, 70, dtype=torch.bool)
    masks[0, 5:80, 5:60] = masks[1] = True
    by_mask = detector.encode_regions(picture(), masks)
    assert vectors.shape == by_mask.shape == (2, 10)
    assert torch.cosine_similarity(vectors, by_mask).min() > 0.9
    assert detector.encode_regions(picture(), BOXES[:0]).shape == (0, 10)
    # the space is that of the text tower, whatever the image tower is
    assert detector.encoder_id.split(":")[1] == encoder.encoder_id.split(":")[1]
    words = detector.vocabulary(["cat", "dog"]).embeddings
    assert words.shape == (2, 10)
    assert (words.norm(dim=1) < 1).all()


def test_load_gives_each_tower_its_kinds_of_regions(released: Path, tmp_path: Path) -> None:
    resnet = resnet_file(tmp_path / "resnet.pt")
    kinds: tuple[tuple[Path, RegionSource, type], ...] = (
        (released, "crops", CropRegions),
        (released, "mask-attention", MaskAttentionRegions),
        (released, "dense", DenseRegions),
        (resnet, "dense", DenseRegions),
        (resnet, "layer4", Layer4Regions),
    )
    for path, regions, kind in kinds:
        detector = load(path, regions=regions)
        assert isinstance(detector.parts.regions, kind)
        assert detector.encode_regions(picture(), BOXES).shape[0] == 2
    with pytest.raises(ValueError, match="ViT-2x64-8 has no regions 'layer4': 'layer4' is of Res"):
        load(released, regions="layer4")
    with pytest.raises(ValueError, match="a RegionCLIP model has no regions 'mask-attention'"):
        load(resnet, regions="mask-attention")


def test_options_that_do_not_go_with_a_vit_are_refused(released: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="runs with its own text tower; leave out text_weights"):
        load(released, text_weights=released)
    save_region_prompt(tmp_path / "prompt.pth", torch.zeros(50, 2048))
    with pytest.raises(ValueError, match="has no attention pool that a region prompt would suit"):
        load(released, region_prompt=tmp_path / "prompt.pth")
