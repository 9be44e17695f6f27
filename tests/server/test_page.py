"""What docs/serving.md says of requests, metrics and limits is so."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from regionclip.server.settings import Limits

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()


def test_the_page_has_every_metric_with_its_kind_and_labels(client: TestClient) -> None:
    client.get("/health")
    found = {
        (sample.name.removesuffix("_count"), family.type, tuple(sample.labels))
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_sum", "_created"))
    }
    rows = re.findall(r"^\| `(regionclip_\w+)` \| (\w+) \|([^|]*)\|", PAGE, re.MULTILINE)
    assert {(name, kind, tuple(re.findall(r"\w+", by))) for name, kind, by in rows} == found


def test_the_page_has_the_limits_that_no_option_changes() -> None:
    limits = Limits()
    for sentence in (
        f"more than {limits.max_text_length} characters",
        f"{limits.max_vocabularies} are kept already",
        f"{limits.max_json_bytes // 2**20} MiB of JSON",
    ):
        assert sentence in PAGE


def documented() -> list[list[str]]:
    """Every curl of docs/serving.md, in words."""
    return [shlex.split(line) for line in PAGE.splitlines() if line.startswith("curl")]


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_the_requests_of_the_documentation_are_answered(
    client: TestClient, picture: bytes, words: list[str]
) -> None:
    curl = argparse.ArgumentParser()
    curl.add_argument("-F", dest="fields", action="append", default=[])
    curl.add_argument("-H", dest="header")
    curl.add_argument("-d", dest="body")
    curl.add_argument("url")
    asked = curl.parse_args(words[1:])
    path = asked.url.removeprefix("localhost:8000")
    if asked.body is not None:
        name, _, value = asked.header.partition(": ")
        answer = client.post(path, content=asked.body, headers={name: value})
    else:
        fields = dict(field.split("=", 1) for field in asked.fields)
        assert fields.pop("image") == "@scene.png"
        answer = client.post(path, files={"image": picture}, data=fields)
    assert answer.status_code in (200, 201), answer.text
