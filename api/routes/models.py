"""The models that jobs may name, and whether the service is well."""

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from api.dependencies import PartsDep, Reading
from api.pages import render as pages
from api.pages.negotiate import Asked, answer, with_html
from api.schemas.responses import Health, LegendEntry, ModelOut, Models
from geounet.errors import GeounetError
from geounet.service.uploads import Share

router = APIRouter()

_UNWELL: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "Something is missing"}}


@router.get("/models", tags=["models"], responses=with_html(Models))
def models(request: Request, parts: PartsDep, caller: Reading, f: Asked = None) -> Response:
    """Every installed model: bands, resolution, legend, scores."""
    body = Models(
        models=[
            ModelOut(
                name=name,
                version=card.version,
                description=card.description,
                licence=card.licence,
                bands=card.bands,
                gsd_m=card.gsd_m,
                legend=[LegendEntry(value=c.value, name=c.name, color=c.color) for c in card.legend],
                scores=card.scores,
                default=name == parts.catalog.default,
            )
            for name, card in parts.catalog.cards.items()
        ]
    )
    return answer(request, f, body, partial(pages.document, request, "Models"))


@router.get("/healthz", tags=["health"])
async def healthz() -> Health:
    """Whether the process answers."""
    return Health(status="ok")


@router.get("/readyz", tags=["health"], responses=_UNWELL)
def readyz(response: Response, parts: PartsDep) -> Health:
    """Whether requests can be served: the database and the disk work, a model is there."""
    checks = {
        "database": _check(parts.store.queue.open_jobs),
        "disk": _check(lambda: parts.store.check_room(None, Share(), 0)),
        "models": "ok" if parts.catalog.cards else "no model is installed",
    }
    well = all(v == "ok" for v in checks.values())
    if not well:
        response.status_code = 503
    return Health(status="ok" if well else "failing", checks=checks)


def _check(test: Callable[[], object]) -> str:
    try:
        test()
    except (GeounetError, sqlite3.Error, OSError) as error:
        return type(error).__name__
    return "ok"
