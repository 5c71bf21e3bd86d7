"""What every answer may hold: links and problem documents."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Link(BaseModel):
    """A way on."""

    href: str
    rel: str
    type: str | None = None
    title: str | None = None


_EXAMPLE_PROBLEM: dict[str, Any] = {
    "type": "urn:problem-type:geounet:unfit-scene",
    "title": "The scene does not suit the model",
    "status": 422,
    "detail": "scene.tif has 8 bands without names: say which is which, with the option bands",
    "instance": "/jobs",
    "request_id": "c1a9f0e2b4d87365",
    "errors": [{"field": "options.bands", "detail": "say which is which"}],
}


class Problem(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_PROBLEM]})

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
    request_id: str | None = None
    errors: list[dict[str, str]] | None = None
