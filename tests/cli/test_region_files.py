from pathlib import Path

import pytest
import torch

from regionclip.cli.region_files import Regions, write_original


@pytest.mark.parametrize("num_regions", [0, 3])
def test_a_file_holds_its_own_rows_only(tmp_path: Path, num_regions: int) -> None:
    batch = torch.randn(10_000, 16)
    regions = Regions(
        boxes=batch[:num_regions, :4],
        features=batch[:num_regions],
        labels=torch.zeros(10_000, dtype=torch.int64)[:num_regions],
        scores=batch[:num_regions, 0],
        probs=batch[:num_regions, :3],
    )
    path = tmp_path / "made" / "a.pth"
    write_original(path, regions)
    assert path.stat().st_size < 10_000
    content = torch.load(path, weights_only=True)
    assert torch.equal(content["feats"], batch[:num_regions])
    assert torch.equal(content["probs"], batch[:num_regions, :3])
    assert content["classes"].dtype == torch.int64
