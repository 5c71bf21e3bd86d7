"""The HTTP service: `api.main:app` for uvicorn. It knows HTTP; `geounet` does the work, in processes of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware

from api.dependencies import Parts, known_parameters
from api.errors import RESPONSES, add_handlers
from api.job_watch import JobWatch
from api.middleware import Careful, Compress
from api.openapi.document import add_openapi
from api.routes import corrections, features, jobs, maps, me, models, predict, scenes, statistics, tiles
from api.settings import ApiSettings
from geounet import __version__
from geounet.service.catalog import Catalog
from geounet.service.features.match_cache import MatchCache
from geounet.service.keys import KeyRing
from geounet.service.processes.raster_pool import Readers
from geounet.service.processes.upload_check import CHILD
from geounet.service.processes.warm import WarmChildren
from geounet.service.store import Store

ROUTERS = (
    features.router,
    tiles.router,
    scenes.router,
    jobs.router,
    predict.router,
    corrections.router,  # before maps: there `/maps/{map_id}/{file}` takes every name
    maps.router,
    statistics.router,
    models.router,
    me.router,
)


def create_app(settings: ApiSettings | None = None) -> FastAPI:
    """The application; its parts are made when it starts."""
    settings = settings or ApiSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = Store(settings)
        parts = Parts(
            settings=settings,
            store=store,
            catalog=Catalog(settings.bundles, settings.model),
            keys=KeyRing(store.database),
            features=MatchCache(),
            readers=Readers(settings, settings.readers),
            watch=JobWatch(store.database),
            checks=WarmChildren(CHILD, settings.inspections),
        )
        app.state.parts = parts
        yield
        await parts.watch.close()
        parts.readers.close()
        parts.checks.close()

    app = FastAPI(
        title="geounet",
        version=__version__,
        summary="Land-cover maps and polygons from satellite and aerial images.",
        lifespan=lifespan,
        responses=RESPONSES,
        dependencies=[Depends(known_parameters)],
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    for router in ROUTERS:
        app.include_router(router)
    add_handlers(app)
    app.add_middleware(Compress)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Location", "Content-Crs", "Link", "Retry-After", "ETag", "X-Request-Id"],
        )
    app.add_middleware(Careful, settings=settings)
    add_openapi(app)
    return app


app = create_app()
