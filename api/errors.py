"""Errors as RFC 9457 problem documents. One table says which error is which status."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.edge.words import said
from api.schemas.common import Problem
from geounet.errors import GeounetError
from geounet.service import errors as e
from tiles.errors import TilesError

log = logging.getLogger("geounet.api")

PROBLEM_TYPE = "application/problem+json"

STATUSES: tuple[tuple[type[Exception], int, str], ...] = (
    (e.BadRequestError, 400, "The request makes no sense"),
    (e.UnauthenticatedError, 401, "A key is needed"),
    (e.ForbiddenError, 403, "The key does not cover this"),
    (e.NotFoundError, 404, "There is no such thing"),
    (e.ConflictError, 409, "The state does not allow this"),
    (e.TooLargeError, 413, "Too large"),
    (e.HostileSceneError, 422, "The file is not a usable GeoTIFF"),
    (e.UnfitSceneError, 422, "The scene does not suit the model"),
    (e.UnfitCorrectionsError, 422, "The corrections do not suit the map"),
    (e.IdempotencyError, 422, "The idempotency key was used before"),
    (e.QuotaError, 429, "Your share is used up"),
    (e.BusyError, 503, "Busy"),
    (e.StorageError, 507, "No room"),
    (GeounetError, 500, "Something is wrong with the service's files"),
    (TilesError, 500, "Something is wrong with the service's files"),
)
"""The first row that fits holds."""

JOB_STATUSES: Mapping[str, int] = {
    "SceneError": 422,
    "BandError": 422,
    "MismatchError": 422,
    "VectorError": 422,
    "CorrectionError": 422,
    "crash": 422,
    "timeout": 422,
    "ResourceError": 507,
}
"""Why a job failed, as the status of a request that waited for it; everything else is 500."""

_RETRY_SECONDS = {429: 5, 503: 5, 507: 60}

RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "A problem with the request", "content": {PROBLEM_TYPE: {}}},
    503: {"model": Problem, "description": "Busy; try again", "content": {PROBLEM_TYPE: {}}},
    507: {"model": Problem, "description": "No room on the disk or in the quota", "content": {PROBLEM_TYPE: {}}},
}
"""For the OpenAPI document: every route may answer so."""


def problem(
    request: Request,
    status: int,
    title: str,
    detail: str,
    *,
    kind: str = "about:blank",
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem document. `errors` lists the fields to blame: `{"field": ..., "detail": ...}`."""
    body: dict[str, Any] = {"type": kind, "title": title, "status": status, "detail": detail}
    body["instance"] = request.url.path
    body["request_id"] = request.scope.get("request_id", "")
    if errors:
        body["errors"] = errors
    return JSONResponse(body, status, headers, media_type=PROBLEM_TYPE)


def status_of(error: Exception) -> tuple[int, str]:
    """(status, title) of an error that was raised on purpose."""
    return next((status, title) for kind, status, title in STATUSES if isinstance(error, kind))


def add_handlers(app: FastAPI) -> None:
    """Have every error leave as a problem document."""
    app.add_exception_handler(GeounetError, _on_purpose)
    app.add_exception_handler(TilesError, _on_purpose)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _on_purpose(request: Request, error: Exception) -> JSONResponse:
    status, title = status_of(error)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="geounet"'
    if status in _RETRY_SECONDS:
        headers["Retry-After"] = str(_RETRY_SECONDS[status])
    if status == 500:
        log.error("%s", error, extra={"request_id": request.scope.get("request_id")})
        return problem(request, status, title, "the operator's log has the rest", kind=_kind(error))
    field = getattr(error, "field", None)
    errors = [{"field": field, "detail": str(error)}] if field else None
    return problem(request, status, title, str(error), kind=_kind(error), errors=errors, headers=headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"field": ".".join(str(p) for p in e["loc"][1:]) or str(e["loc"][0]), "detail": said(e)}
        for e in error.errors()[:20]
    ]
    detail = "; ".join(f"{e['field']} {e['detail']}" for e in errors)
    return problem(request, 400, "The request makes no sense", detail, kind=_kind(e.BadRequestError("")), errors=errors)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 413:
        return problem(request, 413, "Too large", str(error.detail), kind=_kind(e.TooLargeError("")))
    if error.status_code == 405:
        allowed = ", ".join(_methods_of(request))
        detail = f"this path has no {request.method}: it knows {allowed}"
        return problem(request, 405, str(error.detail), detail, headers={"Allow": allowed})
    detail = str(error.detail)
    if error.status_code == 404:
        detail = "there is nothing at this path: / lists what there is"
    return problem(request, error.status_code, str(error.detail), detail, headers=error.headers)


def _methods_of(request: Request) -> list[str]:
    """Every method of the request's path: several routes share one, and each knows its own methods only."""
    found = [
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        for route in request.app.router.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    ]
    return sorted({*found, "HEAD"} if "GET" in found else set(found))


def too_large(request: Request, limit: int) -> JSONResponse:
    """The answer to a body that is announced to be over its limit, or found to be."""
    kind = _kind(e.TooLargeError(""))
    return problem(request, 413, "Too large", f"the body is over the limit of {limit} bytes", kind=kind)


def _kind(error: Exception) -> str:
    words = "".join(f"-{c.lower()}" if c.isupper() else c for c in type(error).__name__.removesuffix("Error"))
    return f"urn:problem-type:geounet:{words.lstrip('-')}"
