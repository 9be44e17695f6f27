from pathlib import Path

import pytest
import torch
from benchmarks import objectness
from benchmarks.__main__ import Options, main
from benchmarks.objectness import AnnotatedRegions

from regionclip.regions.embedder import BatchView, RegionEmbedder, RegionView
from regionclip.structures import PreparedImage

IMAGE = PreparedImage(torch.zeros(3, 40, 60), (40, 60), "x")


def test_annotated_regions_know_the_class_of_what_they_overlap() -> None:
    boxes = torch.tensor([[0.0, 0, 20, 20], [30, 0, 50, 20]])
    regions = AnnotatedRegions({"x": (boxes, torch.tensor([2, 0]))}, 3)
    assert isinstance(regions, RegionEmbedder)
    assert isinstance(regions.view([IMAGE]), BatchView)
    view = regions.view([IMAGE]).of(0)
    assert isinstance(view, RegionView)
    # the first is one object, the second overlaps the other by 2/3, the third nothing by half
    asked = torch.tensor([[0.0, 0, 20, 20], [34, 0, 54, 20], [0, 10, 20, 30]])
    assert view.features(asked).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert view.features(asked[:0]).shape == (0, 3)


def test_annotated_regions_of_an_image_without_objects_have_no_class() -> None:
    none = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    view = AnnotatedRegions({"x": none}, 3).view([IMAGE]).of(0)
    assert view.features(torch.tensor([[0.0, 0, 20, 20]])).tolist() == [[0, 0, 0]]


def test_without_photographs_the_comparison_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(objectness, "DETECTOR", tmp_path / "gone.onnx")
    assert main(Options(only=("objectness",))) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("objectness left out: needs photographs and a detector")
    assert "gone.onnx" in printed
