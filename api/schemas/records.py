"""Records as the wire models show them, with the links that lead on."""

from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from api.dependencies import Parts
from api.schemas.common import Link
from api.schemas.responses import JobOut, MapEntry, ProgressOut, SceneOut
from geounet.service.jobs import Job, JobState
from geounet.service.tables.maps import MapRecord
from geounet.service.tables.scenes import SceneRecord


def base_url(request: Request) -> str:
    """Where the service is, as the client sees it, without a slash at the end."""
    return str(request.base_url).rstrip("/")


def moment(seconds: float) -> str:
    """RFC 3339, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else moment(seconds)


def scene_out(request: Request, record: SceneRecord) -> SceneOut:
    """A scene for the wire."""
    return SceneOut(
        id=record.id,
        name=record.name,
        bytes=record.bytes,
        sha256=record.sha256,
        created=moment(record.created),
        info=dict(record.info),
        links=[Link(href=f"{base_url(request)}/scenes/{record.id}", rel="self", type="application/json")],
    )


def job_out(request: Request, parts: Parts, job: Job) -> JobOut:
    """A job for the wire."""
    base = base_url(request)
    here = f"{base}/jobs/{job.id}"
    links = [
        Link(href=here, rel="self", type="application/json"),
        Link(href=f"{here}/events", rel="monitor", type="text/event-stream"),
        Link(href=f"{base}/scenes/{job.scene}", rel="up", type="application/json", title="The scene"),
    ]
    if job.state is JobState.DONE:
        links += [
            Link(href=f"{base}/maps/{job.id}", rel="result", type="application/json", title="The map"),
            Link(href=f"{base}/collections/{job.id}", rel="collection", type="application/json", title="Its polygons"),
        ]
    p = job.progress
    return JobOut(
        id=job.id,
        state=job.state,
        scene=job.scene,
        scene_name=parts.store.scenes.name_of(job.scene),
        model=job.model,
        options=_options(job),
        created=moment(job.created),
        started=_moment(job.started),
        finished=_moment(job.finished),
        place=parts.store.queue.place(job),
        progress=None
        if p is None
        else ProgressOut(
            stage=p.stage, done=p.done, total=p.total, mpx_per_s=round(p.rate, 3), seconds_left=p.seconds_left
        ),
        error=dict(job.error) if job.error else None,
        cancelling=job.cancel and job.state.open,
        attempts=job.attempts,
        revision=job.revision,
        links=links,
    )


def _options(job: Job) -> dict[str, Any]:
    """A job's options; of a correction which map it corrects, not every point of it."""
    if "correct" not in job.options:
        return dict(job.options)
    return {**job.options, "correct": {"map": job.options["correct"]["map"]}}


def map_entry(request: Request, record: MapRecord) -> MapEntry:
    """A map in a list."""
    base = base_url(request)
    return MapEntry(
        id=record.id,
        title=record.title,
        scene=record.scene,
        model=record.model,
        bytes=record.bytes,
        created=moment(record.created),
        links=[
            Link(href=f"{base}/maps/{record.id}", rel="self", type="application/json"),
            Link(href=f"{base}/collections/{record.id}", rel="collection", type="application/json"),
        ],
    )
