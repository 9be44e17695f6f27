"""Two processes with half a batch each, against one process with the whole."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from regionclip.losses import LossSum, concept_contrastive_loss, image_text_loss
from regionclip.losses.over_processes import constant_rows_of_all, rows_of_all, sum_of_all
from tests.processes import run_together

IMAGES, TEXTS = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
CAPTION_IDS = torch.tensor([3, 9, 3, 5])
LOGITS = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 4, 4, 6, 0])
PARTS = ((slice(0, 2), slice(0, 2)), (slice(2, 4), slice(2, 5)))
"""Of the pairs, and of the regions, per process; the regions are not the same number."""


def losses_of(images: Tensor, logits: Tensor, pairs: slice, regions: slice) -> list[LossSum]:
    texts, ids = TEXTS[pairs], CAPTION_IDS[pairs]
    return [
        image_text_loss(images, texts, ids, temperature=0.5),
        concept_contrastive_loss(logits, TARGETS[regions]),
    ]


def work(folder: str) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    pairs, regions = PARTS[rank]
    images = IMAGES[pairs].clone().requires_grad_()
    logits = LOGITS[regions].clone().requires_grad_()
    losses = losses_of(images, logits, pairs, regions)
    counts = sum_of_all(torch.stack([loss.count for loss in losses]))
    shares = torch.stack([loss.total for loss in losses]) / counts
    shares.sum().backward()
    found = {"shares": sum_of_all(shares), "images": images.grad, "logits": logits.grad}
    found["regions"] = constant_rows_of_all(logits)
    found["ids"] = constant_rows_of_all(CAPTION_IDS[: 3 * rank])
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_losses_and_gradients_of_one(tmp_path: Path) -> None:
    run_together(work, str(tmp_path), logs=tmp_path / "logs")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(len(PARTS)))
    images, logits = IMAGES.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    shares = torch.stack(
        [loss.mean() for loss in losses_of(images, logits, slice(0, 4), slice(0, 5))]
    )
    shares.sum().backward()
    torch.testing.assert_close(first["shares"], shares.detach())
    torch.testing.assert_close(torch.cat([first["images"], second["images"]]), images.grad)
    torch.testing.assert_close(torch.cat([first["logits"], second["logits"]]), logits.grad)
    for found in (first, second):
        assert torch.equal(found["regions"], LOGITS)
        assert not found["regions"].requires_grad
        # the first process has none
        assert found["ids"].tolist() == CAPTION_IDS[:3].tolist()


def test_one_process_has_its_own_rows_only() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    assert rows_of_all(rows) is rows
    assert torch.equal(constant_rows_of_all(rows), rows)
    assert not constant_rows_of_all(rows).requires_grad
    total = sum_of_all(rows)
    assert torch.equal(total, rows)
    assert not total.requires_grad
