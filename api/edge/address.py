"""Where the service is as its clients see it: a proxy in front has another scheme, name and path, and hides the client.

The operator says it once (`public_url`), or trusts the proxy to say it with every request (`trusted_proxies`). What
others put into the same headers counts for nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from api.addresses import PREFIX, Network, is_host, is_within


@dataclass(frozen=True)
class Address:
    """How a client reaches the service: scheme, host with port, path prefix; and the client's own address."""

    scheme: str
    host: str
    prefix: str
    client: str

    @property
    def name(self) -> str:
        """The host without its port; empty where the client sent nothing that can be a host."""
        return (urlsplit(f"//{self.host}").hostname or "") if is_host(self.host) else ""


def address_of(scope: Scope, root_path: str, proxies: Sequence[Network]) -> Address:
    """How the client of a request reaches the service; headers count only where a trusted proxy has sent them."""
    headers = Headers(scope=scope)
    peer = scope["client"][0] if scope.get("client") else ""
    plain = Address(scope.get("scheme", "http"), headers.get("host", ""), root_path, peer)
    if not is_within(peer, proxies):
        return plain
    scheme, host = _last(headers, "x-forwarded-proto"), _last(headers, "x-forwarded-host")
    prefix = headers.get("x-forwarded-prefix", "").rstrip("/")
    return Address(
        scheme if scheme in ("http", "https") else plain.scheme,
        host if is_host(host) else plain.host,
        prefix if PREFIX.match(prefix) else plain.prefix,
        _client(headers.getlist("x-forwarded-for"), proxies) or peer,
    )


def _last(headers: Headers, name: str) -> str:
    """What the nearest proxy says: each one adds its word at the end."""
    return headers.get(name, "").rpartition(",")[2].strip()


def _client(forwarded: Sequence[str], proxies: Sequence[Network]) -> str:
    """The last address on the way that is no proxy of ours; those before it are the client's own claims."""
    for hop in reversed([hop.strip() for line in forwarded for hop in line.split(",")]):
        try:
            ip_address(hop)
        except ValueError:
            return ""
        if not is_within(hop, proxies):
            return hop
    return ""
