"""A service with the model that ships, in this process."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

import regionclip
from regionclip.concepts.class_names import builtin_names
from regionclip.detect import Detector
from regionclip.server.app import create_app
from regionclip.server.settings import ServiceSettings
from tests.server.pictures import scene


@pytest.fixture(scope="session")
def icons() -> Detector:
    return regionclip.load("icons")


@pytest.fixture(scope="session")
def picture() -> bytes:
    return scene()


@pytest.fixture(scope="module")
def client(icons: Detector) -> Iterator[TestClient]:
    settings = ServiceSettings(model_name="icons", classes=builtin_names("icons"))
    with TestClient(create_app(icons, settings)) as found:
        yield found
