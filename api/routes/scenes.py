"""Uploads."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import Caller, Parts, PartsDep, Reading, Submitting, seen_scene
from api.intake import (
    IdempotencyKey,
    accept_scene,
    chosen_model,
    fingerprint,
    look_again,
    parse_options,
    submit,
    wish_for,
)
from api.pages import render as pages
from api.pages.negotiate import Asked, answer, with_html
from api.schemas.common import Link
from api.schemas.records import base_url, job_out, scene_out
from api.schemas.requests import FitBody, Id
from api.schemas.responses import Accepted, FitOut, SceneOut, Scenes
from api.uploads import checked_name, form_upload, raw_upload
from geounet.service.jobs import Idempotency, Job
from geounet.service.tables.scenes import SceneRecord
from geounet.service.uploads import Upload

router = APIRouter(tags=["scenes"])

Process = Annotated[bool, Query(description="Queue a job for the scene at once.")]
Model = Annotated[str | None, Query(max_length=200, description="With `process`: the model.")]
Options = Annotated[str | None, Query(max_length=100_000, description="With `process`: the job's options as JSON.")]
Limit = Annotated[int, Query(ge=1, le=1000)]
_ANSWERS: dict[int | str, dict[str, Any]] = {
    201: {"model": Accepted, "description": "The scene is kept"},
    202: {"model": Accepted, "description": "The scene is kept and its job is queued"},
}
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "description": "A picture"}
}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "process": {"type": "string", "enum": ["true", "false"]},
                        "model": {"type": "string"},
                        "options": {"type": "string", "description": "JSON"},
                    },
                }
            }
        },
    }
}
_RAW = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/scenes", status_code=201, responses=_ANSWERS, openapi_extra=_FORM)
async def upload_form(
    request: Request,
    response: Response,
    parts: PartsDep,
    caller: Submitting,
    process: Process = False,
    model: Model = None,
    options: Options = None,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Upload a GeoTIFF as a form, `curl -F file=@scene.tif`; `process`, `model`, `options` may be form fields too."""
    async with form_upload(request, parts, caller, parts.settings.upload_limit) as (upload, name, fields):
        process = process or fields.get("process", "").lower() in ("true", "1", "yes", "on")
        asked = _Asked(name, process, fields.get("model") or model, fields.get("options") or options, idempotency_key)
        return await _take(request, response, parts, caller, upload, asked)


