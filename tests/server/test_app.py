"""What each route answers, against the detector itself; and every kind of bad request."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from fastapi import UploadFile
from fastapi.testclient import TestClient
from PIL import Image

from regionclip.concepts.class_names import builtin_names
from regionclip.detect import Detector
from regionclip.scoring.regions import score_classes
from regionclip.server.app import create_app
from regionclip.server.reading import read_upload
from regionclip.server.schemas import DetectForm, RegionsForm
from regionclip.server.service import Service, usable_cores
from regionclip.server.settings import Limits, ServiceSettings
from regionclip.structures import Detections
from tests.file_server import file_server
from tests.server.pictures import png

OF_JSON = {"content-type": "application/json"}


def post(client: TestClient, path: str, picture: bytes | None, **fields: Any) -> tuple[int, Any]:
    """Status and JSON of a form with an image."""
    files = None if picture is None else {"image": picture}
    answer = client.post(f"/v1/{path}", files=files, data=fields)
    return answer.status_code, answer.json()


def opened(picture: bytes) -> Image.Image:
    return Image.open(BytesIO(picture))


def expected_in(icons: Detector, picture: bytes) -> list[dict[str, Any]]:
    found = icons.detect(opened(picture), "icons")
    assert isinstance(found, Detections)
    return found.to_dict()


def assert_same(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [row["name"] for row in rows] == [row["name"] for row in expected]
    for field in ("box", "score", "objectness"):
        found = torch.tensor([row[field] for row in rows])
        torch.testing.assert_close(found, torch.tensor([row[field] for row in expected]))


def test_detect_gives_what_the_detector_gives(
    client: TestClient, icons: Detector, picture: bytes
) -> None:
    status, found = post(client, "detect", picture)
    expected = expected_in(icons, picture)
    assert status == 200
    assert len(expected) > 0
    assert_same(found["detections"], expected)
    assert found["model"] == "icons"
    assert found["image"] == {"width": 160, "height": 160}
    assert all(row["vector"] is None for row in found["detections"])


def test_options_of_a_request_are_taken(
    client: TestClient, icons: Detector, picture: bytes
) -> None:
    fields = {"classes": "star, heart", "min_score": "0", "max_detections": "3", "vectors": "true"}
    status, found = post(client, "detect", picture, **fields)
    assert status == 200
    assert len(found["detections"]) == 3
    assert {row["name"] for row in found["detections"]} <= {"star", "heart"}
    width = icons.encode_text(["a"]).shape[1]
    assert [len(row["vector"]) for row in found["detections"]] == [width] * 3
    _, strict = post(client, "detect", picture, min_score="1")
    assert strict["detections"] == []


@pytest.mark.parametrize("names", ["star\uff0cheart", "star;heart", '["star", "heart"]'])
def test_names_are_told_apart_as_everywhere(client: TestClient, picture: bytes, names: str) -> None:
    fields = {"boxes": "[[0, 0, 80, 80]]", "classes": names}
    _, found = post(client, "regions", picture, **fields)
    assert {each["name"] for each in found["regions"][0]["names"]} == {"star", "heart"}


def test_regions_give_vectors_and_names(
    client: TestClient, icons: Detector, picture: bytes
) -> None:
    boxes = [[0.0, 0.0, 80.0, 80.0], [40.0, 20.0, 160.0, 150.0]]
    fields = {"boxes": json.dumps(boxes), "classes": "star, heart, skull", "top_k": "2"}
    status, found = post(client, "regions", picture, **fields)
    assert status == 200
    expected = icons.encode_regions(opened(picture), torch.tensor(boxes))
    vectors = torch.tensor([region["vector"] for region in found["regions"]])
    torch.testing.assert_close(vectors, expected)
    scores = icons.classify_regions(
        opened(picture), torch.tensor(boxes), ["star", "heart", "skull"]
    )
    for region, row in zip(found["regions"], scores, strict=True):
        best = row.topk(2)
        names = [("star", "heart", "skull")[label] for label in best.indices]
        assert [each["name"] for each in region["names"]] == names
        given = torch.tensor([each["score"] for each in region["names"]])
        torch.testing.assert_close(given, best.values)


def test_no_regions_and_no_names_are_fine(client: TestClient, picture: bytes) -> None:
    assert post(client, "regions", picture, boxes="[]")[1]["regions"] == []
    _, found = post(client, "regions", picture, boxes="[[1, 2, 30, 40]]")
    assert found["regions"][0]["names"] == []


def test_texts_are_encoded_as_they_are(client: TestClient, icons: Detector) -> None:
    found = client.post("/v1/texts", json={"texts": ["a cup", "杯子"]}).json()
    torch.testing.assert_close(
        torch.tensor(found["vectors"]), icons.encode_text(["a cup", "杯子"]).cpu()
    )
    assert found["encoder_id"] == icons.encoder_id


def test_a_vocabulary_is_created_once_and_used_by_its_id(
    client: TestClient, picture: bytes
) -> None:
    asked = {"names": ["star", "a, b"], "templates": ["a photo of a {}."]}
    made = client.post("/v1/vocabularies", json=asked)
    own_id = made.json()["id"]
    assert made.status_code == 201
    assert client.post("/v1/vocabularies", json=asked).json()["id"] == own_id
    assert made.json()["names"] == ["star", "a, b"]
    listed = client.get("/v1/vocabularies").json()["vocabularies"]
    assert listed == [{"id": own_id, "num_names": 2, "num_templates": 1}]
    assert client.get(f"/v1/vocabularies/{own_id}").json() == made.json()
    _, found = post(client, "detect", picture, vocabulary=own_id, min_score="0")
    assert {row["name"] for row in found["detections"]} == {"star", "a, b"}
    assert client.delete(f"/v1/vocabularies/{own_id}").status_code == 204
    for answer in (
        client.delete(f"/v1/vocabularies/{own_id}"),
        client.get(f"/v1/vocabularies/{own_id}"),
    ):
        assert answer.status_code == 404
        assert own_id in answer.json()["detail"]
    assert post(client, "detect", picture, vocabulary=own_id)[0] == 404


def test_a_model_says_what_it_is(client: TestClient, icons: Detector) -> None:
    found = client.get("/v1/model").json()
    assert found["encoder_id"] == icons.encoder_id
    assert len(found["classes"]) == 48
    assert found["limits"]["max_boxes"] == 1000
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json() == {"status": "ready"}
    for path in ("/health", "/ready"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"classes": " , "}, 400, "the class names are empty"),
        ({"classes": "cat, cat"}, 400, "'cat'"),
        ({"classes": "x" * 501}, 400, "501 characters"),
        ({"classes": ",".join(map(str, range(2001)))}, 400, "2001 of them"),
        ({"classes": "names.txt"}, 400, "'names.txt' is a file's name"),
        ({"classes": "coco"}, 400, "did you mean coco80"),
        ({"classes": "['cat']"}, 400, "begin like a list in JSON and are none"),
        ({"classes": "cat", "vocabulary": "abc"}, 400, "leave one out"),
        ({"min_score": "nan"}, 422, "min_score"),
        ({"min_score": "2"}, 422, "min_score"),
        ({"nms_iou": "-1"}, 422, "nms_iou"),
        ({"max_detections": "0"}, 422, "max_detections"),
        ({"max_detections": "many"}, 422, "max_detections"),
        ({"colour": "red"}, 422, "colour"),
        ({"image_url": "http://a.test/x.png"}, 400, "one image"),
    ],
)
def test_bad_fields_get_a_sentence(
    client: TestClient, picture: bytes, fields: Mapping[str, str], status: int, sentence: str
) -> None:
    found, answer = post(client, "detect", picture, **fields)
    assert (found, sentence in answer["detail"]) == (status, True), answer


@pytest.mark.parametrize(
    ("boxes", "sentence"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("{}", "must be a list"),
        ("[[1, 2, 3]]", "number 0"),
        ("[[0, 0, 1, 1], [5, 5, 4, 6]]", "number 1"),
        ("[[0, 0, 1, NaN]]", "number 0"),
        ("[[0, 0, 1, Infinity]]", "number 0"),
        ("[[0, 0, 1, true]]", "number 0"),
        ('[[0, 0, 1, "2"]]', "number 0"),
        (f"[[0, 0, 1, {'9' * 400}]]", "number 0"),
        (json.dumps([[0, 0, 1, 1]] * 1001), "1001 of them"),
        (
            "[[0, 0, 1, 1], [900, 900, 1000, 1000]]",
            "inside the image, which is 160 pixels wide and 160 high, but box 1 is [900.0",
        ),
        ("[[7, 7, 7, 7]]", "box 0 is [7.0"),
    ],
)
def test_bad_boxes_get_a_sentence(
    client: TestClient, picture: bytes, boxes: str, sentence: str
) -> None:
    status, answer = post(client, "regions", picture, boxes=boxes)
    assert (status, sentence in answer["detail"]) == (400, True), answer


def bad_images(picture: bytes) -> Iterator[tuple[bytes | None, str]]:
    yield None, "send one image"
    yield b"", "empty"
    yield b"no image", "not an image"
    # Pillow would start Ghostscript
    yield b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"
    yield picture[: len(picture) // 2], "damaged or cut off"
    yield png(Image.new("1", (10_001, 10_000))), "too large to decode"


def test_bad_images_get_a_sentence(client: TestClient, picture: bytes) -> None:
    for content, sentence in bad_images(picture):
        status, answer = post(client, "detect", content, classes="cat")
        assert (status, sentence in answer["detail"]) == (400, True), answer


def test_bodies_that_are_no_form_or_no_json_get_a_sentence(client: TestClient) -> None:
    broken = {"content-type": "multipart/form-data; boundary=x"}
    for answer in (
        client.post("/v1/detect", content=b"zz", headers=broken),
        client.post("/v1/texts", content=b"{", headers={"content-type": "application/json"}),
        client.post("/v1/texts", content=b"\xff", headers={"content-type": "application/json"}),
        client.post("/v1/texts", json={"texts": "a"}),
        client.post("/v1/texts", json={"texts": []}),
        client.post("/v1/texts", json={"texts": ["a" * 501]}),
        client.post("/v1/vocabularies", json={"names": ["a"], "templates": "without a place"}),
        client.post("/v1/texts", json={"a" * 100_000: 1}),
        client.post("/v1/vocabularies", json={"names": [" "]}),
        client.post("/v1/vocabularies", json={"names": ["a"], "templates": "{} and {}"}),
        client.post("/v1/detect", data={"classes": '["\\ud800"]'}, files={"image": b"x"}),
        client.post("/v1/texts", content=b'{"texts": ["a"], "\\ud800": 1}', headers=OF_JSON),
        client.get("/v1/nothing"),
        client.put("/v1/detect"),
    ):
        assert 400 <= answer.status_code < 500
        assert 0 < len(answer.json()["detail"]) < 1010


def test_what_is_not_there_says_where_to_look(client: TestClient) -> None:
    wrong_path, wrong_method = client.get("/v1/nothing"), client.put("/v1/detect")
    assert (wrong_path.status_code, wrong_method.status_code) == (404, 405)
    assert wrong_method.headers["allow"] == "POST"
    listed = "GET /openapi.json lists what"
    assert wrong_path.json()["detail"] == f"there is nothing at /v1/nothing; {listed} there is"
    assert wrong_method.json()["detail"] == f"/v1/detect does not take PUT; {listed} it takes"


def test_images_come_from_allowed_hosts_only(
    client: TestClient, icons: Detector, picture: bytes
) -> None:
    with file_server("scene.png", picture) as server:
        status, answer = post(client, "detect", None, image_url=server.url)
        assert (status, "fetches nothing" in answer["detail"]) == (400, True)
        assert server.ranges == []
        allowed = ServiceSettings(
            classes=builtin_names("icons"), url_hosts=(urlsplit(server.url).netloc,)
        )
        with TestClient(create_app(icons, allowed)) as other:
            _, found = post(other, "detect", None, image_url=server.url)
    assert_same(found["detections"], expected_in(icons, picture))


def test_a_model_without_classes_asks_for_some(icons: Detector, picture: bytes) -> None:
    with TestClient(create_app(icons)) as client:
        status, answer = post(client, "detect", picture)
    assert (status, "name some" in answer["detail"]) == (400, True)


def test_built_in_lists_and_prompts_are_checked_as_others_are(
    icons: Detector, picture: bytes
) -> None:
    with TestClient(create_app(icons, ServiceSettings(limits=Limits(max_names=79)))) as client:
        status, answer = post(client, "detect", picture, classes="coco80")
        assert (status, "80 of them, and 79 are taken" in answer["detail"]) == (400, True)
        for templates in ("a picture of {name}", ["a picture of {name}"]):
            asked = {"names": ["cat"], "templates": templates}
            made = client.post("/v1/vocabularies", json=asked)
            assert (made.status_code, made.json()["templates"]) == (201, ["a picture of {name}"])
        twice = {"names": ["cat"], "templates": "{name} and {}"}
        assert client.post("/v1/vocabularies", json=twice).status_code == 400


def test_all_that_takes_long_is_done_beside_the_event_loop(
    icons: Detector, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def noted(*arguments: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        return score_classes(*arguments, **options)

    monkeypatch.setattr("regionclip.server.service.score_classes", noted)

    async def ask() -> None:
        service = Service(icons, ServiceSettings(classes=("star",)))
        await service.start()
        image = UploadFile(BytesIO(picture))
        form = RegionsForm.model_validate(
            {"image": image, "boxes": "[[0, 0, 9, 9]]", "classes": "star, heart"}
        )
        await service.regions(form)
        await service.close()
        assert len(threads) == 1
        assert threads[0] is not threading.current_thread()

    asyncio.run(ask())


@pytest.mark.parametrize("asked", [None, 1])
def test_only_so_many_images_are_decoded_at_once(
    icons: Detector, picture: bytes, monkeypatch: pytest.MonkeyPatch, asked: int | None
) -> None:
    """By default as many as there are cores that the process may use, not the machine's."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 5}, raising=False)
    assert usable_cores() == 2
    expected = asked or 2
    begun, may_go = threading.Semaphore(0), threading.Event()

    def held(*arguments: Any) -> Any:
        begun.release()
        assert may_go.wait(60)
        return read_upload(*arguments)

    monkeypatch.setattr("regionclip.server.service.read_upload", held)

    async def ask() -> None:
        service = Service(icons, ServiceSettings(classes=("star",), max_decoding=asked))
        await service.start()
        forms = [DetectForm.model_validate({"image": UploadFile(BytesIO(picture))}) for _ in "abc"]
        tasks = [asyncio.create_task(service.detect(form)) for form in forms]
        for _ in range(expected):
            assert await asyncio.to_thread(begun.acquire, timeout=60)
        await asyncio.sleep(0.05)
        assert not begun.acquire(blocking=False)
        may_go.set()
        await asyncio.gather(*tasks)
        assert await service.close()

    asyncio.run(ask())
