"""From the first moment to the last: what is answered before there is a model, and after."""

import threading

from fastapi.testclient import TestClient

from regionclip.detect import Detector
from regionclip.server.problems import RequestError
from regionclip.server.settings import Limits, ServiceSettings
from regionclip.server.starting import StartingApp


class Begun:
    """An application whose model is read when it is let."""

    def __init__(self, detector: Detector | Exception, settings: ServiceSettings) -> None:
        self.may_load, self.has_changed = threading.Event(), threading.Event()
        self._detector = detector
        self.app = StartingApp(self._load, settings, on_change=lambda _: self.has_changed.set())

    def _load(self) -> Detector:
        assert self.may_load.wait(60)
        if isinstance(self._detector, Exception):
            raise self._detector
        return self._detector


def test_all_is_503_until_the_model_is_read_and_its_names_are_encoded(icons: Detector) -> None:
    begun = Begun(icons, ServiceSettings(classes=("star",)))
    with TestClient(begun.app) as client:
        assert client.get("/health").json() == {"status": "alive"}
        for answer in (client.get("/ready"), client.post("/v1/texts", json={"texts": ["a"]})):
            assert answer.status_code == 503
            assert "the model is being read" in answer.json()["detail"]
            assert answer.headers["retry-after"] == "1"
        assert not begun.app.is_ready
        begun.may_load.set()
        assert begun.has_changed.wait(60)
        assert client.get("/ready").json() == {"status": "ready"}
        assert client.get("/v1/model").json()["classes"] == ["star"]
    assert begun.app.is_ready
    assert begun.app.is_over


def test_what_cannot_begin_says_why(icons: Detector) -> None:
    prompts = Limits(max_prompts=1)
    broken = Begun(ValueError("no such model"), ServiceSettings())
    unencodable = Begun(icons, ServiceSettings(classes=("star", "heart"), limits=prompts))
    for begun in (broken, unencodable):
        begun.may_load.set()
        with TestClient(begun.app):
            assert begun.has_changed.wait(60)
        assert not begun.app.is_ready
        assert begun.app.is_over
    assert str(broken.app.error) == "no such model"
    assert isinstance(unencodable.app.error, RequestError)
    assert "2 texts, and 1 are taken" in unencodable.app.error.detail


def test_an_end_before_the_model_is_read_does_not_wait_for_it(icons: Detector) -> None:
    begun = Begun(icons, ServiceSettings())
    with TestClient(begun.app):
        pass
    assert not begun.app.is_over
    begun.may_load.set()


def test_an_end_does_not_wait_for_names_that_nobody_waits_for(icons: Detector) -> None:
    begun = Begun(icons, ServiceSettings(limits=Limits(timeout_seconds=0.2)))
    begun.may_load.set()
    names = [f"thing {number}" for number in range(2000)]
    with TestClient(begun.app) as client:
        assert begun.has_changed.wait(60)
        asked = {"names": names, "templates": "imagenet80"}
        assert client.post("/v1/vocabularies", json=asked).status_code in (408, 503)
    # 162 000 texts take longer, however fast the machine
    for words in [thread for thread in threading.enumerate() if thread.name == "words"]:
        words.join(60)
        assert not words.is_alive()