@router.put("/scenes/{name}", status_code=201, responses=_ANSWERS, openapi_extra=_RAW)
async def upload_raw(
    name: str,
    request: Request,
    response: Response,
    parts: PartsDep,
    caller: Submitting,
    process: Process = False,
    model: Model = None,
    options: Options = None,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Upload a GeoTIFF as the body, `curl -T scene.tif`.

    The name is a label. The same bytes under the same name again are the same scene; other bytes are another one.
    """
    checked_name(name)
    async with raw_upload(request, parts, caller, parts.settings.upload_limit) as upload:
        asked = _Asked(name, process, model, options, idempotency_key)
        return await _take(request, response, parts, caller, upload, asked, same=True)


class _Asked:
    """What comes with an upload."""

    def __init__(self, name: str, process: bool, model: str | None, options: str | None, key: str | None) -> None:
        self.name, self.process, self.model, self.key = name, process, model, key
        self.options = parse_options(options)

    def idempotency(self, sha256: str) -> Idempotency | None:
        if self.key is None:
            return None
        asked = fingerprint(
            sha256=sha256, name=self.name, process=self.process, model=self.model, options=self.options.model_dump()
        )
        return Idempotency(self.key, asked)


async def _take(
    request: Request,
    response: Response,
    parts: Parts,
    caller: Caller,
    upload: Upload,
    asked: _Asked,
    same: bool = False,
) -> Accepted:
    model = chosen_model(parts, asked.model) if asked.process or asked.model else parts.catalog.default
    idempotency = asked.idempotency(upload.sha256)
    queue = parts.store.queue
    known = queue.remembered(caller.owner, idempotency) if idempotency else None
    if known is not None:
        job = queue.get(known[1]) if known[1] else None
        return _accepted(request, response, parts, parts.store.scenes.get(known[0]), job)
    scene = parts.store.scenes.same(caller.owner, asked.name, upload.sha256) if same else None
    if scene is None:
        wish = wish_for(parts, model, asked.options) if model else None
        scene = await accept_scene(parts, caller, upload, asked.name, wish, must_fit=asked.process)
    job = None
    if asked.process and model is not None:
        job = await submit(parts, caller, scene, model, asked.options, idempotency=idempotency)
        scene = parts.store.scenes.get(job.scene)
    elif idempotency is not None:
        await parts.write(queue.remember, caller.owner, idempotency, scene.id)
    return _accepted(request, response, parts, scene, job)


def _accepted(request: Request, response: Response, parts: Parts, scene: SceneRecord, job: Job | None) -> Accepted:
    place = f"/jobs/{job.id}" if job else f"/scenes/{scene.id}"
    response.headers["Location"] = base_url(request) + place
    if job is not None:
        response.status_code = 202
        response.headers["Retry-After"] = "2"
    return Accepted(scene=scene_out(request, scene), job=job_out(request, parts, job) if job else None)


@router.get("/scenes", responses=with_html(Scenes))
def scenes(
    request: Request, parts: PartsDep, caller: Reading, limit: Limit = 100, after: Id | None = None, f: Asked = None
) -> Response:
    """The caller's scenes, in the order of their ids."""
    found = parts.store.scenes.page(caller.owner, everyone=caller.everyone, after=after, limit=limit + 1)
    links = []
    if len(found) > limit:
        href = f"{base_url(request)}/scenes?limit={limit}&after={found[limit - 1].id}"
        links.append(Link(href=href, rel="next", type="application/json"))
    body = Scenes(scenes=[scene_out(request, s) for s in found[:limit]], links=links)
    return answer(request, f, body, partial(pages.scenes, request))


@router.get("/scenes/{scene_id}", responses=with_html(SceneOut))
def scene(scene_id: Id, request: Request, parts: PartsDep, caller: Reading, f: Asked = None) -> Response:
    """One scene."""
    found = seen_scene(parts, caller, scene_id)
    return answer(request, f, scene_out(request, found), partial(pages.document, request, found.name))


@router.get("/scenes/{scene_id}/picture.png", response_class=Response, responses=_PNG)
async def picture(
    scene_id: Id,
    parts: PartsDep,
    caller: Reading,
    size: Annotated[int, Query(ge=16, le=1024)] = 256,
    band: Annotated[int | None, Query(ge=1, le=65535, description="This band alone, in grey.")] = None,
) -> Response:
    """A small picture of a scene, on its own grid: what an upload looks like, or one of its bands."""
    found = seen_scene(parts, caller, scene_id)
    path = str(parts.store.scenes.pixels(found.id))
    _, png = await parts.read(caller.client, {"want": "picture", "path": path, "size": size, "band": band})
    return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=86400, immutable"})


@router.post("/scenes/{scene_id}/fit")
async def fit(body: FitBody, scene_id: Id, parts: PartsDep, caller: Reading) -> FitOut:
    """The pre-flight again, for another model or other options; nothing is queued."""
    found = seen_scene(parts, caller, scene_id)
    model = chosen_model(parts, body.model)
    return FitOut(model=model, **await look_again(parts, caller, found, model, body.options))


@router.delete("/scenes/{scene_id}", status_code=204)
async def delete_scene(scene_id: Id, parts: PartsDep, caller: Submitting) -> None:
    """Remove a scene; its finished maps stay."""
    seen_scene(parts, caller, scene_id)
    await parts.write(parts.store.delete_scene, scene_id)
