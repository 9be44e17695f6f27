import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import regionclip
from regionclip.data.datasets import Category
from regionclip.data.transforms import resize_shortest_edge
from regionclip.flows.cora import localizer_of
from regionclip.flows.data import TrainingData, open_training_data
from regionclip.flows.models import clip_with_text
from regionclip.methods.cora.detecting import base_classes
from regionclip.methods.cora.pre_matching import novel_factors
from regionclip.methods.cora.reading import read_region_prompt
from regionclip.methods.cora.region_prompt import RegionPromptLearner
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, save_model
from regionclip.recipes import read_recipe
from regionclip.recipes.cora import CoraRecipe
from regionclip.scoring.cosine import class_logits
from regionclip.train import train
from regionclip.training.engine import make_accelerator
from tests.processes import run_command, run_together
from tests.runs import assert_same_weights, entries, losses, training
from tests.tiny_cora_recipes import EQUAL_SIZES, with_changes, write_recipes
from tests.tiny_recipe import TINY

PROMPT = "encoder.clip.visual.attnpool.positional_embedding"


@pytest.fixture
def recipes(tmp_path: Path) -> tuple[Path, Path]:
    """Of the region prompt, and of the localiser."""
    return write_recipes(tmp_path)


def measured(run: Path) -> list[dict]:
    return [each for each in entries(run) if "evaluation" in each]


