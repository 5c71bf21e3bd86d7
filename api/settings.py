"""What an operator may set for the HTTP side; environment variables `GEOUNET_SERVICE_...`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from api.addresses import networks, split_url
from geounet.service.settings import Count, ServiceSettings, Span


def _address(url: str | None) -> str | None:
    if not url:
        return None
    split_url(url)
    return url.rstrip("/")


def _proxies(texts: tuple[str, ...]) -> tuple[str, ...]:
    networks(texts)
    return texts


class ApiSettings(ServiceSettings):
    """`geounet.service.settings.ServiceSettings`, and what only the API needs."""

    root_path: str = ""
    """Path prefix that a proxy in front of the service takes away."""
    public_url: Annotated[str | None, AfterValidator(_address)] = None
    """The address that clients know, such as `https://maps.example.org/prefix`: every link begins with it."""
    trusted_proxies: Annotated[tuple[str, ...], AfterValidator(_proxies)] = ()
    """Addresses or networks of proxies whose X-Forwarded-For, -Proto, -Host and -Prefix are believed, as JSON."""
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
    header_bytes: Count = 32_768
    """Bytes of a request's line and headers."""
    header_seconds: Span = 10
    """How long a client may take to send them, from the connection's first moment on."""
    body_seconds: Span = 30
    """How long a body may stay behind `body_rate`."""
    body_rate: Span = 1_000
    """Bytes a second of a body; a client that keeps sending less is cut off."""
    unread_seconds: Span = 60
    """How long a client may leave an answer unread."""
    idle_seconds: Span = 5
    """How long a connection is kept open for the next request."""
    connections: Count = 1_000
    """Connections at a time."""
    client_connections: Count = 256
    """Connections of one client at a time: an IPv4 address, an IPv6 network of 64 bits. Trusted proxies are exempt."""
    json_body: Count = 2_000_000
    """Bytes of a JSON body."""
    wait_seconds: Span = 60
    """How long POST /predict waits for a result at most."""
    inspections: Annotated[int, Field(ge=1, le=64)] = 2
    """Header checks at a time."""
    readers: Annotated[int, Field(ge=1, le=64)] = 2
    """Processes that read rasters for tiles and points."""
