"""Addresses as operators write them: of the service itself, of networks, of hosts."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Network = IPv4Network | IPv6Network

_HOST = re.compile(r"^[A-Za-z0-9.:\[\]_-]{1,255}$")
PREFIX = re.compile(r"^(/[A-Za-z0-9._~-]+)+$")
"""A path prefix without a slash at its end."""


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks such as `10.0.0.0/8`. Raises ValueError."""
    return tuple(ip_network(text, strict=False) for text in texts)


def split_url(url: str) -> tuple[str, str, str]:
    """(scheme, host with port, path prefix) of an `http` or `https` address. Raises ValueError for anything else."""
    parts = urlsplit(url)
    prefix = parts.path.rstrip("/")
    sound = parts.scheme in ("http", "https") and is_host(parts.netloc) and (not prefix or PREFIX.match(prefix))
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


def is_within(address: str, proxies: Sequence[Network]) -> bool:
    """Whether an address lies in one of the networks."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in proxies)
