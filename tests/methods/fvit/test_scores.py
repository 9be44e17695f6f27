from dataclasses import replace

import pytest
import torch

from regionclip.methods.fvit.config import FvitConfig
from regionclip.methods.fvit.scores import are_base, detector_logits, fused_scores

CONFIG = FvitConfig(base_exponent=0.25, novel_exponent=0.5)


def test_logits_by_hand_with_the_background_last() -> None:
    logits = detector_logits(
        torch.tensor([[3.0, 4.0], [0.0, 0.0]]),
        torch.tensor([[2.0, 0.0]]),
        torch.tensor([0.0, 7.0]),
        scale=10.0,
    )
    # the second region fired nowhere: as far from everything, and no NaN
    torch.testing.assert_close(logits, torch.tensor([[6.0, 8.0], [0.0, 0.0]]))


def test_a_learned_scale_gets_a_gradient() -> None:
    scale = torch.tensor(50.0, requires_grad=True)
    detector_logits(torch.ones(2, 2), torch.eye(2), torch.ones(2), scale=scale).sum().backward()
    assert scale.grad is not None
    assert scale.grad > 0


def test_fused_scores_by_hand() -> None:
    detector = torch.tensor([[0.5, 0.25, 0.25]]).log()
    clip = torch.tensor([[0.25, 0.25, 0.5]]).log()
    fused = fused_scores(detector, clip, torch.tensor([True, False]), CONFIG)
    expected = [0.5**0.75 * 0.25**0.25, 0.25, 0.25**0.75 * 0.5**0.25]
    torch.testing.assert_close(fused, torch.tensor([expected]))


def test_without_region_or_class_only_the_background_is_left() -> None:
    logits = detector_logits(torch.zeros(0, 2), torch.zeros(0, 2), torch.ones(2), scale=1.0)
    fused = fused_scores(logits, logits, torch.zeros(0, dtype=torch.bool), CONFIG)
    assert fused.shape == (0, 1)


def test_classes_are_base_however_they_are_written() -> None:
    names = ("Person", "traffic light", "cat", "remote")
    assert are_base(names, FvitConfig(base_classes="coco48")).tolist() == [
        True,
        False,
        False,
        True,
    ]
    lvis = FvitConfig(base_classes="lvis866")
    assert are_base(("aerosol can", "aerosol_can"), lvis).tolist() == [True, True]
    own = replace(CONFIG, base_classes="", own_base_classes=("red_cup",))
    assert are_base(("red cup", "cup"), own).tolist() == [True, False]
    assert are_base((), own).shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_exponent": 1.5}, "base_exponent must be in"),
        ({"novel_exponent": -0.5}, "novel_exponent must be in"),
        ({"clip_scale": 0.0}, "clip_scale must be positive"),
        ({"detector_scale": -1.0}, "detector_scale must be positive"),
        ({"token_blocks": (3, 5, 11)}, "token_blocks must be four numbers that rise"),
        ({"token_blocks": (3, 7, 5, 11)}, "token_blocks must be four numbers that rise"),
        ({"image_size": 0}, "image_size must be at least 1"),
        ({"own_base_classes": ("a",)}, "give base_classes or own_base_classes"),
        ({"own_class_names": ("a",)}, "own_class_names are 1, num_classes 0"),
        (
            {"own_class_names": ("a",), "class_names": "coco80", "num_classes": 1},
            "give class_names or own_class_names",
        ),
    ],
)
def test_a_wrong_configuration_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)
