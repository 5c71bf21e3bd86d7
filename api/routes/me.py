"""Who is calling, and what it may do."""

from fastapi import APIRouter, Request

from api.dependencies import PartsDep, Reading, needs_key
from api.schemas.responses import Me, Quota

router = APIRouter(tags=["me"])


@router.get("/me")
def me(request: Request, parts: PartsDep, caller: Reading) -> Me:
    """The caller's key, its scopes, and what is used of its share."""
    bytes_, pixels = parts.store.scenes.used_by(caller.owner)
    limit = caller.share.max_bytes
    if caller.owner is None:
        limit = parts.settings.quota
    return Me(
        key=caller.owner,
        name=caller.name,
        scopes=sorted(caller.scopes),
        bytes=Quota(used=bytes_ + parts.store.maps.used_by(caller.owner), limit=limit),
        pixels=Quota(used=pixels, limit=caller.share.max_pixels),
        open_jobs=Quota(used=parts.store.queue.open_jobs_of(caller.owner), limit=caller.max_open_jobs),
        keys_needed=needs_key(parts, request),
    )
