from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from regionclip.encoders.vit import ClipVitSpec
from regionclip.flows.icons import take_text_tower
from regionclip.methods.clim.config import ClimConfig
from regionclip.methods.clim.model import Clim
from regionclip.methods.clim.reading import read_model
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, save_model
from regionclip.recipes.icons import IconsVitRecipe
from regionclip.recipes.settings import RunSettings
from regionclip.train import train
from tests.tiny_recipe import TINY, plan

IMAGE_TOWER = "encoder.clip.visual."
VIT = ClipVitSpec(
    name="tiny-vit",
    embed_dim=16,
    image_size=32,
    patch_size=8,
    width=16,
    layers=1,
    head_width=8,
    text_width=16,
    text_heads=2,
    text_layers=1,
    context_length=32,
    vocab_size=600,
    quick_gelu=False,
)
RECIPE = IconsVitRecipe(
    model=ClimConfig(vit=VIT, longest_side=64, templates="photo"),
    captions=plan(2, 4),
    caption_image_sizes=(32,),
    caption_images=5,
    run=RunSettings(precision="fp32", num_workers=0, checkpoint_every=1, log_every=1),
)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with a text tower, as the one that ships."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("shipped") / "icons.safetensors"
    save_model(path, ReadModel(RegionClip(TINY), has_text_tower=True, reports=()))
    return path


def weights_of(path: Path) -> dict[str, Tensor]:
    return dict(read_model(path).model.state_dict())


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, own in before.items() if not torch.equal(own, after[name])}


def test_both_towers_learn_from_captions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = Clim(RECIPE.model).state_dict()
    changed = moved(before, weights_of(train(RECIPE, tmp_path)))
    assert f"{IMAGE_TOWER}class_embedding" in changed
    assert "encoder.clip.text_projection" in changed
    assert "encoder.clip.logit_scale" in changed


def test_a_text_tower_that_is_taken_stays_as_it_is(tmp_path: Path, shipped: Path) -> None:
    recipe = replace(RECIPE, text_weights=str(shipped))
    model = Clim(recipe.model)
    take_text_tower(model.encoder, str(shipped))
    changed = moved(model.state_dict(), weights_of(train(recipe, tmp_path)))
    others = {name for name in changed if not name.startswith(IMAGE_TOWER)}
    assert f"{IMAGE_TOWER}class_embedding" in changed
    assert others == {"encoder.clip.logit_scale"}


def test_a_text_tower_gives_its_own_vectors(shipped: Path) -> None:
    torch.manual_seed(3)
    source = RegionClip(TINY)
    encoder = Clim(RECIPE.model).encoder
    take_text_tower(encoder, str(shipped))
    tokens = encoder.tokenize(["a cow", "two red anchors"])
    torch.testing.assert_close(encoder.encode_tokens(tokens), source.encoder.encode_tokens(tokens))


def test_a_text_tower_of_another_shape_is_refused(shipped: Path) -> None:
    other = ClimConfig(vit=replace(VIT, text_layers=2))
    with pytest.raises(ValueError, match=r"icons.safetensors \(text_weights\) is of another shape"):
        take_text_tower(Clim(other).encoder, str(shipped))


def test_what_the_recipe_cannot_mean_is_refused() -> None:
    with pytest.raises(ValueError, match=r"day_share must be in \[0, 1\], got 1.5"):
        replace(RECIPE, day_share=1.5)
    with pytest.raises(ValueError, match="must have a vision transformer"):
        replace(RECIPE, model=ClimConfig(vit=None, resnet=TINY.encoder))
