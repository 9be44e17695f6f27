import pytest
import torch
from benchmarks import dense_training

from tests.tiny_dense import TINY_VIT


@pytest.mark.slow
def test_plain_and_ours_learn_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_training, "VIT_SPECS", {"ViT-B-16": TINY_VIT})
    report = dense_training.run(side=64, num_images=1, repeats=1, device=torch.device("cpu"))
    ways = [row["training step"] for row in report.rows]
    names = ("plain fp32", "ours fp32", "ours bf16")
    assert ways == [f"{method}, {name}" for method in ("CLIPSelf", "CLIM") for name in names]
    for row in report.rows:
        is_half = "bf16" in row["training step"]
        assert float(row["loss off by"]) < (0.05 if is_half else 1e-5)
        assert float(row["gradients off by"]) < (0.2 if is_half else 1e-4)
    assert float(report.rows[2]["gradients off by"]) > 0
    assert len(report.targets) == 2
