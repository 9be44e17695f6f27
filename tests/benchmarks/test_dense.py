import torch
from benchmarks.dense import plain_map, plain_regions
from benchmarks.stand_ins import random_boxes

from regionclip.regions.dense_regions import pool_boxes
from tests.tiny_dense import tiny_dense


@torch.inference_mode()
def test_plain_mathematics_give_our_map_and_our_regions() -> None:
    encoder, images = tiny_dense(), torch.randn(1, 3, 48, 80)
    dense = plain_map(encoder, images)
    torch.testing.assert_close(encoder.dense_features(images), dense)
    boxes = random_boxes(20, 48, 80, seed=0)
    expected = plain_regions(dense, boxes, encoder.cell)
    torch.testing.assert_close(pool_boxes(dense, [boxes], cell=encoder.cell), expected)
