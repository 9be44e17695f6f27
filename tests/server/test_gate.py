"""What is let in: keys, sizes, numbers and time."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from regionclip.detect import Detector
from regionclip.server.app import create_app
from regionclip.server.gate import Gate
from regionclip.server.metrics import Metrics
from regionclip.server.settings import Limits, ServiceSettings

TEXTS = {"texts": ["a"]}
POST = {"type": "http", "method": "POST", "path": "/v1/texts", "headers": []}


def served(icons: Detector, **settings: Any) -> TestClient:
    return TestClient(create_app(icons, ServiceSettings(**settings)))


def test_work_needs_a_key_and_watching_does_not(icons: Detector) -> None:
    with served(icons, api_keys=("first", "second")) as client:

        def status(**headers: str) -> int:
            return client.post("/v1/texts", json=TEXTS, headers=headers).status_code

        assert status() == 401
        assert status(**{"X-API-Key": "firs"}) == 401
        foreign = {b"X-API-Key": "fürst".encode()}
        assert client.post("/v1/texts", json=TEXTS, headers=foreign).status_code == 401
        assert status(**{"X-API-Key": "first"}) == 200
        assert status(Authorization="Bearer second") == 200
        assert status(Authorization="bearer second") == 200
        assert status(Authorization="Bearer third") == 401
        assert client.get("/v1/model").status_code == 401
        for path in ("/health", "/ready", "/metrics", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_keys_may_have_any_letters(icons: Detector) -> None:
    # of the last letter's bytes, one is a space to latin-1, in which headers are read
    with served(icons, api_keys=("für dich à",)) as client:

        def status(name: str, content: str) -> int:
            headers = {name.encode(): content.encode()}
            return client.get("/v1/model", headers=headers).status_code

        assert status("X-API-Key", "für dich à") == 200
        assert status("Authorization", "Bearer  für dich à ") == 200
        assert status("X-API-Key", "für dich á") == 401


def test_the_description_says_where_a_key_is_sent(icons: Detector) -> None:
    def described(*keys: str) -> Any:
        return create_app(icons, ServiceSettings(api_keys=keys)).openapi()

    found = described("first")
    assert found["components"]["securitySchemes"] == {
        "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "Bearer": {"type": "http", "scheme": "bearer"},
    }
    for path, methods in found["paths"].items():
        either = [{"X-API-Key": []}, {"Bearer": []}] if path.startswith("/v1/") else None
        assert all(own.get("security") == either for own in methods.values()), path
    assert "securitySchemes" not in described()["components"]


def test_a_key_is_needed_wherever_the_service_is_mounted(icons: Detector) -> None:
    app = create_app(icons, ServiceSettings(api_keys=("first",)))
    with TestClient(app, root_path="/clip") as client:
        assert client.get("/v1/model").status_code == 401
        assert client.get("/health").status_code == 200
    outer = FastAPI()
    outer.mount("/clip", app)
    mounted = TestClient(outer)
    assert mounted.get("/clip/v1/model").status_code == 401
    assert mounted.get("/clip/v1/model", headers={"X-API-Key": "first"}).status_code == 200


def test_a_body_that_is_too_long_is_not_read(icons: Detector) -> None:
    with served(icons, limits=Limits(max_body_bytes=1000)) as client:
        told = client.post("/v1/detect", content=b"x" * 1001)
        assert told.status_code == 413
        assert "more than 1000 bytes" in told.json()["detail"]
        parts = (b'{"texts": ["' + b"x" * 400, b"x" * 400, b"x" * 400, b'"]}')
        untold = client.post(
            "/v1/texts", content=iter(parts), headers={"content-type": "application/json"}
        )
        assert untold.status_code == 413
    with served(icons, limits=Limits(max_json_bytes=1000)) as client:
        assert client.post("/v1/texts", content=b"x" * 1001).status_code == 413
        form = {"image": b"x" * 1001}
        assert client.post("/v1/detect", files=form, data={"classes": "a"}).status_code == 400


class SlowReader:
    """Takes one piece of an answer each time that it is let."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.may_take = asyncio.Semaphore(0)

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            await self.may_take.acquire()
            self.pieces.append(message)


async def nothing() -> dict[str, Any]:
    return {"type": "http.request"}


