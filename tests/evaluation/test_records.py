import json
from dataclasses import replace

import pytest
import torch

from regionclip.evaluation.finding import nothing_found
from regionclip.evaluation.records import decoded_masks, from_record, to_record

from .made import random_world


def test_detections_come_back_from_json_bit_by_bit() -> None:
    _, detections = random_world(0)
    for own in detections:
        back = from_record(json.loads(json.dumps(to_record(own))), own.class_names)
        assert torch.equal(back.boxes.float(), own.boxes)
        assert torch.equal(back.boxes, own.boxes.double())
        assert torch.equal(back.scores, own.scores.double())
        assert torch.equal(back.labels, own.labels)
        assert back.class_names == own.class_names


def test_masks_come_back() -> None:
    _, detections = random_world(0)
    own = detections[0]
    masks = torch.rand(len(own), 30, 40, generator=torch.Generator().manual_seed(0)) > 0.7
    back = from_record(json.loads(json.dumps(to_record(replace(own, masks=masks)))), ())
    assert back.masks is not None
    assert torch.equal(back.masks, masks)


def test_nothing_found_comes_back_with_and_without_masks() -> None:
    empty = nothing_found(("cat",))
    assert len(from_record(to_record(empty), ("cat",))) == 0
    masked = replace(empty, masks=torch.zeros(0, 5, 5, dtype=torch.bool))
    assert len(from_record(to_record(masked), ("cat",))) == 0


def test_masks_of_two_sizes_in_one_image_are_refused() -> None:
    encoded = [{"size": [5, 5], "counts": "i0"}, {"size": [6, 5], "counts": "n0"}]
    with pytest.raises(ValueError, match=r"must have one size, got \[\(5, 5\), \(6, 5\)\]"):
        decoded_masks(encoded)
