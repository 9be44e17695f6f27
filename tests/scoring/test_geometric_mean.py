import pytest
import torch

from regionclip.scoring.geometric_mean import class_exponents, fuse_geometric_mean


def test_exponents_of_base_classes_are_the_backgrounds_too() -> None:
    exponents = class_exponents(torch.tensor([True, False]), base=0.1, novel=0.8)
    torch.testing.assert_close(exponents, torch.tensor([0.1, 0.8, 0.1]))
    none = class_exponents(torch.zeros(0, dtype=torch.bool), base=0.1, novel=0.8)
    torch.testing.assert_close(none, torch.tensor([0.1]))


@pytest.mark.parametrize(("base", "novel", "which"), [(-0.1, 0.5, "base"), (0.1, 1.5, "novel")])
def test_an_exponent_that_is_no_share_is_refused(base: float, novel: float, which: str) -> None:
    with pytest.raises(ValueError, match=rf"the {which} classes' exponent must be in \[0, 1\]"):
        class_exponents(torch.tensor([True]), base=base, novel=novel)


def test_fused_scores_by_hand() -> None:
    fused = fuse_geometric_mean(
        torch.tensor([[0.25, 0.16]]), torch.tensor([[1.0, 0.01]]), torch.tensor([0.5, 0.5])
    )
    torch.testing.assert_close(fused, torch.tensor([[0.5, 0.04]]))


def test_the_exponents_ends_take_one_opinion() -> None:
    detector, clip = torch.rand(5, 2), torch.rand(5, 2)
    fused = fuse_geometric_mean(detector, clip, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(fused, torch.stack([detector[:, 0], clip[:, 1]], dim=1))


def test_equal_opinions_stay_and_no_region_is_fine() -> None:
    scores = torch.rand(4, 3)
    torch.testing.assert_close(fuse_geometric_mean(scores, scores, torch.rand(3)), scores)
    assert fuse_geometric_mean(scores[:0], scores[:0], torch.rand(3)).shape == (0, 3)