def saying(content: bytes) -> Any:
    """An application that answers so, whatever it is asked."""

    async def say(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": content})

    return say


@pytest.mark.parametrize(
    ("num_bytes", "sizes"),
    [(0, [0]), (5, [5]), (65536, [65536]), (65537, [65536, 1]), (196608, [65536] * 3)],
)
def test_an_answer_is_handed_on_in_pieces(num_bytes: int, sizes: list[int]) -> None:
    content = bytes(index % 251 for index in range(num_bytes))

    async def ask() -> None:
        reader = SlowReader()
        gate, _ = gated(saying(content))
        for _ in sizes:
            reader.may_take.release()
        await gate(POST, nothing, reader)
        assert [len(piece["body"]) for piece in reader.pieces] == sizes
        assert b"".join(piece["body"] for piece in reader.pieces) == content
        more = [piece.get("more_body", False) for piece in reader.pieces]
        assert more == [True] * (len(sizes) - 1) + [False]

    asyncio.run(ask())


def test_an_answer_that_is_read_slowly_is_in_flight_and_has_no_more_time() -> None:
    async def ask() -> None:
        reader = SlowReader()
        gate, metrics = gated(saying(bytes(200_000)))
        task = asyncio.create_task(gate(POST, nothing, reader))
        for number in range(4):
            await asyncio.sleep(0.01)
            assert (len(reader.pieces), metrics.num_in_flight) == (number, 1)
            reader.may_take.release()
        await task
        assert metrics.num_in_flight == 0
        never = SlowReader()
        gate, metrics = gated(saying(bytes(200_000)), timeout_seconds=0.05)
        never.may_take.release()
        await asyncio.wait_for(gate(POST, nothing, never), 30)
        # broken off: no second answer begins inside the first
        assert [piece["more_body"] for piece in never.pieces] == [True]
        assert metrics.num_in_flight == 0

    asyncio.run(ask())


class Asked:
    """One request through a gate, without a server around it."""

    def __init__(self, gate: Gate, *chunks: bytes, path: str = "/v1/texts") -> None:
        self.sent: list[Any] = []
        self.chunks = list(chunks) or [b""]
        self.may_arrive = asyncio.Event()
        scope = {**POST, "path": path}
        self.task = asyncio.create_task(gate(scope, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        await self.may_arrive.wait()
        body = self.chunks.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self.chunks)}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def status(self) -> int:
        await asyncio.wait_for(self.task, 30)
        return self.sent[0]["status"]

    @property
    def sentence(self) -> str:
        return self.sent[1]["body"].decode()


async def reading(_: Any, receive: Any, send: Any) -> None:
    """An application that reads its body and answers."""
    while (await receive())["more_body"]:
        pass
    await answer(send)


async def sleeping(_: Any, receive: Any, send: Any) -> None:
    await receive()
    await asyncio.sleep(30)
    await answer(send)


async def answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def gated(app: Any, **limits: Any) -> tuple[Gate, Metrics]:
    metrics = Metrics()
    return Gate(app, limits=Limits(**limits), metrics=metrics, api_keys=()), metrics


def test_too_many_at_once_are_sent_away_and_the_others_answered() -> None:
    async def ask() -> None:
        gate, metrics = gated(reading, max_in_flight=2)
        taken = [Asked(gate), Asked(gate)]
        await asyncio.sleep(0)
        third, watcher = Asked(gate), Asked(gate, path="/health")
        watcher.may_arrive.set()
        assert await third.status() == 429
        assert "2 requests are being worked on" in third.sentence
        assert await watcher.status() == 200
        assert b"regionclip_requests_in_flight 2.0" in metrics.text()
        for each in taken:
            each.may_arrive.set()
        assert [await each.status() for each in taken] == [200, 200]
        again = Asked(gate)
        again.may_arrive.set()
        assert await again.status() == 200
        assert b"regionclip_requests_in_flight 0.0" in metrics.text()

    asyncio.run(ask())


def test_time_is_limited_for_those_who_send_and_for_those_who_compute() -> None:
    async def ask() -> None:
        slow_sender = Asked(gated(reading, timeout_seconds=0.05)[0])
        assert await slow_sender.status() == 408
        slow_answer = Asked(gated(sleeping, timeout_seconds=0.05)[0])
        slow_answer.may_arrive.set()
        assert await slow_answer.status() == 503
        assert "longer than 0.05 s" in slow_answer.sentence

    asyncio.run(ask())


def test_what_goes_wrong_inside_is_answered_and_counted() -> None:
    async def failing(_: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ZeroDivisionError

    async def ask() -> None:
        gate, metrics = gated(failing)
        asked = Asked(gate)
        asked.may_arrive.set()
        assert await asked.status() == 500
        assert b'status="500"' in metrics.text()

    asyncio.run(ask())


def test_bodies_of_many_parts_are_weighed_as_they_come() -> None:
    async def ask() -> None:
        gate, _ = gated(reading, max_body_bytes=10)
        fits, does_not = Asked(gate, b"12345", b"67890"), Asked(gate, b"12345", b"678901")
        for each in (fits, does_not):
            each.may_arrive.set()
        assert [await fits.status(), await does_not.status()] == [200, 413]

    asyncio.run(ask())


def test_unknown_paths_and_methods_make_no_new_counters(icons: Detector) -> None:
    with served(icons) as client:
        for path in ("/v1/a", "/b", "/v1/vocabularies/c"):
            client.get(path)
        client.request("MADE-UP", "/v1/detect")
        text = client.get("/metrics").text
    assert 'route="other"' in text
    assert 'route="/v1/vocabularies/{vocabulary_id}"' in text
    for made_up in ("/v1/a", '/b"', "MADE-UP"):
        assert made_up not in text


def test_limits_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="max_boxes must be positive, got 0"):
        Limits(max_boxes=0)
    with pytest.raises(ValueError, match="timeout_seconds must be positive, got inf"):
        Limits(timeout_seconds=float("inf"))
