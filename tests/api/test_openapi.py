"""The OpenAPI documents as they are served: sound by the specification's own rules, with examples throughout."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

from geounet.engines.views import VIEWS

SERVED = {
    "3.0": ("/openapi.json", OpenAPIV30SpecValidator),
    "3.1": ("/openapi-3.1.json", OpenAPIV31SpecValidator),
}


@pytest.fixture(params=SERVED, ids=list(SERVED))
def document(request: pytest.FixtureRequest, client: httpx2.Client) -> dict[str, Any]:
    response = client.get(SERVED[request.param][0])
    assert response.headers["content-type"] == f"application/vnd.oai.openapi+json;version={request.param}"
    found: dict[str, Any] = response.json()
    assert found["openapi"].startswith(request.param)
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_keeps_to_its_specification(document: dict[str, Any]) -> None:
    validator = SERVED[document["openapi"][:3]][1]
    assert [error.message[:300] for error in validator(document).iter_errors()] == []


def test_every_operation_has_an_example(document: dict[str, Any]) -> None:
    found = dict(operations(document))
    assert len(found) >= 25
    for name, operation in found.items():
        assert "'example'" in str(operation) or "'examples'" in str(operation), name
        assert operation.get("description") or operation.get("summary"), name


def test_every_json_answer_has_an_example(document: dict[str, Any]) -> None:
    shown = 0
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            for kind, content in response.get("content", {}).items():
                if not status.startswith("2") or "json" not in kind or "{file}" in name:
                    continue
                assert "example" in content, (name, status, kind)
                shown += 1
    assert shown >= 20


def test_keys_are_told_of_where_they_are_asked_for(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["HTTPBearer"]["scheme"] == "bearer"
    assert (schemes["APIKeyHeader"]["in"], schemes["APIKeyHeader"]["name"]) == ("header", "X-API-Key")
    open_to_all = {name for name, operation in operations(document) if "security" not in operation}
    assert open_to_all == {"GET /", "GET /conformance", "GET /healthz", "GET /readyz"}


def test_examples_are_what_the_schemas_allow(client: httpx2.Client) -> None:
    document = client.get("/openapi-3.1.json").json()
    tried = 0
    for _, operation in operations(document):
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                if "example" in content and "$ref" in content.get("schema", {}):
                    whole = {**content["schema"], "components": document["components"]}
                    OAS31Validator(whole).validate(content["example"])
                    tried += 1
    assert tried >= 20


def test_jobs_may_ask_for_every_way_to_augment(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["JobOptions"]["properties"]["tta"]["enum"] == list(VIEWS)
