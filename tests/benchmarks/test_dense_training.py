import torch
from benchmarks.dense_training import HALF, OURS, PLAIN, _backward, clim_steps, clipself_steps
from torch import Tensor

from tests.tiny_dense import TINY_VIT


def test_plain_and_ours_learn_the_same() -> None:
    device = torch.device("cpu")
    for steps in (
        clipself_steps(TINY_VIT, 64, 1, device),
        clim_steps(TINY_VIT, 64, device),
    ):
        assert set(steps) == {PLAIN, OURS, HALF}
        gradients: dict[str, list[Tensor]] = {}
        losses = {}
        for name, (tower, step) in steps.items():
            losses[name] = _backward(tower, step)
            gradients[name] = [
                each.grad.clone() for each in tower.parameters() if each.grad is not None
            ]
        torch.testing.assert_close(losses[OURS], losses[PLAIN])
        torch.testing.assert_close(gradients[OURS], gradients[PLAIN], rtol=1e-3, atol=1e-5)
        assert max(float(each.abs().max()) for each in gradients[OURS]) > 0
        torch.testing.assert_close(losses[HALF], losses[PLAIN], rtol=0.05, atol=0.05)
