"""Where the service is as its clients see it: a proxy in front has another scheme, name and path, and hides the client.

The operator says it once (`public_url`), or trusts the proxy to say it with every request (`trusted_proxies`). What
others put into the same headers counts for nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

Network = IPv4Network | IPv6Network

_HOST = re.compile(r"^[A-Za-z0-9.:\[\]_-]{1,255}$")
_PREFIX = re.compile(r"^(/[A-Za-z0-9._~-]+)+$")


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


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks such as `10.0.0.0/8`. Raises ValueError."""
    return tuple(ip_network(text, strict=False) for text in texts)


def split_url(url: str) -> tuple[str, str, str]:
    """(scheme, host with port, path prefix) of an `http` or `https` address. Raises ValueError for anything else."""
    parts = urlsplit(url)
    prefix = parts.path.rstrip("/")
    sound = parts.scheme in ("http", "https") and is_host(parts.netloc) and (not prefix or _PREFIX.match(prefix))
    if not sound or parts.query or parts.fragment:
        raise ValueError(f"'{url}' is no address such as https://maps.example.org/prefix")
    return parts.scheme, parts.netloc, prefix


def is_host(text: str) -> bool:
    """Whether a text can be a Host header."""
    if not _HOST.match(text) or text.count("[") > 1 or text.count("[") != text.count("]"):
        return False
    try:
        return urlsplit(f"//{text}").hostname is not None and urlsplit(f"//{text}").port != 0
    except ValueError:
        return False


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
        prefix if _PREFIX.match(prefix) else plain.prefix,
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


def is_within(address: str, proxies: Sequence[Network]) -> bool:
    """Whether an address lies in one of the networks."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in proxies)
