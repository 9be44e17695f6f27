from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from regionclip.checkpoints import CheckpointError
from regionclip.encoders.mean_clip import MeanClip
from regionclip.encoders.mean_clip_weights import read_mean_clip
from regionclip.loading.mean_clip import build_mean_clip, load_mean_clip, mean_clip_detector_of
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
def test_files_of_every_form_fill_the_model(trunk: str, form: str, tmp_path: Path) -> None:
    encoder = tiny_mean(trunk)
    torch.save({"model": written(encoder, form)}, tmp_path / "file.pth")
    found = build_mean_clip(encoder.spec)
    report = read_mean_clip(tmp_path / "file.pth", found)
    assert set(report.loaded) == set(encoder.state_dict())
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


def test_a_file_of_another_tower_is_refused(tmp_path: Path) -> None:
    torch.save(written(tiny_mean("vit"), "training"), tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=r"vit\.pth lacks \d+ of \d+ tensors of tiny-davit"):
        read_mean_clip(tmp_path / "vit.pth", build_mean_clip(tiny_mean("davit").spec))
    doubled = written(tiny_mean("vit"), "training") | {"lang_projection": torch.zeros(1)}
    torch.save(doubled, tmp_path / "twice.pth")
    with pytest.raises(CheckpointError, match=r"has clip\.text_projection under two names"):
        read_mean_clip(tmp_path / "twice.pth", build_mean_clip(tiny_mean("vit").spec))
    with pytest.raises(ValueError, match="unknown architecture 'Swin-L'; expected one of UniCL-"):
        load_mean_clip(tmp_path / "vit.pth", "Swin-L")


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
