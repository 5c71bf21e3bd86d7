"""uvicorn's HTTP protocol with limits on what a connection may cost before, beside and after the application.

The application sees a request when its headers are whole, and a body as it comes; everything that a client can draw out
without end - headers, bodies, answers that it does not read, connections that say nothing - ends here. A refusal is a
problem document with the same headers as any other answer.
"""

import asyncio
import ipaddress
import json
import logging
from collections import Counter
from functools import cache
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.addresses import is_within, networks
from api.edge.headers import HEADERS, request_id
from api.settings import ApiSettings

log = logging.getLogger("geounet.connections")

_LOOK_SECONDS = 0.5
_LINGER_SECONDS = 1.0


class LimitedProtocol(HttpToolsProtocol):
    """One connection. `api.settings.ApiSettings` says what each limit is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.door = _door()
        self.timeout_keep_alive = self.door.settings.idle_seconds  # type: ignore[assignment]
        self.peer = ""
        self.counted = False
        self.headers_since: float | None = None
        self.header_bytes = 0
        self.body_since: float | None = None
        self.body_bytes = 0
        self.unread_since: float | None = None
        self.refused = False
        self._too_long = False
        self._length = 0

    # -- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the client's connections, and refuse one too many."""
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        self.headers_since = self.loop.time()
        if self.door.enter(self):
            self.counted = True
        else:
            self._refuse(
                503, "too many connections are open: close some, or try again in a moment", {"retry-after": "5"}
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.door.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, as long as it keeps to the limits."""
        if self.refused:
            return
        if self.headers_since is None and self.body_since is None and (not self.cycle or self.cycle.response_complete):
            self.headers_since = self.loop.time()
        if self.headers_since is not None:
            self.header_bytes += len(data)
        super().data_received(data)
        if self.headers_since is not None and self.header_bytes > self.door.settings.header_bytes:
            self._refuse_headers()

    # -- the request -------------------------------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        """A piece of the request line."""
        super().on_url(url)
        self._check_length(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        super().on_header(name, value)
        self._check_length(len(name) + len(value) + 4)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._length = 0

    def on_headers_complete(self) -> None:
        """From here on the body counts."""
        self.headers_since, self.header_bytes = None, 0
        self.body_since, self.body_bytes = self.loop.time(), 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.body_since = None
        super().on_message_complete()

    # -- the answer --------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client does not read as fast as it is sent to."""
        self.unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has read on."""
        self.unread_since = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls where the parser gives up."""
        if self._too_long:
            self._refuse_headers()
        else:
            self._refuse(400, "this is no HTTP/1.1 request")

    def _check_length(self, more: int) -> None:
        self._length += more
        if self._length > self.door.settings.header_bytes:
            self._too_long = True
            raise httptools.HttpParserError("too long")

    def _refuse_headers(self) -> None:
        limit = self.door.settings.header_bytes
        self._refuse(431, f"the request's line and headers are over the limit of {limit} bytes")

    def look(self, now: float) -> None:
        """End what takes too long; called twice a second."""
        limits = self.door.settings
        if self.refused or self.transport.is_closing():
            return
        if self.unread_since is not None and now - self.unread_since > limits.unread_seconds:
            log.info("ended", extra={"client": self.peer, "why": "the client does not read"})
            self.transport.abort()
        elif self.headers_since is not None and now - self.headers_since > limits.header_seconds:
            if self.header_bytes:
                self._refuse(408, f"the request's headers took longer than {limits.header_seconds:g} seconds")
            else:
                self.transport.close()
        elif self.body_since is not None:
            if self.flow.read_paused:
                self.body_since += _LOOK_SECONDS  # the service holds the client up, not the other way round
            elif now - self.body_since > limits.body_seconds + self.body_bytes / limits.body_rate:
                self._refuse(408, f"the body comes at less than {limits.body_rate:g} bytes a second")

    def _refuse(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        """Answer in the application's place, and end the connection once the client has had time to read it."""
        self.refused = True
        self._unset_keepalive_if_required()
        log.info("refused", extra={"client": self.peer, "status": status, "why": detail})
        answering = self.cycle is not None and not self.cycle.response_complete
        started = answering and self.cycle.response_started
        if answering:  # what the application still says goes nowhere
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if started:
            self.transport.abort()
            return
        self.transport.write(_problem(status, detail, headers or {}))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()  # what is still on its way is thrown away: unread, it would cost the answer
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


class Door:
    """Counts the connections of each client, and looks after all of them."""

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self._proxies = networks(settings.trusted_proxies)
        self._clients: Counter[str] = Counter()
        self._open: set[LimitedProtocol] = set()
        self._looking = False

    def enter(self, connection: LimitedProtocol) -> bool:
        """Whether one more connection of this client is let in."""
        if not self._looking:
            self._looking = True
            connection.loop.call_later(_LOOK_SECONDS, self._look, connection.loop)
        client = _household(connection.peer)
        full = len(self._open) >= self.settings.connections
        if full or self._clients[client] >= self.settings.client_connections:
            return False
        self._open.add(connection)
        if not is_within(connection.peer, self._proxies):  # a proxy speaks for many, and counts for itself
            self._clients[client] += 1
        return True

    def leave(self, connection: LimitedProtocol) -> None:
        """The connection is gone."""
        self._open.discard(connection)
        if connection.counted and not is_within(connection.peer, self._proxies):
            client = _household(connection.peer)
            self._clients[client] -= 1
            if self._clients[client] <= 0:
                del self._clients[client]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(_LOOK_SECONDS, self._look, loop)
        now = loop.time()
        for connection in list(self._open):
            connection.look(now)


@cache
def _door() -> Door:
    """The one of this process: uvicorn makes protocols, and tells them nothing of ours."""
    return Door(ApiSettings())


def _household(peer: str) -> str:
    """Who counts as one client: an IPv4 address, an IPv6 network of 64 bits."""
    try:
        found = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else peer


def _problem(status: int, detail: str, headers: dict[str, str]) -> bytes:
    """A whole answer with a problem document (RFC 9457) as body."""
    title, made = HTTPStatus(status).phrase, request_id()
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail, "request_id": made})
    told = {"content-type": "application/problem+json", "content-length": str(len(body)), "x-request-id": made}
    lines = "".join(f"{k}: {v}\r\n" for k, v in {**HEADERS, **told, **headers, "connection": "close"}.items())
    return f"HTTP/1.1 {status} {title}\r\n{lines}\r\n{body}".encode("ascii")
