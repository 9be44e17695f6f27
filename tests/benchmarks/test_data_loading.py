from pathlib import Path

import pytest
import torch
from benchmarks import data_loading
from benchmarks.data_loading import LoadingOptions, photographs, time_loading

from regionclip.data.images import read_image


@pytest.fixture(autouse=True)
def few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_loading, "NUM_FILES", 2)


def test_photographs_are_as_large_as_cocos_and_have_an_outline_per_object(tmp_path: Path) -> None:
    dataset = photographs(tmp_path, 3)
    assert len(dataset) == 2
    for sample in dataset:
        assert read_image(sample.image).size == (640, 480)
        assert sample.size_hw == (480, 640)
        assert len(sample.objects) == len(sample.objects.segmentations) == 3
        for box, (polygon,) in zip(sample.objects.boxes, sample.objects.segmentations, strict=True):
            points = torch.tensor(polygon).reshape(-1, 2)
            # a pentagon that fills its box
            assert torch.cat([points.amin(dim=0), points.amax(dim=0)]).equal(box)


def test_loading_is_timed_per_photograph(tmp_path: Path) -> None:
    options = LoadingOptions(num_images=3, num_objects=1)
    timing = time_loading(tmp_path, options, num_workers=0, repeats=1)
    assert 0 < timing.seconds < 60
    assert timing.busy_cores > 0
