from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regionclip.data import icons
from regionclip.data.icons.batches import BoxBatch
from regionclip.flows.icons import proposal_batches, region_batches
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import read_model
from regionclip.train import train
from tests.runs import entries
from tests.tiny_recipe import PRETRAINING, RECIPE, TINY, plan, weights_of


def test_each_stage_learns_its_part(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = weights_of(RegionClip(TINY))
    after = weights_of(read_model(train(RECIPE, tmp_path)).model)
    for part in ("encoder.clip.visual.", "encoder.clip.transformer.", "proposer.backbone."):
        own = [key for key in after if key.startswith(part) and key.endswith("weight")]
        assert own
        assert all(not torch.equal(before[key], after[key]) for key in own), part


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    unbroken = train(RECIPE, tmp_path / "a")

    class StoppedError(Exception):
        pass

    def interrupt(stage: str, step: int, steps: int, loss: float) -> None:
        if (stage, step) == ("regions", 2):
            raise StoppedError

    with pytest.raises(StoppedError):
        train(RECIPE, tmp_path / "b", progress=interrupt)
    resumed = train(RECIPE, tmp_path / "b")
    others = weights_of(read_model(resumed).model)
    for key, one in weights_of(read_model(unbroken).model).items():
        assert torch.equal(one, others[key]), key


def test_weights_between_captions_and_regions(tmp_path: Path) -> None:
    alone = weights_of(read_model(train(replace(RECIPE, regions=None), tmp_path / "a")).model)
    after = weights_of(read_model(train(RECIPE, tmp_path / "b")).model)
    mixed = train(replace(RECIPE, weight_ensemble=0.25), tmp_path / "c")
    key = "encoder.clip.visual.layer4.0.conv1.weight"
    assert not torch.equal(alone[key], after[key])
    expected = 0.75 * alone[key].float() + 0.25 * after[key].float()
    # files hold half precision
    found = weights_of(read_model(mixed).model)[key].float()
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-4)


def test_pretraining_moves_the_image_tower_and_nothing_else(tmp_path: Path) -> None:
    captions_only = replace(RECIPE, regions=None)
    before = weights_of(read_model(train(captions_only, tmp_path / "without")).model)
    recipe = replace(captions_only, pretraining=PRETRAINING)
    after = weights_of(read_model(train(recipe, tmp_path / "with")).model)
    moved = {key for key, own in before.items() if not torch.equal(own, after[key])}
    assert "encoder.clip.visual.layer2.0.conv1.weight" in moved
    assert all(key.startswith("encoder.clip.visual.") for key in moved)


def test_the_teacher_may_look_at_scenes_of_another_size(tmp_path: Path) -> None:
    def first_distillation(side: int | None) -> float:
        pretraining = replace(PRETRAINING, teacher_regions="map", teacher_shortest_side=side)
        idle = replace(RECIPE.captions, steps=0)
        stages = {"captions": idle, "regions": None, "proposals": idle, "pretraining": pretraining}
        train(replace(RECIPE, **stages), tmp_path / str(side))
        return entries(tmp_path / str(side))[0]["distillation"]

    # in its own size, it at first sees what the student sees
    assert first_distillation(64) > 10 * abs(first_distillation(None))
    with pytest.raises(ValueError, match="teacher_shortest_side must be at least 1, got 0"):
        replace(PRETRAINING, teacher_shortest_side=0)


def test_pretraining_without_a_proposer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"draws regions from \[model.rpn\], which is missing"):
        replace(RECIPE, model=replace(TINY, rpn=None), pretraining=PRETRAINING)


def test_checkpoints_of_another_recipe_are_refused(tmp_path: Path) -> None:
    no_steps = replace(RECIPE.captions, steps=0)
    idle = replace(RECIPE, captions=no_steps, regions=no_steps, proposals=no_steps)
    train(idle, tmp_path)
    other = replace(idle, scene_share=0.5)
    with pytest.raises(ValueError, match=r"another recipe \(scene_share was 0.1, now 0.5\)"):
        train(other, tmp_path)


def test_no_novel_icon_is_ever_drawn_with_boxes() -> None:
    more = plan(20, 4)
    regions = region_batches(RECIPE, more)
    proposals = proposal_batches(replace(RECIPE, proposals=more))
    streams: list[BoxBatch] = [regions[step][1] for step in range(20)]
    streams += [proposals[step] for step in range(20)]
    labels = torch.cat([batch.labels for batch in streams])
    assert labels.min() >= 0
    assert {icons.BASE_NAMES[label] for label in labels.tolist()}.isdisjoint(icons.NOVEL_NAMES)
