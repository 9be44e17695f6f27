"""How training varies images, with the original's random numbers."""

import random
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.data.cropping import CroppingAugmentation, crop_and_resize
from regionclip.data.datasets import Objects
from regionclip.data.transforms import normalize_and_pad
from regionclip.encoders.clip_resnet import OPENAI_MEAN, OPENAI_STD

from .golden import check, check_sampled, golden, seed, stand_ins

CASE = "preprocess"
NUM_IMAGES, NUM_DRAWS = 4, 3


class OriginalChance:
    """Python's generator for choices, torch's for the corner of a part.

    Generators of its own: the checks of types that run with tests draw from Python's global one.
    """

    def __init__(self, seed: int) -> None:
        self.python = random.Random(seed)
        self.torch = torch.Generator().manual_seed(seed)

    def happens(self, share: float) -> bool:
        return self.python.random() < share

    def index(self, count: int) -> int:
        return self.python.choice(range(count))

    def between(self, low: int, high: int) -> int:
        return self.python.randint(low, high)

    def corner(self, room_hw: tuple[int, int]) -> tuple[int, int]:
        """As torchvision's ``RandomCrop.get_params``, which draws nothing where nothing is cut."""
        if room_hw == (0, 0):
            return 0, 0
        top, left = (
            int(torch.randint(0, room + 1, size=(1,), generator=self.torch)) for room in room_hw
        )
        return top, left


def annotated(expected: dict[str, np.ndarray], row: int) -> Objects:
    xywh = torch.from_numpy(expected[f"img{row}_ann_xywh"]).float()
    boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
    crowd = torch.arange(len(boxes)) == 5
    return Objects(boxes, torch.arange(len(boxes)), crowd, torch.zeros_like(crowd))


@pytest.mark.parametrize(("row", "draw"), list(product(range(NUM_IMAGES), range(NUM_DRAWS))))
def test_images_vary_as_the_originals_do(row: int, draw: int) -> None:
    expected = golden(CASE)
    height, width = expected[f"img{row}_hw"].tolist()
    picture = Image.fromarray(stand_ins().image(height, width, seed() + 10 + row))
    pixels, targets = crop_and_resize(
        picture,
        annotated(expected, row),
        CroppingAugmentation(),
        chance=OriginalChance(1000 * row + draw),
    )
    prefix = f"img{row}_train{draw}"
    check(CASE, f"{prefix}_shape", pixels.shape, expected[f"{prefix}_shape"], rtol=0.0)
    check(CASE, f"{prefix}_size", pixels.shape[1:], expected[f"{prefix}_size"], rtol=0.0)
    [normalized] = normalize_and_pad([pixels], mean=OPENAI_MEAN, std=OPENAI_STD)
    check_sampled(CASE, prefix, normalized, rtol=1e-6)
    check(CASE, f"{prefix}_labels", targets.labels, expected[f"{prefix}_labels"], rtol=0.0)
    sides = torch.tensor([pixels.shape[2], pixels.shape[1]] * 2)
    boxes = targets.boxes / sides
    centred = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)
    check(CASE, f"{prefix}_boxes", centred, expected[f"{prefix}_boxes"], rtol=1e-6)
