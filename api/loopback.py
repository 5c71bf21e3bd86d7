"""Which addresses only this machine can reach."""

from starlette.types import Scope

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def listens_widely(scope: Scope) -> bool:
    """Whether the request came in on an address that is not loopback."""
    server = scope.get("server")
    host = str(server[0]) if server else ""
    return not (host in LOOPBACK or host.startswith("127.") or host == "")
