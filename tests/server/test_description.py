"""The service keeps to its OpenAPI description, whatever is sent to it."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS

import regionclip
from regionclip.server.app import create_app
from regionclip.server.settings import Limits, ServiceSettings

SETTINGS = ServiceSettings(classes=("star", "heart"), limits=Limits(max_vocabularies=20))
APP = create_app(regionclip.load("icons"), SETTINGS)
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)
ANSWERS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
"""What answers must be; which requests ought to be refused is told by the other tests."""


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
    checks: list[Any] = list(CHECKS.get_by_names(ANSWERS))
    case.call_and_validate(checks=checks)
