"""One request, one answer: a small scene in, its map out."""

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from api.dependencies import Parts, PartsDep, Submitting
from api.errors import JOB_STATUSES, problem
from api.intake import accept_scene, chosen_model, parse_options, submit, wish_for
from api.schemas.common import Problem
from api.schemas.records import base_url, job_out, scene_out
from api.schemas.responses import Accepted
from api.uploads import form_upload, raw_upload
from geounet.service.errors import NotFoundError
from geounet.service.jobs import URGENT, Job, JobState

router = APIRouter(tags=["predict"])

GEOJSON, GEOTIFF = "application/geo+json", "image/tiff; application=geotiff"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/tiff": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


@router.post(
    "/predict",
    responses={
        200: {
            "content": {"application/geo+json": {"schema": {"type": "object"}}, "image/tiff": _BINARY},
            "description": "The polygons or, with `Accept: image/tiff`, the class raster",
        },
        202: {"model": Accepted, "description": "It takes longer than the client waits: follow the job"},
        500: {"model": Problem, "description": "A fault of the service", "content": {"application/problem+json": {}}},
    },
    openapi_extra=_BODY,
    response_class=Response,
)
async def predict(
    request: Request,
    parts: PartsDep,
    caller: Submitting,
    model: Annotated[str | None, Query(max_length=200)] = None,
    options: Annotated[str | None, Query(max_length=100_000, description="The job's options as JSON.")] = None,
    prefer: Annotated[str | None, Header(max_length=200, description="`wait=N`: seconds to wait.")] = None,
) -> Response:
    """Map a small GeoTIFF, sent as the body or as the form's part `file`, ahead of the queue."""
    chosen, asked = chosen_model(parts, model), parse_options(options)
    wish = wish_for(parts, chosen, asked)
    limit = parts.settings.predict_limit
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with form_upload(request, parts, caller, limit) as (upload, name, _):
            scene = await accept_scene(parts, caller, upload, name, wish, must_fit=True)
    else:
        async with raw_upload(request, parts, caller, limit) as upload:
            scene = await accept_scene(parts, caller, upload, "predict.tif", wish, must_fit=True)
    formats = asked.model_dump(include={"formats"})["formats"]
    if "geojson" not in formats:
        asked = asked.model_copy(update={"formats": [*formats, "geojson"]})
    job = await submit(parts, caller, scene, chosen, asked, priority=URGENT)
    job = await _wait(parts, job, min(_wished(prefer), parts.settings.wait_seconds))
    here = f"{base_url(request)}/jobs/{job.id}"
    if job.state.open:
        body = Accepted(scene=scene_out(request, scene), job=job_out(request, parts, job))
        return JSONResponse(body.model_dump(mode="json"), 202, headers={"Location": here, "Retry-After": "2"})
    if job.state is not JobState.DONE:
        return _failed(request, job)
    return _result(request, parts, job)


async def _wait(parts: Parts, job: Job, seconds: float) -> Job:
    """The job once it is finished, or as it is after `seconds`."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while job.state.open and loop.time() < ends:
        await parts.watch.change(min(1.0, max(ends - loop.time(), 0.0)))
        job = parts.store.queue.get(job.id)
    return job


def _wished(prefer: str | None) -> float:
    found = re.search(r"\bwait=([0-9]{1,6})\b", prefer or "")
    return float(found[1]) if found else float("inf")


def _failed(request: Request, job: Job) -> Response:
    error = job.error or {"kind": "cancelled", "detail": "the job was cancelled"}
    status = 409 if job.state is JobState.CANCELLED else JOB_STATUSES.get(error["kind"], 500)
    return problem(request, status, "The scene could not be mapped", error["detail"])


def _result(request: Request, parts: Parts, job: Job) -> Response:
    folder = parts.store.maps.folder(job.id)
    accept = request.headers.get("accept", "")
    raster = "image/tiff" in accept and "json" not in accept.split("image/tiff")[0]
    name, kind = ("classes.tif", GEOTIFF) if raster else ("polygons.geojson", GEOJSON)
    if not (folder / name).is_file():
        raise NotFoundError("the map was deleted meanwhile")
    headers = {"Link": f'<{base_url(request)}/maps/{job.id}>; rel="describedby"', "Vary": "Accept"}
    return FileResponse(folder / name, media_type=kind, headers=headers)
