"""The commands of docs/detic.md run, on models and data made small."""

import shlex
from pathlib import Path

import pytest
import torch

from regionclip.cli import main
from regionclip.methods.detic.cascade_model import carry_classes
from tests.cascade_files import original_cascade_state, tiny_cascade
from tests.detic_files import original_state, tiny_detic
from tests.test_docs_commands import commands, fences
from tests.tiny_transfer import write_data, write_start

STEP = ("optimization.steps=1", "optimization.batch_size=2", "optimization.milestones=[]")
SMALL = (
    *STEP,
    "data.train=data/images",
    "data.val=",
    "data.image_root=none",
    "augmentation.shortest_sides=[64]",
    "augmentation.longest_side=96",
    "learner.regions_per_image=8",
    "run.precision=fp32",
    "run.num_workers=0",
)
NEW = (
    "text_weights=clip.safetensors",
    "backbone_weights=resnet.pth",
    "model.rpn.layers=[1,1,1]",
    "model.rpn.width=8",
    "model.region_blocks=1",
    "model.templates=photo",
    "model.shortest_side=64",
    "model.longest_side=96",
)
CAPTIONED = (
    "captions.train=data/captions.json",
    "captions.image_root=none",
    "images.per_step=2",
    "images.layout.augmentation.shortest_sides=[48]",
    "images.layout.augmentation.longest_side=64",
    "mosaics.per_step=2",
    "mosaics.layout.sides=[2]",
    "mosaics.layout.cell=48",
    "mosaics.layout.pixels=64",
)
CASCADE = "detic_lvis_clim_centernet2.pth"


def made_small(words: list[str]) -> list[str]:
    command, name = words[:2]
    if command == "train":
        is_base = name.endswith("base")
        settings = (*SMALL, *(() if is_base else CAPTIONED))
        if "lvis" in name:
            new = ("text_weights=none", "backbone_weights=none") if is_base else ()
            settings = (*settings, *new, f"start={CASCADE}")
        elif is_base:
            settings = (*settings, *NEW)
        return [*words, "--device", "cpu", *(f"--set={each}" for each in settings)]
    if command == "evaluate":
        # six icons are none of COCO's classes
        return ["evaluate", name, "--data", "data/images", "--split", "val", "--protocol", "coco"]
    return words


@pytest.mark.slow
def test_the_commands_of_the_page_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tiny_detic()
    torch.save(original_state(model), "detic_coco_cap_w_tags_clim.pth")
    cascade = tiny_cascade()
    carry_classes(cascade, ("kite", "cup"), torch.randn(2, 12))
    torch.save(original_cascade_state(cascade), CASCADE)
    Path("names.txt").write_text("kite\nred cup\n")
    state = dict(model.proposer.backbone.state_dict())
    state |= {f"layer4.{name}": each for name, each in model.region_stage.state_dict().items()}
    torch.save(state, "resnet.pth")
    write_start(tmp_path / "clip.safetensors")
    photos = write_data(tmp_path / "data")
    Path("photos").symlink_to(photos)
    for words in commands("detic"):
        assert words[0] == "regionclip"
        assert main(made_small(words[1:])) == 0, shlex.join(words)
    Path("street.jpg").write_bytes(next(photos.iterdir()).read_bytes())
    boxes = torch.tensor([[4.0, 6.0, 28.0, 30.0]])
    for block in fences("detic", "python"):
        exec(block, {"boxes": boxes})
