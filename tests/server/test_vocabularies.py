"""Vocabularies that a service keeps and remembers, and their encoding beside other texts."""

import asyncio
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from regionclip.detect import Detector
from regionclip.server.app import create_app
from regionclip.server.batching import NotRunningError
from regionclip.server.problems import RequestError
from regionclip.server.service import Service
from regionclip.server.settings import Limits, ServiceSettings


def test_there_is_room_for_so_many_vocabularies(icons: Detector) -> None:
    limits = Limits(max_vocabularies=1, max_prompts=100)
    with TestClient(create_app(icons, ServiceSettings(limits=limits))) as client:

        def made(*names: str, templates: Any = "photo") -> int:
            asked = {"names": names, "templates": templates}
            return client.post("/v1/vocabularies", json=asked).status_code

        assert made("a", "b", templates="imagenet80") == 400
        assert [made("a"), made("a"), made("b")] == [201, 201, 409]


def test_vocabularies_are_weighed_in_bytes(icons: Detector) -> None:
    width = icons.encode_text(["a"]).shape[1]
    limits = Limits(max_vocabulary_bytes=4 * width * 3 + 100)
    with TestClient(create_app(icons, ServiceSettings(limits=limits))) as client:

        def made(*names: str) -> Any:
            return client.post("/v1/vocabularies", json={"names": names, "templates": "{}"})

        first, second = made("a", "b"), made("c", "d")
        assert (first.status_code, second.status_code) == (201, 409)
        assert f"and {limits.max_vocabulary_bytes} are taken" in second.json()["detail"]
        assert made("a", "b").status_code == 201
        client.delete(f"/v1/vocabularies/{first.json()['id']}")
        assert made("c", "d").status_code == 201


def test_a_vocabulary_that_can_never_be_kept_is_refused_before_it_is_encoded(
    icons: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    width = icons.encode_text(["a"]).shape[1]
    limits = Limits(max_vocabulary_bytes=4 * width * 2 + 10)
    with TestClient(create_app(icons, ServiceSettings(limits=limits))) as client:

        def made(*names: str) -> Any:
            return client.post("/v1/vocabularies", json={"names": names, "templates": "{}"})

        for _ in range(2):
            answer = made("a", "b", "c")
            assert answer.status_code == 400
            needed = 4 * width * 3 + 3 + 2
            assert f"alone takes {needed} bytes" in answer.json()["detail"]
            # the width of vectors is known now, and no more are made
            monkeypatch.setattr("regionclip.server.vocabularies.Vocabulary.from_names", None)
        monkeypatch.undo()
        assert made("a", "b").status_code == 201


def test_names_of_requests_are_forgotten_when_there_are_too_many(
    icons: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    width = icons.encode_text(["a"]).shape[1]
    monkeypatch.setattr("regionclip.server.vocabularies.REMEMBERED_BYTES", 4 * width * 2 + 100)

    async def encode() -> None:
        service = Service(icons, ServiceSettings())
        await service.start()
        store = service.vocabularies
        for name in "abc":
            await store.encoded((name,), ("{}",))
        assert await service.close()
        with pytest.raises(NotRunningError):
            await store.encoded(("a",), ("{}",))  # forgotten
        for name in "bc":
            assert (await store.encoded((name,), ("{}",))).vocabulary.names == (name,)

    asyncio.run(encode())


def test_what_is_remembered_is_weighed_once_however_many_ask(icons: Detector) -> None:
    width = icons.encode_text(["a"]).shape[1]
    own = 4 * width + len("a") + len("{}")

    async def encode() -> None:
        service = Service(icons, ServiceSettings())
        await service.start()
        store = service.vocabularies
        asked = (store.encoded(("a",), ("{}",)) for _ in range(3))
        assert {each.num_bytes for each in await asyncio.gather(*asked)} == {own}
        assert (store.remembered_bytes, store.kept_bytes) == (own, 0)
        together = (store.keep(("a",), ("{}",)), store.encoded(("a",), ("{}",)))
        kept, _ = await asyncio.gather(*together)
        assert (store.remembered_bytes, store.kept_bytes) == (0, own)
        await store.keep(("a",), ("{}",))
        assert (store.remembered_bytes, store.kept_bytes) == (0, own)
        store.delete(kept.id)
        assert (store.remembered_bytes, store.kept_bytes) == (0, 0)
        await service.close()

    asyncio.run(encode())


def test_a_huge_vocabulary_holds_up_no_short_texts(icons: Detector) -> None:
    names = tuple(f"thing {number}" for number in range(1000))

    async def encode() -> None:
        service = Service(icons, ServiceSettings())
        await service.start()
        huge = asyncio.create_task(service.vocabularies.encoded(names, service.templates(None)))
        await asyncio.sleep(0.01)
        assert len(await asyncio.wait_for(service.encode_texts(["a cup"]), 60)) == 1
        short = await asyncio.wait_for(service.vocabularies.encoded(("a",), ("{}",)), 60)
        torch.testing.assert_close(short.vocabulary.embeddings, icons.encode_text(["a"]).cpu())
        assert not huge.done()
        assert await service.close()
        with pytest.raises(NotRunningError):
            await huge

    asyncio.run(encode())


def test_texts_make_way_for_shorter_ones_and_for_the_end(icons: Detector) -> None:
    async def encode() -> None:
        service = Service(icons, ServiceSettings())
        await service.start()
        huge = asyncio.create_task(service.encode_texts([f"thing {n}" for n in range(5000)]))
        await asyncio.sleep(0.01)
        assert len(await asyncio.wait_for(service.encode_texts(["a cup"]), 60)) == 1
        assert not huge.done()
        assert await service.close()
        with pytest.raises(NotRunningError):
            await huge

    asyncio.run(encode())


def test_only_so_many_texts_wait_to_be_encoded(icons: Detector) -> None:
    async def encode() -> None:
        service = Service(icons, ServiceSettings(limits=Limits(max_prompts=3)))
        await service.start()
        store = service.vocabularies
        first = asyncio.create_task(store.encoded(("a", "b"), ("{}",)))
        same = asyncio.create_task(store.encoded(("a", "b"), ("{}",)))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="2 other texts are being encoded") as error:
            await store.encoded(("c", "d"), ("{}",))
        assert error.value.status_code == 503
        assert (await first).vocabulary is (await same).vocabulary
        assert (await store.encoded(("c", "d"), ("{}",))).vocabulary.names == ("c", "d")
        await service.close()

    asyncio.run(encode())
