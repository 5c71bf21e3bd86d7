"""Headers that every answer has, whoever makes it: the application, or the server before it."""

import re
import secrets

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": (
        "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
}

_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


def request_id(given: str = "") -> str:
    """The client's id for its request where it is a sane one, else a new one."""
    return given if _ID.match(given) else secrets.token_hex(8)
