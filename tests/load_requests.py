"""What :func:`regionclip.load` asks of a kind of file, for tests of kinds alone."""

from pathlib import Path

import torch

from regionclip.loading.request import LoadRequest
from regionclip.regions.embedder import RegionSource
from regionclip.regions.region_head import DEFAULT_MEMORY_BUDGET


def request_for(path: Path, *, regions: RegionSource = "map") -> LoadRequest:
    """A request for a file with the defaults of :func:`regionclip.load`."""
    return LoadRequest(
        name=str(path),
        device="cpu",
        dtype=torch.float32,
        proposer=None,
        regions=regions,
        region_prompt=None,
        text_weights=None,
        memory_budget=DEFAULT_MEMORY_BUDGET,
        progress=None,
    )
