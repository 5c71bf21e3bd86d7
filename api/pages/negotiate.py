"""The same thing as JSON for programs and as a page for people, by the parameter `f` or the Accept header."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from api.edge.accept import place, quality

HTML_TYPE = "text/html"
_DATA_TYPES = ("application/json", "application/geo+json")

Format = Literal["json", "geojson", "html"]
Asked = Annotated[Format | None, Query(description="json or html, instead of the Accept header.")]


def wants_html(request: Request, f: str | None) -> bool:
    """Whether the client asks for a page to look at; without a word it gets JSON."""
    if f is not None:
        return f == "html"
    accept = request.headers.get("accept", "*/*")
    html = quality(accept, HTML_TYPE)
    other = max(quality(accept, kind) for kind in _DATA_TYPES)
    if html != other:
        return html > other
    return html > 0 and place(accept, HTML_TYPE) < min(place(accept, kind) for kind in _DATA_TYPES)


def answer(
    request: Request,
    f: str | None,
    body: BaseModel,
    page: Callable[[Mapping[str, Any]], str],
    headers: Mapping[str, str] | None = None,
) -> Response:
    """`body` as JSON, or what `page` makes of it."""
    data, headers = body.model_dump(mode="json"), {"Vary": "Accept", **(headers or {})}
    if wants_html(request, f):
        return HTMLResponse(page(data), headers=headers)
    return Response(json.dumps(data), media_type="application/json", headers=headers)


def with_html(model: type[BaseModel], kind: str = "application/json") -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: JSON of this model, or a page."""
    content: dict[str, Any] = {HTML_TYPE: {"schema": {"type": "string"}}}
    if kind != "application/json":
        content[kind] = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    return {200: {"model": model, "content": content, "description": "As JSON or as a page"}}
