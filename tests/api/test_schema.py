"""Schemathesis against the OpenAPI document: no 5xx, no status and no body that the document does not tell of."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 6


def test_answers_keep_to_the_document(service: Any) -> None:
    _warm(service)
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    tried: dict[str, int] = {}
    operations: Any = schema.get_all_operations()
    for found in operations:
        operation = found.ok()
        label = f"{operation.method.upper()} {operation.path}"
        _try(operation, service, tried, label)
    assert len(tried) >= 20
    assert sum(tried.values()) >= 100


def _warm(service: Any) -> None:
    """Start the reading processes: while they load their libraries on a busy machine, 503 is a true answer."""
    with service.client() as client:
        for _ in range(10):
            if client.get(f"/maps/{service.map_id}/tiles/0/0/0.png").status_code != 503:
                return


def _try(operation: Any, service: Any, tried: dict[str, int], label: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def attempt(case: Any) -> None:
        tried[label] = tried.get(label, 0) + 1
        parameters = case.path_parameters or {}
        if "map_id" in parameters and case.method.upper() == "GET" and tried[label] % 2:
            parameters["map_id"] = service.map_id
        case.call_and_validate(checks=CHECKS, timeout=30)

    try:
        attempt()
    except BaseException as error:
        pytest.fail(f"{label}: {error}")


def test_the_document_is_openapi_3_0(service: Any) -> None:
    import httpx2

    response = httpx2.get(f"{service.url}/openapi.json")
    assert response.headers["content-type"].startswith("application/vnd.oai.openapi+json;version=3.0")
    assert response.json()["openapi"] == "3.0.3"
    text = response.text
    for newer in ('"type":"null"', '"const":', '"prefixItems":', '"exclusiveMinimum":0'):
        assert newer not in text.replace(" ", ""), newer
