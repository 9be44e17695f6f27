from pathlib import Path

import pytest
import torch
from PIL import Image

from regionclip import load
from regionclip.data.transforms import resize_shortest_edge
from regionclip.regions.dense_regions import network_input, pool_boxes
from regionclip.structures import Detections
from tests.methods.clipself.test_reading import SPEC
from tests.tiny_eva import eva_file, tiny_eva

PICTURE = Image.effect_noise((90, 60), 80).convert("RGB")
BOXES = torch.tensor([[0.0, 0.0, 90.0, 60.0], [10.0, 5.0, 50.0, 40.0]])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eva") / "holiday.jpg"
    torch.save({"epoch": 6, "state_dict": eva_file(tiny_eva(spec=SPEC))}, path)
    return path


def test_a_file_gives_regions_from_its_dense_map(path: Path) -> None:
    model, encoder = load(path), tiny_eva(spec=SPEC)
    # patches of 8: the longer side is 64 patches
    pixels = resize_shortest_edge(
        PICTURE, shortest=1, longest=512, interpolation="bicubic", rule="longest"
    )
    dense = encoder.dense_features(network_input(encoder, pixels, padding="square"))
    assert dense.shape[2:] == (64, 64)
    expected = pool_boxes(dense, [BOXES * 512 / 90], cell=8.0)
    torch.testing.assert_close(model.encode_regions(PICTURE, BOXES), expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(load(path, regions="dense").encode_regions(PICTURE, BOXES[:0]), expected[:0])


def test_masks_crops_and_names_go_through_the_same_calls(path: Path) -> None:
    model = load(path, proposals="grid")
    masks = torch.zeros(1, 60, 90, dtype=torch.bool)
    masks[:, 10:30, 20:70] = True
    assert model.encode_regions(PICTURE, masks).shape == (1, 10)
    assert load(path, regions="crops").encode_regions(PICTURE, BOXES).shape == (2, 10)
    found = model.detect(PICTURE, ["cat", "dog"], boxes=BOXES)
    assert isinstance(found, Detections)


def test_what_does_not_go_with_it_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match=r"EVA02-2x64-8 has no regions 'mask-attention': .*; use"):
        load(path, regions="mask-attention")
    with pytest.raises(ValueError, match="runs with its own text tower; leave out text_weights"):
        load(path, text_weights=path)
