"""Headers that every answer has, whoever makes it: the application, or the server before it."""

import re
import secrets
from urllib.parse import urlsplit


def content_policy(base_map: str = "") -> str:
    """What pages may load: their own, and the tiles of the operator's base map."""
    tiles = urlsplit(base_map)
    there = f" {tiles.scheme}://{tiles.netloc}" if base_map else ""
    return (
        f"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data: blob:{there}; "
        f"connect-src 'self'{there}; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": content_policy(),
}

_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


def request_id(given: str = "") -> str:
    """The client's id for its request where it is a sane one, else a new one."""
    return given if _ID.match(given) else secrets.token_hex(8)
