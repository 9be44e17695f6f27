"""Reader and check agree about damaged files: what one refuses, the other explains."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regionclip.data.checking import examine, list_dataset
from regionclip.data.readers import open_dataset

SOUND: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 4, "height": 3, "neg_category_ids": [1]},
        {"id": 2, "coco_url": "http://example.org/val2017/b.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [0, 0, 1, 1]},
        {"id": 3, "image_id": 1, "caption": "a cat"},
    ],
    "categories": [
        {"id": 1, "name": "cat"},
        {"id": 2, "name": "bow_(weapon)", "synonyms": ["bow"], "frequency": "r"},
    ],
}
DAMAGE = (
    *(None, True, -1, 0, 1, 2, 1e308, float("nan"), float("inf"), 10**400),
    *("", "x", "x" * 5000, "../../x", "\0", [], [1], [[[]]], {}, {"a": 1}),
)


def places_in(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inside in items:
        yield (*before, key)
        if isinstance(inside, dict | list):
            yield from places_in(inside, (*before, key))


def damaged(generator: random.Random) -> dict[str, Any]:
    content = copy.deepcopy(SOUND)
    for _ in range(generator.choice((1, 1, 2))):
        *way, last = generator.choice(list(places_in(content)))
        parent: Any = content
        for key in way:
            parent = parent[key]
        if generator.random() < 0.3:
            del parent[last]
        else:
            parent[last] = copy.deepcopy(generator.choice(DAMAGE))
    return content


def refusal_of(path: Path) -> str:
    try:
        open_dataset(path)
    except ValueError as error:
        return str(error)
    return ""


def explanation_of(path: Path) -> str:
    try:
        report = examine(list_dataset(path))
    except ValueError as error:
        return str(error)
    json.dumps(report.to_dict())
    return ", ".join(each.kind.title for each in report.findings if each.kind.effect == "refused")


@pytest.mark.parametrize("seed", range(4))
def test_what_the_reader_refuses_the_check_explains(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    path = tmp_path / "instances.json"
    num_refused = 0
    for _ in range(150):
        content = damaged(generator)
        path.write_text(json.dumps(content))
        refusal = refusal_of(path)
        assert bool(explanation_of(path)) == bool(refusal), (content, refusal)
        assert not refusal or path.name in refusal
        num_refused += bool(refusal)
    assert 0 < num_refused < 150
