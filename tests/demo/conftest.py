from pathlib import Path

import pytest

from regionclip.demo.handlers import Handlers
from regionclip.demo.models import Choice, Models
from regionclip.demo.pictures import Picture
from regionclip.demo.sessions import Sessions, write_examples
from regionclip.detect import Detector


@pytest.fixture(scope="session")
def models() -> Models:
    """Of the shipped model, read once."""
    return Models()


@pytest.fixture(scope="session")
def icons(models: Models) -> Detector:
    return models.open(Choice("icons"))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    return write_examples(tmp_path_factory.mktemp("scenes"), count=3)


@pytest.fixture
def handlers(models: Models, scenes: list[Picture], tmp_path: Path) -> Handlers:
    return Handlers(models, Sessions(tmp_path / "visitors", scenes))
