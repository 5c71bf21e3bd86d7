"""Around every request: an id, a log line, HEAD, a cap on bodies, the headers of a careful site."""

import logging
import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.addresses import is_host, networks, split_url
from api.edge.accept import quality
from api.edge.address import Address, address_of
from api.edge.headers import HEADERS, content_policy, request_id
from api.errors import problem, too_large
from api.loopback import LOOPBACK, listens_widely
from api.settings import ApiSettings

log = logging.getLogger("geounet.access")
faults = logging.getLogger("geounet.api")

_FILE = re.compile(r"^/maps/[^/]+/[^/]+\.[a-z0-9]+$")
_UPLOADS = re.compile(r"^/(scenes(/[^/]+)?|predict)$")


class Careful:
    """The outermost layer; everything that leaves the application passes it."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self.app = app
        self.settings = settings
        self._public = split_url(settings.public_url) if settings.public_url else None
        self._proxies = networks(settings.trusted_proxies)
        self._headers = {**HEADERS, "content-security-policy": content_policy(settings.base_map)}
        if settings.cors_origins:
            self._headers["cross-origin-resource-policy"] = "cross-origin"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = address_of(scope, self.settings.root_path, self._proxies)
        began, method, path = time.perf_counter(), scope["method"], scope["path"]
        scope = self._seen_from_outside(scope, asked)
        scope["request_id"] = request_id(headers.get("x-request-id", ""))
        exit_ = _Exit(send, scope["request_id"], method == "HEAD", self._headers)
        if method == "HEAD":
            scope = {**scope, "method": "GET", "head": True}
        try:
            refusal = self._refusal(Request(scope), headers, asked)
            if refusal is not None:
                await refusal(scope, receive, exit_)
            else:
                await self.app(scope, self._capped(scope, receive), exit_)
        except Exception as error:  # a bug: the client gets an id to ask about, the log the rest
            faults.error("unexpected error", exc_info=error, extra={"request_id": scope["request_id"]})
            if exit_.status is not None:
                raise  # half of the answer is gone: breaking the connection off is all that is left
            told = problem(
                Request(scope), 500, "Something went wrong", "this is a fault of the service; its log has the rest"
            )
            await told(scope, receive, exit_)
        finally:
            log.info(
                "request",
                extra={
                    "request_id": scope["request_id"],
                    "client": asked.client,
                    "method": method,
                    "path": path,
                    "status": exit_.status or 500,
                    "ms": round((time.perf_counter() - began) * 1000, 1),
                },
            )

    def _seen_from_outside(self, scope: Scope, asked: Address) -> Scope:
        """The request as it would have come without a proxy: links are made from it."""
        scheme, host, prefix = self._public or (asked.scheme, asked.host, asked.prefix)
        path = scope["path"]
        if len(path) > 1 and path.endswith("/"):
            path = path[:-1]  # whether a folder or a thing: here both are the same
        kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
        return {
            **scope,
            "scheme": scheme,
            "headers": [*kept, (b"host", host.encode("latin-1"))] if is_host(host) else scope["headers"],
            "root_path": prefix,
            "path": prefix + path,
            "client": (asked.client, 0) if asked.client else scope.get("client"),
        }

    def _refusal(self, request: Request, headers: Headers, asked: Address) -> ASGIApp | None:
        """Pages of other sites must not reach a service that trusts its own machine (CSRF, DNS rebinding)."""
        public = Address(*self._public, "").name if self._public else ""
        known = (*LOOPBACK, *self.settings.hosts, public)
        trusting = not (self.settings.require_keys or listens_widely(request.scope))
        if (trusting or self.settings.hosts) and (not asked.name or asked.name not in known):
            return problem(
                request, 421, "Misdirected", f"this service does not answer to the name {asked.name!r}: set its hosts"
            )
        if trusting and request.method not in ("GET", "OPTIONS") and self._is_foreign(headers, asked):
            return problem(request, 403, "Forbidden", "a page of another site may not change anything here")
        length = headers.get("content-length", "")
        capped = not _UPLOADS.match(_inner(request.scope))
        if capped and length.isascii() and length.isdigit() and int(length[:19]) > self.settings.json_body:
            return too_large(request, self.settings.json_body)
        return None

    def _is_foreign(self, headers: Headers, asked: Address) -> bool:
        """Whether a page of another site sends this; browsers say so, older ones name the page's origin at least."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self.settings.cors_origins:
            return False
        if site is not None:
            return site in ("cross-site", "same-site")
        if origin is None:
            return False
        own = {asked.host, headers.get("host", ""), self._public[1] if self._public else asked.host}
        return urlsplit(origin).netloc not in own

    def _capped(self, scope: Scope, receive: Receive) -> Receive:
        if _UPLOADS.match(_inner(scope)):
            return receive  # counted while they are written
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.settings.json_body:
                raise HTTPException(413, f"the body is over the limit of {self.settings.json_body} bytes")
            return message

        return counted


class _Exit:
    """What an answer leaves through: it adds the headers, and takes the body from answers to HEAD."""

    def __init__(self, send: Send, request_id: str, head: bool, headers: Mapping[str, str]) -> None:
        self.status: int | None = None
        self._send, self._request_id, self._head, self._headers = send, request_id, head, headers

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            out = MutableHeaders(scope=message)
            out["x-request-id"] = self._request_id
            for name, value in self._headers.items():
                out.setdefault(name, value)
        elif self._head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)


def _inner(scope: Scope) -> str:
    """The path as the routes see it."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


class Compress(GZipMiddleware):
    """gzip for what is made for one answer; files keep their bytes, so that ranges and ETags mean the same thing."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            app, minimum_size=1000, compresslevel=1, exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, "image/*")
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or _FILE.match(_inner(scope)):
            await self.app(scope, receive, send)
            return
        accept = Headers(scope=scope).get("accept-encoding", "")
        wanted = quality(accept, "gzip")
        packed = wanted > 0 and (wanted >= quality(accept, "identity"))
        # The layer below looks for the word only, not for its weight.
        kept = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        headers = [*kept, (b"accept-encoding", b"gzip" if packed else b"identity")]
        await super().__call__({**scope, "headers": headers}, receive, send)
