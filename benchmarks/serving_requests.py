"""What a service is asked under load, and what it has to answer."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from typing import Any

import torch
from PIL import Image

from regionclip.concepts.templates import prompt_templates
from regionclip.data.icons.scenes import draw_scene
from regionclip.detect import Detector
from regionclip.server.vocabularies import vocabulary_id
from regionclip.structures import Detections

NUM_SCENES = 8
"""Without a common divisor with :data:`BAD_SHARE`, together with the five other good requests: else
the bad ones would take the turns of always the same scenes."""
SCENE_SIDES = (160, 224)
"""Pixels a side of one scene and of the next: only images of one size are computed together."""
FEW_NAMES = ("star", "heart", "skull")
TEXTS = ("a star", "a photo of two hearts", "杯子")
BOXES = ((0.0, 0.0, 80.0, 80.0), (40.0, 20.0, 160.0, 150.0))
BAD_SHARE = 8
"""One in so many requests is bad."""
SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.5
"""Pixels of the image as it was sent."""
VECTOR_TOLERANCE = 1e-3
"""Of one minus the cosine similarity."""


@dataclass(frozen=True)
class Asked:
    """A request, and what has to be answered."""

    content: bytes
    is_right: Callable[[Any], bool] | None = None
    """Whether an answer's JSON is what it has to be; ``None`` for a bad request."""
    status: int = 200
    """Of the answer to a good request."""
    num_images: int = 1
    """That a good request has computed."""
    is_cut: bool = False
    """It announces a body that does not come: no other can follow it on its connection."""


def first_request(detector: Detector) -> Asked:
    """What a service has to be asked before :func:`good_requests`: to keep a vocabulary."""
    body = json.dumps({"names": FEW_NAMES}).encode()
    own_id = _few_names_id(detector)
    return Asked(
        _request("/v1/vocabularies", "application/json", body),
        lambda content: content.get("id") == own_id,
        status=201,
        num_images=0,
    )


def good_requests(detector: Detector) -> Iterator[Asked]:
    """Images of two sizes; names, a kept vocabulary, vectors, boxes, and texts alone."""
    for index in range(NUM_SCENES):
        picture, file = _scene(index)
        found = detector.detect(picture, "icons")
        yield Asked(_form(file), partial(_are_detections, _rows(found)))
    picture, file = _scene(0)
    few = _rows(detector.detect(picture, FEW_NAMES))
    yield Asked(_form(file, classes=", ".join(FEW_NAMES)), partial(_are_detections, few))
    own_id = _few_names_id(detector)
    yield Asked(_form(file, vocabulary=own_id), partial(_are_detections, few))
    options = replace(detector.defaults, with_features=True)
    with_vectors = _rows(detector.detect(picture, "icons", options=options))
    yield Asked(_form(file, vectors="true"), partial(_are_detections, with_vectors))
    vectors = detector.encode_regions(picture, torch.tensor(BOXES))
    content = _form(file, path="/v1/regions", boxes=json.dumps(BOXES))
    yield Asked(content, partial(_are_regions, vectors.cpu()))
    body = json.dumps({"texts": TEXTS}).encode()
    words = partial(_are_texts, detector.encode_text(TEXTS).cpu())
    yield Asked(_request("/v1/texts", "application/json", body), words, num_images=0)


def _few_names_id(detector: Detector) -> str:
    return vocabulary_id(FEW_NAMES, prompt_templates(detector.parts.templates))


def _scene(index: int) -> tuple[Image.Image, bytes]:
    """A scene, and its PNG file."""
    picture = Image.fromarray(
        draw_scene(77, index, size=SCENE_SIDES[index % len(SCENE_SIDES)]).pixels
    )
    file = BytesIO()
    picture.save(file, "PNG")
    return picture, file.getvalue()


def _rows(found: Detections | Sequence[Detections]) -> list[dict[str, Any]]:
    assert isinstance(found, Detections)
    rows = found.to_dict()
    if found.features is None:
        return rows
    vectors = found.features.tolist()
    return [row | {"vector": vector} for row, vector in zip(rows, vectors, strict=True)]


def bad_requests() -> Iterator[Asked]:
    """Of every kind; each has to be refused in a sentence."""
    file = BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    whole = file.getvalue()
    for picture in (b"", b"no image", whole[:40], _many_scans()):
        yield Asked(_form(picture))
    yield Asked(_form(whole, min_score="nan"))
    yield Asked(_form(whole, vocabulary="unknown"))
    yield Asked(_form(whole, classes="a, a"))
    yield Asked(_request("/v1/texts", "application/json", b'{"texts": ["a"'))
    yield Asked(_request("/v1/texts", "application/json", b'{"texts": "a"}'))
    yield Asked(_request("/v1/nothing", "application/json", b"{}"))
    head = _request("/v1/detect", "multipart/form-data; boundary=x", b"", length=1 << 30)
    yield Asked(head, is_cut=True)


def _many_scans() -> bytes:
    """A small JPEG that would take hours to decode."""
    file = BytesIO()
    Image.new("RGB", (6000, 6000)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    return content[:-2] + content[content.rindex(b"\xff\xda") : -2] * 1000 + content[-2:]


def _form(picture: bytes, *, path: str = "/v1/detect", **fields: str) -> bytes:
    """A whole HTTP request."""
    part = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    parts = "".join(part.format(name, value) for name, value in fields.items()).encode()
    body = b"".join((parts, head, picture, b"\r\n--x--\r\n"))
    return _request(path, "multipart/form-data; boundary=x", body)


def _request(path: str, kind: str, body: bytes, length: int | None = None) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body) if length is None else length}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _are_detections(expected: Sequence[dict[str, Any]], content: Any) -> bool:
    """Whether detections are those expected, in their order; equal scores may change places."""
    rows = content.get("detections", [])
    if len(rows) != len(expected):
        return False
    left = list(expected)
    for row, in_its_place in zip(rows, expected, strict=True):
        own = next((each for each in left if _is_same(row, each)), None)
        if own is None or abs(row["score"] - in_its_place["score"]) >= SCORE_TOLERANCE:
            return False
        left.remove(own)
    return True


def _is_same(row: dict[str, Any], expected: dict[str, Any]) -> bool:
    distances = [abs(a - b) for a, b in zip(row["box"], expected["box"], strict=True)]
    return (
        row["name"] == expected["name"]
        and abs(row["score"] - expected["score"]) < SCORE_TOLERANCE
        and max(distances) < BOX_TOLERANCE
        and _has_vector(row, expected)
    )


def _has_vector(row: dict[str, Any], expected: dict[str, Any]) -> bool:
    if "vector" not in expected:
        return row["vector"] is None
    return row["vector"] is not None and _are_near(
        [row["vector"]], torch.tensor([expected["vector"]])
    )


def _are_regions(expected: torch.Tensor, content: Any) -> bool:
    """Whether regions have the vectors that are expected, ``(R, D)``."""
    return _are_near([region["vector"] for region in content.get("regions", [])], expected)


def _are_texts(expected: torch.Tensor, content: Any) -> bool:
    """Whether texts have the vectors that are expected, ``(N, D)``."""
    return _are_near(content.get("vectors", []), expected)


def _are_near(rows: Sequence[Sequence[float]], expected: torch.Tensor) -> bool:
    """Whether vectors are those expected, ``(N, D)``, but for their last digits."""
    if [len(row) for row in rows] != [expected.shape[1]] * len(expected):
        return False
    similarities = torch.cosine_similarity(torch.tensor(rows), expected)
    return bool((1 - similarities < VECTOR_TOLERANCE).all())
