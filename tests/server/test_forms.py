"""Slips of clients that a framework passes over, or answers in words of its own."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

JSON = {"content-type": "application/json"}


def refused(client: TestClient, path: str, files: list[tuple[str, bytes]], **fields: Any) -> str:
    answer = client.post(f"/v1/{path}", files=files, data=fields)
    assert answer.status_code == 422, answer.text
    return answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "fields", "sentence"),
    [
        (
            "detect",
            {"classes": ["star", "heart"]},
            "classes: given 2 times; send the names in one field, with commas",
        ),
        ("detect", {"classes": ["", "heart"]}, "classes: given 2 times"),
        ("detect", {"min_score": ["0.1", "0.1", "0.2"]}, "min_score: given 3 times; send it once"),
        ("regions", {"boxes": ["[]", "[]"]}, "boxes: given 2 times; send all boxes in one list"),
    ],
)
def test_a_field_given_twice_is_refused(
    client: TestClient, picture: bytes, path: str, fields: dict[str, list[str]], sentence: str
) -> None:
    assert refused(client, path, [("image", picture)], **fields).startswith(sentence)


def test_two_images_are_refused(client: TestClient, picture: bytes) -> None:
    detail = refused(client, "detect", [("image", picture), ("image", picture)])
    assert detail == "image: given 2 times; send one image with each request"


@pytest.mark.parametrize("name", ["classes", "vocabulary", "min_score"])
def test_an_empty_field_is_no_default(client: TestClient, picture: bytes, name: str) -> None:
    detail = refused(client, "detect", [("image", picture)], **{name: ""})
    assert detail == f"{name}: is empty; give it a value, or leave the field out"


def test_text_in_place_of_an_image_is_told_from_a_file(client: TestClient, picture: bytes) -> None:
    expected = "image: is text, not a file; with curl write -F image=@photo.jpg"
    answer = client.post("/v1/detect", data={"image": "photo.jpg"})
    assert (answer.status_code, answer.json()["detail"]) == (422, expected)


def test_an_unknown_field_is_answered_with_those_that_there_are(
    client: TestClient, picture: bytes
) -> None:
    detail = refused(client, "regions", [("file", picture)], boxes="[]")
    known = "image, image_url, classes, vocabulary, boxes, top_k"
    assert detail == f"file: is no field; fields are {known}"
    for content in (b'{"name": ["a"]}', b'{"names": ["a"], "name": 1}'):
        answer = client.post("/v1/vocabularies", content=content, headers=JSON)
        assert answer.json()["detail"] == "name: is no field; fields are names, templates"
    long = b'{"' + b"x" * 2000 + b'": 1}'
    detail = client.post("/v1/texts", content=long, headers=JSON).json()["detail"]
    assert detail.endswith("xx: is no field; fields are texts")
