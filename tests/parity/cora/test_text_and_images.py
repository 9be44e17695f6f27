"""Prompts and resized photographs against CORA's own numbers."""

import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.ops import box_convert

from regionclip.concepts.templates import TEMPLATES
from regionclip.data.augmentation import Augmentation, augment
from regionclip.data.datasets import Objects
from regionclip.data.transforms import resize_shortest_edge
from regionclip.encoders.clip_resnet import OPENAI_MEAN, OPENAI_STD
from regionclip.encoders.text import ShortPrompts, class_embeddings

from .golden import check, check_sampled, detector, golden, seed, stand_ins


@pytest.mark.slow
@torch.inference_mode()
def test_prompts_of_fifteen_tokens() -> None:
    case, model = "rn50_text", detector("RN50")
    expected = golden(case)
    names = [str(name) for name in expected["names"]]
    texts = ShortPrompts(model.encoder, length=model.config.text_length)
    first = [TEMPLATES["photo"][0].replace("{}", name) for name in names]
    check(case, "tokens", texts.tokenize(first), expected["tokens"], rtol=0.0)
    rows = class_embeddings(texts, names, TEMPLATES["openai80"])
    check(case, "embeddings", F.normalize(rows, dim=1), expected["embeddings"])
    raw = model.encoder.encode_tokens(texts.tokenize([str(text) for text in expected["raw_texts"]]))
    check(case, "raw", raw, expected["raw"])


@pytest.mark.parametrize("number", range(4))
def test_photographs_are_resized_as_upstream_does_for_a_test(number: int) -> None:
    case = "preprocess"
    expected = golden(case)
    height, width = expected[f"img{number}_hw"].tolist()
    picture = Image.fromarray(stand_ins().image(height, width, seed() + 10 + number))
    pixels = resize_shortest_edge(picture, shortest=800, longest=1333, rule="detr")
    mean, std = (torch.tensor(each)[:, None, None] for each in (OPENAI_MEAN, OPENAI_STD))
    check(case, f"img{number}_val_shape", pixels.shape, expected[f"img{number}_val_shape"], rtol=0)
    check_sampled(case, f"img{number}_val", (pixels - mean) / std)
    for name, size in (("size", pixels.shape[1:]), ("orig_size", (height, width))):
        check(case, f"img{number}_val_{name}", size, expected[f"img{number}_val_{name}"], rtol=0)


@pytest.mark.parametrize("number", range(4))
def test_boxes_are_clipped_and_crowds_left_out_as_upstream_does_for_a_test(number: int) -> None:
    case = "preprocess"
    expected = golden(case)
    height, width = expected[f"img{number}_hw"].tolist()
    x, y, box_width, box_height = torch.from_numpy(expected[f"img{number}_ann_xywh"]).float().T
    boxes = torch.stack([x, y, x + box_width, y + box_height], dim=1)
    labels = torch.arange(len(boxes))
    nothing = torch.zeros(len(boxes), dtype=torch.bool)
    pixels, targets = augment(
        Image.new("RGB", (width, height)),
        Objects(boxes, labels, is_crowd=labels == 5, is_difficult=nothing),
        Augmentation(shortest_sides=(64,), longest_side=1333, flip_share=0.0),
        generator=torch.Generator(),
    )
    sides = torch.tensor(pixels.shape[:0:-1]).repeat(2)
    shares = box_convert(targets.boxes / sides, "xyxy", "cxcywh")
    check(case, f"img{number}_val_boxes", shares, expected[f"img{number}_val_boxes"], rtol=1e-6)
    check(case, f"img{number}_val_labels", targets.labels, expected[f"img{number}_val_labels"])
