"""Jobs: ask for a map, follow it, cancel it."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.dependencies import Caller, Parts, PartsDep, Reading, Submitting, seen_job, seen_scene
from api.intake import IdempotencyKey, check_fit, chosen_model, fingerprint, submit
from api.pages import render as pages
from api.pages.negotiate import Asked, answer, with_html
from api.schemas.common import Link
from api.schemas.records import base_url, job_out, scene_out
from api.schemas.requests import Id, JobRequestBody
from api.schemas.responses import Accepted, JobOut, Jobs
from geounet.service.errors import NotFoundError
from geounet.service.jobs import Idempotency, Job, JobState

router = APIRouter(tags=["jobs"])

_COMMENT_SECONDS = 15.0
_WATCHED = 100
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.post("/jobs", status_code=202)
async def request_job(
    body: JobRequestBody,
    request: Request,
    response: Response,
    parts: PartsDep,
    caller: Submitting,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Queue a map of a scene. The scene is checked against the model and the options first."""
    scene = seen_scene(parts, caller, body.scene)
    model = chosen_model(parts, body.model)
    idempotency = None
    if idempotency_key is not None:
        asked = fingerprint(scene=scene.id, model=model, options=body.options.model_dump())
        idempotency = Idempotency(idempotency_key, asked)
    if idempotency is None or parts.store.queue.remembered(caller.owner, idempotency) is None:
        await check_fit(parts, caller, scene, model, body.options)
    job = await submit(parts, caller, scene, model, body.options, idempotency=idempotency)
    response.headers["Location"] = f"{base_url(request)}/jobs/{job.id}"
    response.headers["Retry-After"] = "2"
    return Accepted(scene=scene_out(request, scene), job=job_out(request, parts, job))


@router.get("/jobs", responses=with_html(Jobs))
def jobs(
    request: Request,
    parts: PartsDep,
    caller: Reading,
    limit: Limit = 100,
    before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    state: JobState | None = None,
    f: Asked = None,
) -> Response:
    """The caller's jobs, the newest first."""
    queue = parts.store.queue
    found = queue.page(caller.owner, everyone=caller.everyone, before=before, limit=limit + 1, state=state)
    links = []
    if len(found) > limit:
        chosen = f"&state={state}" if state else ""
        href = f"{base_url(request)}/jobs?limit={limit}&before={found[limit - 1].number}{chosen}"
        links.append(Link(href=href, rel="next", type="application/json"))
    body = Jobs(jobs=[job_out(request, parts, j) for j in found[:limit]], links=links)
    return answer(request, f, body, partial(pages.jobs, request))


_EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "description": "A job as JSON."}},
}


@router.get(
    "/jobs/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": _EVENT}}, "description": "A job a change"}},
)
async def all_events(request: Request, parts: PartsDep, caller: Reading) -> Response:
    """Server-sent events: the caller's newest jobs as they are, then each at every change. The stream has no end."""
    return StreamingResponse(
        _all_events(request, parts, caller),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _all_events(request: Request, parts: Parts, caller: Caller) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    seen: dict[str, int] = {}
    quiet = 0.0
    while not await request.is_disconnected():
        found = parts.store.queue.page(caller.owner, everyone=caller.everyone, before=None, limit=_WATCHED, state=None)
        changed = [j for j in reversed(found) if seen.get(j.id) != j.revision]
        gone = seen.keys() - {j.id for j in found}
        for job in changed:
            seen[job.id] = job.revision
            yield f"event: job\ndata: {json.dumps(job_out(request, parts, job).model_dump(mode='json'))}\n\n"
        for job_id in gone:
            del seen[job_id]
            yield f"event: gone\ndata: {json.dumps(job_id)}\n\n"
        quiet = 0.0 if changed or gone else quiet + 1.0
        await parts.watch.change(1.0)
        if quiet >= _COMMENT_SECONDS:
            quiet = 0.0
            yield ": still here\n\n"


@router.get("/jobs/{job_id}", responses=with_html(JobOut))
def job(job_id: Id, request: Request, parts: PartsDep, caller: Reading, f: Asked = None) -> Response:
    """A job as it is now."""
    found = seen_job(parts, caller, job_id)
    headers = {"Retry-After": "2"} if found.state.open else {}
    name = _scene_name(parts, found)
    return answer(request, f, job_out(request, parts, found), lambda data: pages.job(request, data, name), headers)


def _scene_name(parts: Parts, found: Job) -> str:
    try:
        return parts.store.scenes.get(found.scene).name
    except NotFoundError:  # a scene may be deleted once its jobs are finished
        return found.scene


@router.get(
    "/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": _EVENT}}, "description": "One event a change"},
        204: {"description": "Nothing will change any more"},
    },
)
async def events(
    job_id: Id,
    request: Request,
    parts: PartsDep,
    caller: Reading,
    last_event_id: Annotated[str | None, Header(max_length=40)] = None,
) -> Response:
    """Server-sent events: the job at every change until it is finished. The event's name is the job's state."""
    found = seen_job(parts, caller, job_id)
    seen = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else 0
    if not found.state.open and found.revision == seen:
        return Response(status_code=204)
    return StreamingResponse(
        _events(request, parts, job_id, seen),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(request: Request, parts: Parts, job_id: str, seen: int) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    quiet = 0.0
    while not await request.is_disconnected():
        try:
            found = parts.store.queue.get(job_id)
        except NotFoundError:
            return
        if found.revision != seen:
            seen, quiet = found.revision, 0.0
            data = job_out(request, parts, found).model_dump(mode="json")
            yield f"id: {seen}\nevent: {found.state}\ndata: {json.dumps(data)}\n\n"
        if not found.state.open:
            return
        await parts.watch.change(1.0)
        quiet += 1.0
        if quiet >= _COMMENT_SECONDS:
            quiet = 0.0
            yield ": still here\n\n"


@router.delete("/jobs/{job_id}", status_code=202)
async def cancel(job_id: Id, request: Request, parts: PartsDep, caller: Submitting) -> JobOut:
    """Cancel a job; its partial results go. A running one stops within a second or so."""
    found = await parts.write(parts.store.cancel, seen_job(parts, caller, job_id).id)
    return job_out(request, parts, found)
