from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regionclip.methods.regionclip import Config, build
from regionclip.methods.regionclip.reading import ReadModel, save_model
from tests.tiny_clip import TINY, tiny_clip


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A detector of a few thousand random weights, without proposals of its own."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    model = build(Config(encoder=TINY, shortest_side=64, longest_side=96))
    model.encoder.load_state_dict(tiny_clip().state_dict())
    save_model(path, ReadModel(model, has_text_tower=True, reports=()))
    return str(path)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and home: nothing is read from or written to the real ones."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(workspace: Path) -> Path:
    """``photos/`` with ``a.jpg``, ``b.png`` and ``sub/a.jpg``, all different and landscape."""
    folder = Path("photos")
    for seed, name in enumerate(("a.jpg", "b.png", "sub/a.jpg")):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder
