import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import regionclip
from regionclip.checkpoints import CheckpointError
from regionclip.cli import main
from regionclip.loading import LoadOptions
from regionclip.methods.detic.config import DeticConfig, as_published
from regionclip.methods.detic.detecting import class_scores
from regionclip.methods.detic.model import Detic, carry_classes
from regionclip.methods.detic.reading import load_resnet, read_model, save_model, text_names
from regionclip.methods.detic.weights import TAG_ROWS
from regionclip.proposals.proposer import NovelClasses
from regionclip.structures import PreparedImage
from tests.detic_files import TINY_DETIC, detect_one, original_state, tiny_detic
from tests.tiny_dense import PLAIN, tiny_dense

IMAGE = torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> Detic:
    made = tiny_detic()
    rows = torch.randn(2, 12, generator=torch.Generator().manual_seed(1))
    carry_classes(made, ("a", "b"), rows)
    return made


@pytest.fixture(scope="module")
def own(model: Detic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    save_model(path, model, licence="ours")
    return path


@pytest.fixture(scope="module")
def original(model: Detic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the original's form."""
    path = tmp_path_factory.mktemp("original") / "iter_45000.pth"
    torch.save({"meta": {"iter": 45000}, "state_dict": original_state(model)}, path)
    return path


def test_a_model_comes_back_as_it_was_saved(model: Detic, own: Path) -> None:
    read = read_model(own)
    assert read.has_text_tower
    assert read.model.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.model.state_dict()[name], tensor), name
    assert not any(each.training for each in read.model.modules())


def test_any_class_is_detected_and_the_files_own_without_names(own: Path) -> None:
    detector = regionclip.load(own)
    found = detect_one(detector, IMAGE, ["cat", "a word that nobody trained"])
    assert len(found) > 0
    assert found.class_names == ("cat", "a word that nobody trained")
    assert ((found.scores > 0) & (found.scores < 1)).all()
    assert detect_one(detector, IMAGE).class_names == ("a", "b")
    given = torch.tensor([[5.0, 6, 40, 50]])
    options = replace(detector.defaults, use_box_deltas=False)
    assert detect_one(detector, IMAGE, ["cat"], boxes=given, options=options).boxes.equal(given)
    assert detector.encode_regions(IMAGE, given).shape == (1, 12)
    assert detector.encode_regions(IMAGE, torch.zeros(0, 4)).shape == (0, 12)
    with pytest.raises(ValueError, match="names boxes, not masks"):
        detector.encode_regions(IMAGE, torch.ones(1, 64, 80, dtype=torch.bool))
    novel = replace(detector.defaults, novel=NovelClasses(factor=2.0))
    with pytest.raises(ValueError, match="looks for all classes alike: leave out novel"):
        detect_one(detector, IMAGE, ["cat"], options=novel)


def test_an_original_file_gives_the_same_vectors(model: Detic, own: Path, original: Path) -> None:
    read = read_model(original)
    assert read.has_text_tower
    assert read.report.left_over == (TAG_ROWS,)
    config = read.model.config
    assert (config.rpn.layers, config.rpn.width, config.region_blocks) == ((1, 1, 1), 8, 1)
    assert config.text == model.config.text
    assert config.own_class_names == ("class 0", "class 1")
    boxes = torch.tensor([[5.0, 6, 40, 50], [0, 0, 80, 64]])
    wanted = regionclip.load(own).parts.regions.view([prepared()]).of(0).features(boxes)
    found = regionclip.load(original).parts.regions.view([prepared()]).of(0).features(boxes)
    torch.testing.assert_close(found, wanted)


def prepared() -> PreparedImage:
    return PreparedImage(IMAGE, (64, 80), "image")


def test_a_file_without_a_text_tower_knows_its_own_classes_and_takes_another(
    model: Detic, own: Path, tmp_path: Path
) -> None:
    path = tmp_path / "without.pth"
    state = {name: each for name, each in original_state(model).items() if ".clip." not in name}
    torch.save(state, path)
    read = read_model(path)
    assert not read.has_text_tower
    assert {name for name in read.report.missing if "bias" not in name} <= set(
        text_names(read.model)
    )
    detector = regionclip.load(path)
    assert detect_one(detector, IMAGE).class_names == ("class 0", "class 1")
    with pytest.raises(ValueError, match=r"carries no text tower.*openai:ViT-B-32"):
        detect_one(detector, IMAGE, ["cat"])
    lent = regionclip.load(path, text_weights=own)
    assert detect_one(lent, IMAGE, ["cat"]).class_names == ("cat",)
    with pytest.raises(ValueError, match="runs with its own text tower; leave out text_weights"):
        regionclip.load(own, text_weights=own)


def test_what_lent_words_are_computed_with_can_be_said(
    model: Detic, own: Path, tmp_path: Path
) -> None:
    path, lender = tmp_path / "without.pth", tmp_path / "lender.pt"
    state = {name: each for name, each in original_state(model).items() if ".clip." not in name}
    torch.save(state, path)
    torch.save(tiny_dense(replace(PLAIN, embed_dim=12)).clip.state_dict(), lender)
    vectors = [
        regionclip.load(
            path, text_weights=lender, options=LoadOptions(activation=activation)
        ).encode_text(["cat"])
        for activation in ("gelu", "quick_gelu")
    ]
    expected = regionclip.load(lender, options=LoadOptions(activation="gelu")).encode_text(["cat"])
    torch.testing.assert_close(vectors[0], expected)
    assert not torch.allclose(vectors[1], expected)
    for file in (path, own):
        with pytest.raises(ValueError, match=r"activation 'gelu' is for files .*so leave it out"):
            regionclip.load(file, options=LoadOptions(activation="gelu"))


def test_biases_that_were_not_trained_may_be_missing_and_nothing_else(
    original: Path, model: Detic, tmp_path: Path
) -> None:
    state, path = original_state(model), tmp_path / "part.pth"
    del state["roi_head.detic_tags.bce_bias"]
    torch.save(state, path)
    assert read_model(path).model.tag_bias.item() == DeticConfig().initial_bias
    for missing in ("roi_head.bbox_head.fc_reg.2.bias", "roi_head.clip.text_encoder.ln_final.bias"):
        torch.save({name: each for name, each in state.items() if name != missing}, path)
        with pytest.raises(CheckpointError, match="lacks 1 of"):
            read_model(path)
    torch.save(state | {"mask_head.convs.0.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"has unknown 1 of .*mask_head"):
        read_model(path)
    path.write_bytes(original.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="is damaged or incomplete"):
        regionclip.load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"roi_head.bbox_head.cls_embeddings": torch.zeros(2, 12)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="is no Detic detector on a ResNet's one map"):
        read_model(tmp_path / "other.pth")


def test_models_show_tells_what_a_file_is(
    original: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "show", str(original)]) == 0
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "a Detic detector (CLIM's)" in printed
    assert "1-1-1-1 blocks, 8 wide" in printed
    assert "1: 1 of roi_head" in printed


def test_models_convert_keeps_a_detector(
    original: Path, model: Detic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "converted.safetensors"
    assert main(["models", "convert", str(original), str(output)]) == 0
    state = read_model(output).model.state_dict()
    assert torch.equal(state["class_layer.weight"], model.class_layer.weight)


def test_without_its_bias_scores_are_those_of_the_original(model: Detic) -> None:
    rows = torch.eye(12)[:3]
    vectors = 7 * torch.eye(12)[:2]
    biased = class_scores(model, vectors, rows)
    expected = torch.sigmoid(25 * torch.eye(12)[:2, :3] - 2)
    torch.testing.assert_close(biased, expected)
    other = tiny_detic(as_published(TINY_DETIC))
    torch.testing.assert_close(
        class_scores(other, vectors, rows), torch.sigmoid(25 * torch.eye(12)[:2, :3])
    )
    assert other.config.selection.min_score == 0.05


def test_images_of_other_sizes_beside_it_do_not_change_an_images_regions(own: Path) -> None:
    regions = regionclip.load(own).parts.regions
    boxes = torch.tensor([[30.0, 20, 80, 64]])
    alone = regions.view([prepared()]).of(0).features(boxes)
    other = PreparedImage(torch.rand(3, 96, 96), (96, 96), "other")
    together = regions.view([other, prepared()]).of(1).features(boxes)
    torch.testing.assert_close(together, alone)


def test_a_new_detector_begins_with_a_resnets_weights(model: Detic, tmp_path: Path) -> None:
    state = dict(model.proposer.backbone.state_dict())
    state |= {f"layer4.{name}": each for name, each in model.region_stage.state_dict().items()}
    torch.save(state | {"fc.weight": torch.zeros(5, 8)}, tmp_path / "resnet.pth")
    new = tiny_detic(seed=1)
    load_resnet(new, tmp_path / "resnet.pth")
    for part in ("proposer.backbone", "region_stage"):
        for name, tensor in model.get_submodule(part).state_dict().items():
            assert torch.equal(new.get_submodule(part).state_dict()[name], tensor), name
    torch.save(model.proposer.backbone.state_dict(), tmp_path / "trunk.pth")
    with pytest.raises(CheckpointError, match="lacks"):
        load_resnet(new, tmp_path / "trunk.pth")


def test_impossible_configurations_are_refused() -> None:
    pyramid = replace(
        TINY_DETIC.rpn, pyramid_channels=8, anchor_sizes=((8.0,), (16.0,), (32.0,), (64.0,))
    )
    with pytest.raises(ValueError, match="regions are cut from one map"):
        replace(TINY_DETIC, rpn=pyramid)
    with pytest.raises(ValueError, match="region_blocks must be at least 1"):
        replace(TINY_DETIC, region_blocks=0)
    with pytest.raises(ValueError, match="own_class_names are 1, num_classes 2"):
        replace(TINY_DETIC, own_class_names=("a",), num_classes=2)
    with pytest.raises(ValueError, match="give class_names or own_class_names"):
        replace(TINY_DETIC, class_names="coco80", own_class_names=("a",), num_classes=1)
