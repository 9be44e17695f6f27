"""The service keeps to its OpenAPI description, whatever is sent to it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.checks import CHECKS

import regionclip
from regionclip.server.app import create_app
from regionclip.server.settings import Limits, ServiceSettings
from regionclip.server.vocabularies import vocabulary_id
from tests.server.pictures import png

SETTINGS = ServiceSettings(classes=("star", "heart"), limits=Limits(max_vocabularies=50))
APP = create_app(regionclip.load("icons"), SETTINGS)
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)
ANSWERS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
"""What answers must be; which requests ought to be refused is told by the other tests."""
PICTURE = png(Image.new("RGB", (48, 32), "red"))
NAMES, TEMPLATE = ("star", "skull"), "a {}"
KEPT = vocabulary_id(NAMES, (TEMPLATE,))
OPTIONS = ("min_score", "nms_iou", "max_detections", "vectors", "top_k")

asked: set[str] = set()
answered: set[str] = set()


@st.composite
def box_lists(draw: st.DrawFn) -> str:
    """Boxes inside the picture, as JSON."""
    sides = st.tuples(
        st.integers(0, 40), st.integers(0, 24), st.integers(1, 60), st.integers(1, 60)
    )
    boxes = draw(st.lists(sides, max_size=3))
    return json.dumps([[x0, y0, x0 + width, y0 + height] for x0, y0, width, height in boxes])


@SCHEMA.hook
def flatmap_body(context: Any, body: Any) -> st.SearchStrategy[Any]:
    """Put what no chance would draw into forms: an image, boxes, names or a vocabulary's id."""
    properties = {"/v1/detect": (), "/v1/regions": ("boxes",)}.get(context.operation.path)
    if properties is None or not isinstance(body, dict):
        return st.just(body)
    own = {name: body[name] for name in OPTIONS if name in body}
    form = {name: st.just(value) for name, value in own.items()} | {"image": st.just(PICTURE)}
    form |= {name: box_lists() for name in properties}
    named = st.sampled_from([{}, {"classes": ", ".join(NAMES)}, {"vocabulary": KEPT}])
    good = st.builds(lambda own, names: own | names, st.fixed_dictionaries(form), named)
    return st.one_of(good, st.just(body))


@SCHEMA.hook
def flatmap_path_parameters(context: Any, path_parameters: Any) -> st.SearchStrategy[Any]:
    kept = [{"vocabulary_id": KEPT}] if path_parameters else []
    return st.sampled_from([*kept, path_parameters])


@pytest.fixture(scope="module", autouse=True)
def every_route_gets_through() -> Iterator[None]:
    """Else only refusals would be tested."""
    yield
    assert asked == answered


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # schemathesis does
@SCHEMA.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_any_request_is_answered_as_described(case: schemathesis.Case) -> None:
    keeping = SCHEMA["/v1/vocabularies"]["POST"].Case(
        body={"names": list(NAMES), "templates": TEMPLATE}, media_type="application/json"
    )
    assert keeping.call().json()["id"] == KEPT
    checks: list[Any] = list(CHECKS.get_by_names(ANSWERS))
    answer = case.call_and_validate(checks=checks)
    asked.add(case.operation.label)
    if 200 <= answer.status_code < 300:
        answered.add(case.operation.label)
