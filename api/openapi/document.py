"""The OpenAPI document: 3.0 as OGC API - Features asks for, 3.1 for who wants it; an example for every operation."""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from api.openapi.examples import BODIES, OTHERS, PARAMETERS
from api.openapi.version30 import downgraded

_X_API_KEY = {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key, in another header."}


def add_openapi(app: FastAPI) -> None:
    """Serve the document at `/openapi.json` (3.0.3) and `/openapi-3.1.json`."""

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _made(app)
        return app.openapi_schema

    older: dict[str, Any] = {}

    def older_document() -> dict[str, Any]:
        if not older:
            older.update(downgraded(document()))
        return older

    app.openapi = document  # type: ignore[method-assign]
    app.add_route("/openapi.json", _sender(older_document, "3.0"), include_in_schema=False)
    app.add_route("/openapi-3.1.json", _sender(document, "3.1"), include_in_schema=False)


def _sender(document: Callable[[], dict[str, Any]], version: str) -> Callable[[Request], Any]:
    media = f"application/vnd.oai.openapi+json;version={version}"  # what OGC clients look for

    async def send(request: Request) -> JSONResponse:
        servers = [{"url": str(request.base_url).rstrip("/")}]
        return JSONResponse({**document(), "servers": servers}, media_type=media)

    return send


def _made(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    made["components"]["securitySchemes"]["APIKeyHeader"] = _X_API_KEY
    for path, operation in _operations(made):
        if "security" in operation:  # {}: without keys the service asks for none
            operation["security"] = [{"HTTPBearer": []}, {"APIKeyHeader": []}, {}]
        for parameter in operation.get("parameters", ()):
            if parameter["name"] in PARAMETERS:
                parameter["example"] = PARAMETERS[parameter["name"]]
        for response in operation["responses"].values():
            for kind, content in response.get("content", {}).items():
                if (example := _example(path, kind, content)) is not None:
                    content["example"] = example
    return made


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def _example(path: str, kind: str, content: dict[str, Any]) -> Any:
    name = str(content.get("schema", {}).get("$ref", "")).rpartition("/")[2]
    return OTHERS.get((path, kind), BODIES.get(name))
