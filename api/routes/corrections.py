"""Corrections of a map: kept, listed, undone, suggested, and made into a better map."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath

from api.dependencies import Caller, Parts, PartsDep, Reading, Submitting, seen_map
from api.schemas.common import Link
from api.schemas.corrections import (
    CorrectBody,
    CorrectionsBody,
    CorrectionsOut,
    RevisionMade,
    RevisionOut,
    SuggestionsOut,
)
from api.schemas.records import base_url, job_out, moment, scene_out
from api.schemas.requests import Id
from api.schemas.responses import Accepted
from geounet.service.errors import ConflictError, NotFoundError
from geounet.service.jobs import JobRequest
from geounet.service.tables.corrections import Revision
from geounet.service.tables.scenes import SceneRecord

router = APIRouter(tags=["corrections"])


@router.post("/maps/{map_id}/corrections", status_code=201)
async def add_corrections(
    map_id: Id, body: CorrectionsBody, request: Request, parts: PartsDep, caller: Submitting
) -> RevisionMade:
    """Add corrections to a map as one revision. Each is checked against the map first."""
    record = seen_map(parts, caller, map_id)
    given = body.model_dump(mode="json", by_alias=True)
    folder = parts.store.maps.folder(record.id)
    made = await parts.write(parts.store.corrections.add, record.id, folder, given)
    here = f"{base_url(request)}/maps/{record.id}"
    links = [
        Link(href=f"{here}/corrections", rel="collection", type="application/geo+json"),
        Link(href=f"{here}/correct", rel="next", type="application/json", title="Make the corrected map"),
    ]
    return RevisionMade(**_revision(made).model_dump(), links=links)


@router.get("/maps/{map_id}/corrections")
def corrections(map_id: Id, parts: PartsDep, caller: Reading) -> CorrectionsOut:
    """The corrections of a map that are in force, and the revisions they came in."""
    record = seen_map(parts, caller, map_id)
    kept = parts.store.corrections
    return CorrectionsOut(
        features=kept.collection(record.id)["features"], revisions=[_revision(r) for r in kept.revisions(record.id)]
    )


@router.delete("/maps/{map_id}/corrections", status_code=204)
async def undo(map_id: Id, parts: PartsDep, caller: Submitting) -> None:
    """Undo the newest revision."""
    record = seen_map(parts, caller, map_id)
    await parts.write(parts.store.corrections.undo, record.id)


@router.delete("/maps/{map_id}/corrections/{revision}", status_code=204)
async def undo_one(
    map_id: Id, revision: Annotated[int, InPath(ge=1, lt=2**31)], parts: PartsDep, caller: Submitting
) -> None:
    """Undo one revision."""
    record = seen_map(parts, caller, map_id)
    await parts.write(parts.store.corrections.undo, record.id, revision)


@router.get("/maps/{map_id}/suggestions")
def suggestions(
    map_id: Id, parts: PartsDep, caller: Reading, limit: Annotated[int, Query(ge=1, le=200)] = 30
) -> SuggestionsOut:
    """Where a correction is likely to teach the most: points, the most useful first."""
    from geounet.correction.suggest import suggest

    record = seen_map(parts, caller, map_id)
    return SuggestionsOut(features=suggest(parts.store.maps.folder(record.id), limit)["features"])


@router.post("/maps/{map_id}/correct", status_code=202)
async def correct(
    map_id: Id, body: CorrectBody, request: Request, response: Response, parts: PartsDep, caller: Submitting
) -> Accepted:
    """Queue a map of the same scene by the same model, corrected by all corrections in force."""
    record = seen_map(parts, caller, map_id)
    given = parts.store.corrections.collection(record.id)
    if not given["features"]:
        raise ConflictError(f"map '{record.id}' has no corrections: POST some to /maps/{record.id}/corrections first")
    scene = _scene(parts, caller, record.scene)
    earlier = parts.store.queue.get(record.id)
    options = {**earlier.options, "correct": {"map": record.id, "corrections": given}}
    asked = JobRequest(caller.owner, scene.id, record.model, options)
    job = await parts.write(parts.store.queue.submit, asked, max_open=caller.max_open_jobs)
    response.headers["Location"] = f"{base_url(request)}/jobs/{job.id}"
    response.headers["Retry-After"] = "2"
    return Accepted(scene=scene_out(request, scene), job=job_out(request, parts, job))


def _scene(parts: Parts, caller: Caller, scene_id: str) -> SceneRecord:
    scene = parts.store.scenes.get(scene_id)
    if not caller.sees(scene):
        raise NotFoundError("the scene of this map is not there any more")
    return scene


def _revision(made: Revision) -> RevisionOut:
    return RevisionOut(
        revision=made.number, corrections=made.corrections, classes=dict(made.classes), created=moment(made.created)
    )
