from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regionclip.data import icons
from regionclip.data.icons.batches import BoxBatch
from regionclip.methods.regionclip.model import RegionClip
from regionclip.train import (
    StageRecipe,
    lr_factor,
    proposal_batches,
    read_recipe,
    region_batches,
    train,
)
from tests.tiny_recipe import RECIPE, TINY, weights_of


def test_each_stage_learns_its_part(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = weights_of(RegionClip(TINY))
    after = weights_of(train(RECIPE, tmp_path / "tiny.safetensors", work_dir=tmp_path / "work"))
    for part in ("encoder.clip.visual.", "encoder.clip.transformer.", "proposer.backbone."):
        own = [key for key in after if key.startswith(part) and key.endswith("weight")]
        assert own
        assert all(not torch.equal(before[key], after[key]) for key in own), part


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in a fixed order: with several threads two equal runs differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    unbroken = train(RECIPE, tmp_path / "a.safetensors", work_dir=tmp_path / "a")

    class StoppedError(Exception):
        pass

    def interrupt(stage: str, step: int, steps: int, loss: float) -> None:
        if (stage, step) == ("regions", 2):
            raise StoppedError

    with pytest.raises(StoppedError):
        train(RECIPE, tmp_path / "b.safetensors", work_dir=tmp_path / "b", progress=interrupt)
    resumed = train(RECIPE, tmp_path / "b.safetensors", work_dir=tmp_path / "b")
    for (key, one), other in zip(
        weights_of(unbroken).items(), weights_of(resumed).values(), strict=True
    ):
        assert torch.equal(one, other), key


def test_checkpoints_of_another_recipe_are_refused(tmp_path: Path) -> None:
    no_steps = replace(RECIPE.captions, steps=0)
    idle = replace(RECIPE, captions=no_steps, regions=no_steps, proposals=no_steps)
    train(idle, tmp_path / "a.safetensors", work_dir=tmp_path / "work")
    with pytest.raises(ValueError, match="holds checkpoints of another recipe"):
        train(replace(idle, seed=1), tmp_path / "b.safetensors", work_dir=tmp_path / "work")


def test_no_novel_icon_is_ever_drawn_with_boxes() -> None:
    recipe = replace(
        RECIPE,
        regions=replace(RECIPE.regions, steps=20, batch_size=4),
        proposals=replace(RECIPE.proposals, steps=20, batch_size=4),
    )
    regions, proposals = region_batches(recipe), proposal_batches(recipe)
    streams: list[BoxBatch] = [regions[step][1] for step in range(20)]
    streams += [proposals[step] for step in range(20)]
    labels = torch.cat([batch.labels for batch in streams])
    assert labels.min() >= 0
    assert {icons.BASE_NAMES[label] for label in labels.tolist()}.isdisjoint(icons.NOVEL_NAMES)


def test_the_learning_rate_warms_up_and_ends_near_zero() -> None:
    stage = StageRecipe(steps=100, batch_size=1, learning_rate=1.0, warmup_steps=10)
    assert lr_factor(0, stage) == pytest.approx(0.1)
    assert lr_factor(50, stage) == pytest.approx(0.5)
    assert lr_factor(99, stage) < 1e-3


def test_the_shipped_recipe_reads() -> None:
    recipe = read_recipe(Path(__file__).parents[1] / "recipes" / "icons.toml")
    assert recipe.model.encoder.name == "icons"


@pytest.mark.parametrize(
    ("text", "message"),
    [("learning_speed = 3", "unknown setting 'learning_speed'"), ("= 3", "is not a TOML recipe")],
)
def test_a_recipe_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(path)
    assert "odd.toml" in str(caught.value)


def test_a_stage_without_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size >= 1, got 5 and 0"):
        StageRecipe(steps=5, batch_size=0, learning_rate=1.0)
