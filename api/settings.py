"""What an operator may set for the HTTP side; environment variables `GEOUNET_SERVICE_...`."""

from typing import Annotated

from pydantic import Field

from geounet.service.settings import Count, ServiceSettings, Span


class ApiSettings(ServiceSettings):
    """`geounet.service.settings.ServiceSettings`, and what only the API needs."""

    root_path: str = ""
    """Path prefix that a proxy in front of the service takes away."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may read answers; none unless set. As JSON in the environment."""
    require_keys: bool = False
    """Ask for an API key on every request. Always so on an address that is not loopback."""
    hosts: tuple[str, ...] = ()
    """Host names that the service answers to beside loopback's, as JSON; empty: any, where keys are required."""
    base_map: Annotated[str, Field(pattern=r"^(https?://[A-Za-z0-9.:-]+/[^\s\"'<>;]*)?$")] = ""
    """Address of raster tiles to show below everything in the browser, with {z}, {x} and {y}; none unless set."""
    base_map_attribution: str = ""
    """What their provider wants to be named as."""
    page_limit: Count = 10_000
    """Features of one page at most."""
    json_body: Count = 2_000_000
    """Bytes of a JSON body."""
    wait_seconds: Span = 60
    """How long POST /predict waits for a result at most."""
    inspections: Annotated[int, Field(ge=1, le=64)] = 2
    """Header checks at a time."""
    readers: Annotated[int, Field(ge=1, le=64)] = 2
    """Processes that read rasters for tiles and points."""