def test_a_region_prompt_is_trained_measured_and_written_in_both_forms(
    recipes: tuple[Path, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    before = load_file(tmp_path / "start.safetensors")
    after = load_file(train(read_recipe(recipes[0]), run))
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert moved == [PROMPT]
    assert [each["step"] for each in measured(run)] == [0, 3, 6]
    assert {"ap", "ap50", "ap50_novel", "ap50_base"} <= measured(run)[0]["evaluation"].keys()
    assert (run / "best.safetensors").exists()
    content = torch.load(run / "region_prompt.pth", weights_only=True)
    assert list(content) == ["attnpool.positional_embedding"]
    assert torch.equal(content["attnpool.positional_embedding"], after[PROMPT])
    assert torch.equal(read_region_prompt(run / "model.safetensors"), after[PROMPT])


def test_the_model_that_a_region_prompt_leaves_sees_boxes_and_names_as_its_training_did(
    recipes: tuple[Path, Path], tmp_path: Path
) -> None:
    # 80 x 96 pixels become 90 x 108: no multiples of a cell, and DETR's rounding is another
    changes = ["optimization.steps=1", "text_length=8", "shortest_side=90", "templates=openai80"]
    recipe = read_recipe(recipes[0], changes)
    run = tmp_path / "run"
    detector = regionclip.load(train(recipe, run))
    # the learner is who was compared with the original
    model = clip_with_text(str(run / "model.safetensors"))
    words = detector.vocabulary(
        ["anchor", "snowman", "a name of far more words than eight tokens have"]
    )
    learner = RegionPromptLearner(model.encoder, words.embeddings)
    boxes = torch.tensor([[3.0, 5.0, 41.0, 60.0], [20.0, 1.0, 57.0, 70.0]])
    for size in ((75, 100), (83, 61)):
        picture = Image.fromarray((torch.rand(*size, 3).numpy() * 255).astype("uint8"))
        pixels = resize_shortest_edge(picture, shortest=90, longest=128, rule="detr")
        prepared = detector.prepare(picture)
        assert torch.equal(prepared.pixels, pixels)
        own = boxes / prepared.scale_xyxy
        expected = learner.logits([pixels], [own]).detach()
        vectors = detector.encode_regions(picture, boxes)
        logits = class_logits(vectors, words.embeddings)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-3)
    # the start, pooling by the prompt, is the same wherever the prompt's file says how it was seen
    start = tmp_path / "start.safetensors"
    same = regionclip.load(start, region_prompt=run / "model.safetensors")
    assert torch.equal(same.prepare(picture).pixels, prepared.pixels)
    assert torch.equal(same.encode_regions(picture, boxes), vectors)
    assert torch.equal(same.vocabulary(words.names).embeddings, words.embeddings)
    bare = regionclip.load(start, region_prompt=run / "region_prompt.pth")
    assert bare.parts.shortest_side != same.parts.shortest_side
    longer = detector.encode_text(["one two three four five six seven eight nine"])
    shorter = detector.encode_text(["one two three four five six"])
    assert torch.equal(longer, shorter)


def test_a_localizer_is_trained_measured_and_used(
    recipes: tuple[Path, Path], tmp_path: Path
) -> None:
    prompt, run = tmp_path / "prompt", tmp_path / "run"
    train(read_recipe(recipes[0], ["optimization.steps=1"]), prompt)
    changes = [f"region_prompt={prompt / 'region_prompt.pth'}", "optimization.ema_decay=0.5"]
    weights = train(read_recipe(recipes[1], changes), run)
    after, before = load_file(weights), load_file(prompt / "model.safetensors")
    for name, tensor in before.items():
        if name.startswith("encoder."):
            assert torch.equal(tensor, after[name]), name
    assert {"objectness", "boxes_0", "giou"} <= entries(run)[1].keys()
    assert [each["step"] for each in measured(run)] == [0, 3, 6]
    assert {"ap50_novel", "ap50_base", "ap50_all"} <= measured(run)[0]["evaluation"].keys()
    detector = regionclip.load(weights)
    image = next((tmp_path / "data" / "images").glob("*.png"))
    found = detector.detect(image, ["a word that nobody trained", "anchor"])
    assert isinstance(found, regionclip.Detections)
    assert regionclip.load(run / "best.safetensors").encoder_id == detector.encoder_id


def test_averages_are_kept_in_place_of_the_last_weights(
    recipes: tuple[Path, Path], tmp_path: Path
) -> None:
    steps = "optimization.steps=1"
    start = load_file(train(read_recipe(recipes[1], ["optimization.steps=0"]), tmp_path / "zero"))
    plain = load_file(train(read_recipe(recipes[1], [steps]), tmp_path / "plain"))
    decay = "optimization.ema_decay=0.9"
    once = load_file(train(read_recipe(recipes[1], [steps, decay]), tmp_path / "once"))
    twice = load_file(
        train(
            read_recipe(recipes[1], [steps, decay, "learner.box_heads_averaged=twice"]),
            tmp_path / "twice",
        )
    )
    for name, tensor in start.items():
        expected = torch.lerp(tensor, plain[name], 0.1) if tensor.is_floating_point() else tensor
        torch.testing.assert_close(once[name], expected, msg=name)
        if name.startswith("decoder.box_heads."):
            expected = torch.lerp(tensor, plain[name], 1 - 0.9**2)
        torch.testing.assert_close(twice[name], expected, msg=name)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", [0, 1], ids=["prompt", "localizer"])
def test_an_interrupted_run_ends_where_an_unbroken_one_does(
    recipes: tuple[Path, Path], tmp_path: Path, kind: int
) -> None:
    class StoppedError(Exception):
        pass

    def interrupt(stage: str, step: int, steps: int, loss: float) -> None:
        if step == 5:
            raise StoppedError

    changes = ["learner.split_share=0.5", "optimization.ema_decay=0.9"] if kind else []
    recipe = read_recipe(recipes[kind], changes)
    whole = load_file(train(recipe, tmp_path / "whole"))
    with pytest.raises(StoppedError):
        train(recipe, tmp_path / "broken", progress=interrupt)
    resumed = load_file(train(recipe, tmp_path / "broken"))
    stage = ("region-prompt", "localizer")[kind]
    assert losses(tmp_path / "broken", stage) == losses(tmp_path / "whole", stage)
    for name, own in whole.items():
        assert torch.equal(own, resumed[name]), name


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", [0, 1], ids=["prompt", "localizer"])
def test_two_processes_equal_one(recipes: tuple[Path, Path], tmp_path: Path, kind: int) -> None:
    # AdamW would move what has no gradient but rounding, as keys' biases, as far as anything else
    recipe = with_changes(recipes[kind], *EQUAL_SIZES, 'optimization.optimizer="sgd"')
    if kind:
        recipe.write_text(recipe.read_text() + "\n[learner]\nsplit_share = 0.5\n")
    one, two = tmp_path / "one", tmp_path / "two"
    train(read_recipe(recipe), one, accelerator=make_accelerator("fp32", device="cpu"))
    run_together(run_command, *training(recipe, two), logs=tmp_path / "logs")
    stage = ("region-prompt", "localizer")[kind]
    assert losses(two, stage) == pytest.approx(losses(one, stage), rel=1e-4)
    assert_same_weights(one, two)


def test_the_number_of_steps_changes_no_tensor(recipes: tuple[Path, Path], tmp_path: Path) -> None:
    short = load_file(train(read_recipe(recipes[1], ["optimization.steps=0"]), tmp_path / "short"))
    longer = load_file(train(read_recipe(recipes[1], ["optimization.steps=1"]), tmp_path / "long"))
    assert {name: each.shape for name, each in short.items()} == {
        name: each.shape for name, each in longer.items()
    }


def test_images_without_objects_may_fill_a_batch(
    recipes: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "data" / "images" / "instances_train.json"
    content = json.loads(path.read_text())
    one = content["annotations"][:1]
    path.write_text(json.dumps(content | {"annotations": one}))
    for number, recipe in enumerate(recipes):
        run = tmp_path / f"run{number}"
        train(read_recipe(recipe, ["optimization.batch_size=1"]), run)
        assert len(losses(run, ("region-prompt", "localizer")[number])) == 6


def test_what_does_not_go_together_is_refused(recipes: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'twice' is about averages, and none are kept"):
        read_recipe(recipes[1], ["learner.box_heads_averaged=twice"])
    with pytest.raises(ValueError, match="holds no region prompt"):
        train(
            read_recipe(recipes[1], [f"region_prompt={wrong_prompt(tmp_path)}"]), tmp_path / "run"
        )
    with pytest.raises(ValueError, match="gives no figure 'ap51'"):
        train(read_recipe(recipes[0], ["measuring.metric=ap51"]), tmp_path / "run")
    wordless = tmp_path / "wordless.safetensors"
    save_model(wordless, ReadModel(RegionClip(TINY), has_text_tower=False, reports=()))
    for recipe in recipes:
        with pytest.raises(ValueError, match="carries no text tower to read class names with"):
            train(read_recipe(recipe, [f"start={wordless}"]), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def wrong_prompt(folder: Path) -> Path:
    path = folder / "wrong.pth"
    torch.save({"something": torch.zeros(2, 2)}, path)
    return path


def test_boxes_of_novel_classes_are_trained_on_if_a_model_made_them_and_the_recipe_says_so(
    recipes: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "data" / "images" / "instances_train.json"
    content = json.loads(path.read_text())
    novel, base = content["categories"][:2]
    novel["split"] = "novel"
    rows = [each for each in content["annotations"] if each["category_id"] == novel["id"]]
    assert len(rows) > 1

    def data(*changes: str) -> TrainingData:
        path.write_text(json.dumps(content))
        recipe = read_recipe(recipes[1], ["measuring.metric=ap50_novel", *changes])
        assert isinstance(recipe, CoraRecipe)
        return open_training_data(recipe.data)

    # people's boxes are refused whatever the recipe says, one among a model's too
    pseudo = "data.novel_boxes=pseudo"
    for marked in ([], rows[1:]):
        for each in marked:
            each |= {"is_pseudo": True, "score": 0.5}
        left = len(rows) - len(marked)
        for changes in ([], [pseudo]):
            with pytest.raises(ValueError, match=rf"marked novel and has {left} boxes from people"):
                data(*changes)

    rows[0]["is_pseudo"] = True
    with pytest.raises(ValueError, match=r"that a model made; set data.novel_boxes = 'pseudo'"):
        data()
    found = data(pseudo)
    assert {novel["name"], base["name"]} <= set(found.train.class_names)
    assert found.val is not None
    splits = {each.name: each.split for each in found.val.categories}
    assert (splits[novel["name"]], splits[base["name"]]) == ("novel", "base")


def test_a_model_tells_classes_that_only_a_model_found_from_those_with_boxes_of_people(
    recipes: tuple[Path, Path],
) -> None:
    recipe = read_recipe(recipes[1])
    assert isinstance(recipe, CoraRecipe)
    categories = [Category("cat", 1, "base"), Category("dog", 2, "novel"), Category("cow", 3)]
    config = localizer_of(recipe, categories).config
    assert (config.own_base_classes, config.pseudo_classes) == (("cat", "cow"), ("dog",))
    # and favours them, as any others that people gave no boxes of
    factors = novel_factors(("Dog", "cat", "cup"), factor=8.0, base=base_classes(config))
    assert factors.tolist() == [8.0, 1.0, 8.0]
