"""What routes ask for: the service's parts, and who is calling."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Protocol, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from api.edge.turns import Turns
from api.edge.words import unknown
from api.edge.wrong_keys import WrongKeys
from api.job_watch import JobWatch
from api.loopback import listens_widely
from api.settings import ApiSettings
from api.tile_cache import TileCache
from geounet.service.catalog import Catalog
from geounet.service.errors import BadRequestError, ForbiddenError, NotFoundError, UnauthenticatedError
from geounet.service.features.match_cache import MatchCache
from geounet.service.jobs import Job
from geounet.service.keys import KeyRing, Scope
from geounet.service.processes.raster_pool import Readers
from geounet.service.processes.warm import WarmChildren
from geounet.service.store import Store
from geounet.service.tables.maps import MapRecord
from geounet.service.tables.scenes import SceneRecord
from geounet.service.uploads import Share

Result = TypeVar("Result")

_WRITERS = 4
_WAITING = 64
"""Tiles, or uploads, that one client may have in line."""
_WAIT_SECONDS = 60.0


@dataclass
class Parts:
    """Everything that lives as long as the application."""

    settings: ApiSettings
    store: Store
    catalog: Catalog
    keys: KeyRing
    features: MatchCache
    readers: Readers
    watch: JobWatch
    checks: WarmChildren
    tiles: TileCache = field(default_factory=TileCache)
    inspections: Turns = field(init=False)
    readings: Turns = field(init=False)
    writers: CapacityLimiter = field(init=False)
    wrong_keys: WrongKeys = field(default_factory=WrongKeys)

    def __post_init__(self) -> None:
        self.inspections = Turns(self.settings.inspections, _WAITING, _WAIT_SECONDS)
        self.readings = Turns(self.settings.readers, _WAITING, _WAIT_SECONDS)
        self.writers = CapacityLimiter(_WRITERS)

    async def read(self, client: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """What a raster reader answers, when it is this client's turn. Raises NotFoundError, BusyError."""
        async with self.readings.turn(client):
            return await run_in_threadpool(self.readers.ask, request)

    async def write(self, work: Callable[..., Result], *given: Any, **named: Any) -> Result:
        """What may wait for the database's write lock, in one of few threads: readers never wait for one of those."""
        return await to_thread.run_sync(partial(work, *given, **named), limiter=self.writers)


class _Owned(Protocol):
    @property
    def owner(self) -> str | None: ...


@dataclass(frozen=True)
class Caller:
    """Who is calling. Without keys everybody is the one user of this machine."""

    owner: str | None = None
    name: str | None = None
    scopes: frozenset[Scope] = frozenset(Scope)
    share: Share = field(default_factory=Share)
    max_open_jobs: int | None = None
    address: str = ""

    @property
    def client(self) -> str:
        """Who counts as one where clients share: a key, or an address."""
        return self.owner or self.address

    @property
    def everyone(self) -> bool:
        """Whether the caller sees what others own."""
        return Scope.ADMIN in self.scopes

    def sees(self, thing: _Owned) -> bool:
        """Whether the caller may know of a thing."""
        return self.everyone or thing.owner == self.owner


async def parts(request: Request) -> Parts:
    """The application's parts. Dependencies are coroutines: plain functions would each wait for a thread."""
    found: Parts = request.app.state.parts
    return found


PartsDep = Annotated[Parts, Depends(parts)]


async def known_parameters(request: Request) -> None:
    """A parameter that a path does not know is an error, not a silent loss. Raises BadRequestError."""
    if not request.url.query:
        return
    names = _names_of(request.scope["route"])
    if unheard := [name for name in dict.fromkeys(request.query_params.keys()) if name not in names]:
        raise BadRequestError(unknown(unheard, names), unheard[0])


def _names_of(route: APIRoute) -> list[str]:
    """Query parameters of a route; several may come as one model."""
    names: list[str] = []
    for parameter in route.dependant.query_params:
        model = parameter.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            names += [field.alias or name for name, field in model.model_fields.items()]
        else:
            names.append(parameter.alias)
    return names


class Gate(SecurityBase):
    """Lets callers in whose key has a scope, as a dependency of a route.

    All in one: FastAPI takes longer to resolve a chain of dependencies than a look-up takes.
    """

    def __init__(self, scope: Scope) -> None:
        self.model = HTTPBearer(description="An API key; only where the service asks for one.")
        self.scheme_name = "HTTPBearer"  # X-API-Key, the other way, is added to the document in `api.openapi.document`
        self._scope = scope

    async def __call__(self, request: Request) -> Caller:
        """The caller. Raises UnauthenticatedError, ForbiddenError."""
        found: Parts = request.app.state.parts
        found.wrong_keys.check(_address(request))
        try:
            caller = identify(request)
        except UnauthenticatedError:
            if _given_key(request.headers) is not None:
                await found.wrong_keys.slow(_address(request))
            raise
        if self._scope not in caller.scopes and Scope.ADMIN not in caller.scopes:
            raise ForbiddenError(f"this key has no scope '{self._scope}': ask the operator for one that has")
        return caller


def identify(request: Request) -> Caller:
    """The caller by its key. Raises UnauthenticatedError."""
    found: Parts = request.app.state.parts
    text = _given_key(request.headers)
    if text is None:
        if needs_key(found, request):
            raise UnauthenticatedError("send your API key as 'Authorization: Bearer KEY'; `geounet keys new` makes one")
        return Caller(address=_address(request))
    key = found.keys.find(text)
    if key is None:
        raise UnauthenticatedError("this API key is not known here: ask the operator for one")
    return Caller(key.id, key.name, key.scopes, key.share, key.max_open_jobs, _address(request))


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def needs_key(parts: Parts, request: Request) -> bool:
    """Whether this request has to bring an API key."""
    return parts.settings.require_keys or listens_widely(request.scope)


def _given_key(headers: Headers) -> str | None:
    """`Authorization: Bearer KEY` or `X-API-Key: KEY`."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials.strip()
    return headers.get("x-api-key") or None


Reading = Annotated[Caller, Security(Gate(Scope.READ))]
Submitting = Annotated[Caller, Security(Gate(Scope.SUBMIT))]


def seen_scene(parts: Parts, caller: Caller, scene_id: str) -> SceneRecord:
    """The scene, if the caller may know of it. Raises NotFoundError."""
    record = parts.store.scenes.get(scene_id)
    if not caller.sees(record):
        raise NotFoundError(f"there is no scene '{scene_id}'")
    return record


def seen_job(parts: Parts, caller: Caller, job_id: str) -> Job:
    """The job, if the caller may know of it. Raises NotFoundError."""
    job = parts.store.queue.get(job_id)
    if not caller.sees(job):
        raise NotFoundError(f"there is no job '{job_id}'")
    return job


def seen_map(parts: Parts, caller: Caller, map_id: str) -> MapRecord:
    """The map, if the caller may know of it. Raises NotFoundError."""
    record = parts.store.maps.get(map_id)
    if not caller.sees(record):
        raise NotFoundError(f"there is no map '{map_id}'")
    return record
