"""Schemathesis against the OpenAPI document: no 5xx, no status and no body that the document does not tell of."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture
def api_schema(service: Any) -> Any:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("api_schema")


@schema.exclude(path="/predict").parametrize()
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_answers_keep_to_the_document(case: Any, service: Any) -> None:
    for name in ("map_id",):
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = service.map_id if len(str(case.path_parameters)) % 2 else "0" * 20
    if case.method.upper() == "DELETE":
        case.path_parameters = dict.fromkeys(case.path_parameters or {}, "0" * 20)
    case.call_and_validate(checks=CHECKS, timeout=30)
