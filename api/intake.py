"""From an upload to a scene, from a scene to a job: the checks that come before anything is queued."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import Header
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api.dependencies import Caller, Parts
from api.edge.words import said
from api.schemas.requests import JobOptions
from api.uploads import checked_name
from geounet.service.errors import BadRequestError, NotFoundError, UnfitSceneError
from geounet.service.jobs import Idempotency, Job, JobRequest
from geounet.service.processes.upload_check import Wish, ingest_upload, inspect_clean
from geounet.service.tables.scenes import SceneRecord
from geounet.service.uploads import Upload

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=200, description="The same key with the same request again is one job."),
]


def parse_options(text: str | None) -> JobOptions:
    """Options that came as JSON in a form field or a parameter. Raises BadRequestError."""
    if not text:
        return JobOptions()
    try:
        return JobOptions.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["options", *(str(p) for p in first["loc"])])
        raise BadRequestError(f"{where} {said(first)}", where) from error


def chosen_model(parts: Parts, name: str | None) -> str:
    """The model's name, the default for None. Raises NotFoundError."""
    found = name or parts.catalog.default
    if found is None:
        raise NotFoundError("no model is installed here: ask the operator to add a bundle", "model")
    parts.catalog.card(found)
    return found


def fingerprint(**asked: object) -> str:
    """Digest of what was asked for under an idempotency key."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


async def accept_scene(
    parts: Parts, caller: Caller, upload: Upload, name: str, wish: Wish | None, *, must_fit: bool
) -> SceneRecord:
    """Check an upload, decode it once and keep that.

    Raises HostileSceneError, UnfitSceneError, TooLargeError, QuotaError, StorageError.
    """
    name = checked_name(name)
    await run_in_threadpool(upload.sync)
    async with parts.inspections.turn(caller.client):
        found = await run_in_threadpool(
            ingest_upload,
            upload.path,
            upload.clean,
            name,
            parts.settings,
            wish,
            parts.checks,
            check_room=partial(parts.store.check_room, caller.owner, caller.share),
        )
    if must_fit:
        _refuse_unfit(found.fit)
    info = {**found.facts, "fit": None if found.fit is None or wish is None else {"model": wish.model, **found.fit}}
    return await parts.write(parts.store.keep, upload, caller.owner, name, info, found.pixels, caller.share)


def wish_for(parts: Parts, model: str, options: JobOptions) -> Wish:
    """What the header check has to look for."""
    asked = options.model_dump(mode="json")
    reach = {name: card.gsd_m for name, card in parts.catalog.cards.items()}
    return Wish(model, parts.catalog.locate(model), asked, reach)


async def look_again(
    parts: Parts, caller: Caller, scene: SceneRecord, model: str, options: JobOptions
) -> dict[str, Any]:
    """The pre-flight of a scene for a model and options: `upload_check.Inspection.fit`."""
    path = parts.store.scenes.path(scene.id)
    async with parts.inspections.turn(caller.client):
        found = await run_in_threadpool(
            inspect_clean, path, scene.name, parts.settings, wish_for(parts, model, options), parts.checks
        )
    return dict(found)


async def check_fit(parts: Parts, caller: Caller, scene: SceneRecord, model: str, options: JobOptions) -> None:
    """Raise UnfitSceneError where the model cannot use the scene with these options."""
    _refuse_unfit(await look_again(parts, caller, scene, model, options))


async def submit(
    parts: Parts,
    caller: Caller,
    scene: SceneRecord,
    model: str,
    options: JobOptions,
    *,
    priority: int = 0,
    idempotency: Idempotency | None = None,
) -> Job:
    """Queue a job. Raises QuotaError, IdempotencyError."""
    request = JobRequest(caller.owner, scene.id, model, options.model_dump(mode="json"), priority)
    return await parts.write(parts.store.queue.submit, request, idempotency=idempotency, max_open=caller.max_open_jobs)


def _refuse_unfit(fit: Mapping[str, Any] | None) -> None:
    if fit and not fit["fits"]:
        raise UnfitSceneError(fit["why"], fit["field"])
