"""The losses of CLIM and CLIPSelf on the originals' own vectors."""

import numpy as np
import pytest
import torch

from regionclip.losses import contrastive, cosine_distillation_loss, image_text_loss
from tests.parity.clim.training_numbers import check, golden

CLIM, SELF = "loss_clim", "loss_clipself"
LOSS = 1e-5
"""Relative."""


def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    """Of the 32 images, as tiles and then as singles, and of their captions."""
    expected = golden(CLIM)
    images = np.concatenate([expected["region_features"], expected["single_features"]])
    return torch.from_numpy(images), torch.from_numpy(expected["text_features"])


def test_the_contrastive_loss_is_that_of_the_original() -> None:
    images, texts = vectors()
    temperature = torch.tensor(1.0) / torch.from_numpy(golden(CLIM)["logit_scale"])
    loss = image_text_loss(images, texts, torch.arange(32), temperature=temperature)
    check(CLIM, "loss_contrast", loss.mean(), golden(CLIM)["loss_contrast"], rtol=LOSS)


@pytest.mark.parametrize("rank", [0, 1])
def test_of_two_processes_each_has_the_loss_of_its_own_rows(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, texts = vectors()
    ids = torch.arange(32)
    own = slice(16 * rank, 16 * rank + 16)
    # what a process gets from the others, without them
    gathered = iter([ids, texts, images])
    monkeypatch.setattr(contrastive, "rows_of_all", lambda _: next(gathered))
    loss = image_text_loss(images[own], texts[own], ids[own], temperature=0.01)
    name = f"loss_world2_rank{rank}"
    check(CLIM, name, loss.mean(), golden(CLIM)[name], rtol=LOSS)


def test_the_cosine_loss_is_that_of_the_original() -> None:
    expected = golden(SELF)
    student, teacher = (torch.from_numpy(expected[name]) for name in ("student", "teacher"))
    loss = cosine_distillation_loss(student, teacher)
    check(SELF, "loss_cosine", loss.mean(), expected["loss_cosine"], rtol=LOSS)
