"""Around every request: an id, a log line, HEAD, a cap on bodies, the headers of a careful site."""

import logging
import re
import secrets
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem
from api.loopback import LOOPBACK, listens_widely
from api.settings import ApiSettings
from geounet.service.errors import TooLargeError

log = logging.getLogger("geounet.access")

_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
_FILE = re.compile(r"^/maps/[^/]+/[^/]+\.[a-z0-9]+$")
_UPLOADS = re.compile(r"^/(scenes(/[^/]+)?|predict)$")


HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def content_policy(base_map: str) -> str:
    """What pages may load: their own, and the tiles of the operator's base map."""
    tiles = urlsplit(base_map)
    there = f" {tiles.scheme}://{tiles.netloc}" if base_map else ""
    return (
        f"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data: blob:{there}; "
        f"connect-src 'self'{there}; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


class Careful:
    """The outermost layer; everything that leaves the service passes it."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self.app = app
        self.settings = settings
        self._headers = {**HEADERS, "content-security-policy": content_policy(settings.base_map)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # A proxy in front has taken the prefix away from the path; links put it back.
        scope = {**scope, "root_path": scope.get("root_path") or self.settings.root_path}
        given = headers.get("x-request-id", "")
        scope["request_id"] = given if _ID.match(given) else secrets.token_hex(8)
        began, status, head = time.perf_counter(), 500, scope["method"] == "HEAD"
        method = scope["method"]
        if head:
            scope = {**scope, "method": "GET", "head": True}

        async def leave(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                out["x-request-id"] = scope["request_id"]
                for name, value in self._headers.items():
                    out.setdefault(name, value)
                if self.settings.cors_origins:
                    out["cross-origin-resource-policy"] = "cross-origin"
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            refusal = self._refusal(Request(scope), headers)
            if refusal is not None:
                await refusal(scope, receive, leave)
            else:
                await self.app(scope, self._capped(scope, receive), leave)
        finally:
            log.info(
                "request",
                extra={
                    "request_id": scope["request_id"],
                    "method": method,
                    "path": scope["path"],
                    "status": status,
                    "ms": round((time.perf_counter() - began) * 1000, 1),
                },
            )

    def _refusal(self, request: Request, headers: Headers) -> ASGIApp | None:
        """Pages of other sites must not reach a service that trusts its own machine (CSRF, DNS rebinding)."""
        host = (urlsplit(f"//{headers.get('host', '')}").hostname or "") if _sane(headers.get("host", "")) else ""
        known = (*LOOPBACK, *self.settings.hosts)
        trusting = not (self.settings.require_keys or listens_widely(request.scope))
        if (trusting or self.settings.hosts) and host not in known:
            return problem(
                request, 421, "Misdirected", f"this service does not answer to the name {host!r}: set its hosts"
            )
        site = headers.get("sec-fetch-site")
        foreign = site in ("cross-site", "same-site") and headers.get("origin") not in self.settings.cors_origins
        if trusting and foreign and request.method not in ("GET", "OPTIONS"):
            return problem(request, 403, "Forbidden", "a page of another site may not change anything here")
        return None

    def _capped(self, scope: Scope, receive: Receive) -> Receive:
        if _UPLOADS.match(scope["path"]):
            return receive  # counted while they are written
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.settings.json_body:
                raise TooLargeError(f"the body is over the limit of {self.settings.json_body} bytes")
            return message

        return counted


def _sane(host: str) -> bool:
    return bool(re.match(r"^[A-Za-z0-9.:\[\]_-]{1,255}$", host)) and host.count("[") == host.count("]") <= 1


class Compress(GZipMiddleware):
    """gzip for what is made for one answer; files keep their bytes, so that ranges and ETags mean the same thing."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            app, minimum_size=1000, compresslevel=1, exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, "image/*")
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and _FILE.match(scope["path"]):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
