"""What a client can draw out without end is ended by the server itself: headers, bodies, silence, unread answers."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from api.edge.headers import HEADERS

MOST = 12


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, bundles: Path, start: Callable[..., Any]) -> Iterator[Any]:
    """A service with little patience."""
    limits = {"header_bytes": 4000, "header_seconds": 1, "body_seconds": 1, "unread_seconds": 1, "idle_seconds": 1}
    data = tmp_path_factory.mktemp("strict") / "data"
    with start(data, bundles, client_connections=MOST, body_rate=100_000, **limits) as found:
        yield found


def connect(service: Any, receive_buffer: int = 0) -> socket.socket:
    made = socket.socket()
    if receive_buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    made.settimeout(10)
    made.connect(("127.0.0.1", int(service.url.rpartition(":")[2])))
    return made


def everything(connection: socket.socket) -> bytes:
    """What the server says until it ends the connection."""
    said = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while chunk := connection.recv(65536):
            said += chunk
    connection.close()
    return said


def check_problem(said: bytes, status: int, words: str) -> None:
    """A refusal by the server is as complete as one by the application."""
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), said[:200]
    told = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert told["content-type"] == "application/problem+json"
    assert told["connection"] == "close"
    assert all(told[name] == value for name, value in HEADERS.items())
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["request_id"] == told["x-request-id"]
    assert words in problem["detail"]


def is_well(service: Any) -> bool:
    return httpx2.get(f"{service.url}/healthz", timeout=5).status_code == 200


@pytest.mark.parametrize("shape", ["one", "many", "line"])
def test_headers_over_the_limit_are_431_and_cost_nothing(strict: Any, shape: str) -> None:
    process = psutil.Process(strict.process.pid)
    before = process.memory_info().rss
    with connect(strict) as connection:
        head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
        pieces = {
            "one": [head + b"X-Long: ", *[b"a" * 100_000] * 200],
            "many": [head, *[b"X-Short: abcdefgh\r\n" * 1000] * 100],
            "line": [b"GET /", *[b"a" * 100_000] * 200],
        }[shape]
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for piece in pieces:
                connection.sendall(piece)
        said = everything(connection)
    check_problem(said, 431, "4000 bytes")
    assert process.memory_info().rss - before < 20_000_000
    assert is_well(strict)


def test_headers_within_the_limit_pass_in_however_many_pieces(strict: Any) -> None:
    with connect(strict) as connection:
        request = (
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: " + b"a" * 3500 + b"\r\n\r\n"
        )
        for i in range(0, len(request), 50):
            connection.sendall(request[i : i + 50])
        assert everything(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: "])
def test_headers_that_never_end_are_ended(strict: Any, begun: bytes) -> None:
    began = time.monotonic()
    with connect(strict) as connection:
        connection.sendall(begun)
        with contextlib.suppress(OSError):
            for _ in range(20):  # a byte now and then keeps a slow client's connection alive where only silence counts
                time.sleep(0.1)
                if len(begun) > 2:
                    connection.sendall(b"a")
        said = everything(connection)
    assert time.monotonic() - began < 6
    if begun:
        check_problem(said, 408, "headers took longer")


@pytest.mark.parametrize(
    ("path", "kind"), [("/scenes/slow.tif", "application/octet-stream"), ("/jobs", "application/json")]
)
def test_a_body_that_trickles_is_ended(strict: Any, path: str, kind: str) -> None:
    method = "PUT" if "scenes" in path else "POST"
    began = time.monotonic()
    with connect(strict) as connection:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 100000\r\n\r\n"
        connection.sendall(head.encode())
        with contextlib.suppress(OSError):
            for _ in range(60):
                connection.sendall(b"a")
                time.sleep(0.05)
        said = everything(connection)
    assert time.monotonic() - began < 8
    check_problem(said, 408, "bytes a second")
    assert list((strict.data / "incoming").iterdir()) == []


def test_a_body_that_keeps_coming_is_taken_however_long_it_takes(strict: Any, scene_file: Path) -> None:
    body = scene_file.read_bytes() * 4
    pieces = [body[i : i + len(body) // 40 + 1] for i in range(0, len(body), len(body) // 40 + 1)]

    def steadily() -> Iterator[bytes]:
        for piece in pieces:
            time.sleep(0.08)
            yield piece

    assert len(body) > 300_000  # more than 100 kB a second over the 3.2 seconds that it takes
    assert httpx2.put(f"{strict.url}/scenes/a.tif", content=steadily(), timeout=30).status_code in (201, 422)


def test_a_connection_that_waits_for_nothing_is_closed(strict: Any) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        began = time.monotonic()
        assert everything(connection).startswith(b"HTTP/1.1 200")
        assert 0.5 < time.monotonic() - began < 4


def test_an_answer_that_nobody_reads_is_given_up(strict: Any) -> None:
    with connect(strict, receive_buffer=2048) as connection:
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.sendall(request)
        ends = time.monotonic() + 60
        while time.monotonic() < ends and _held_by(strict, connection):
            time.sleep(0.1)
        assert not _held_by(strict, connection)
    assert is_well(strict)


def _held_by(service: Any, connection: socket.socket) -> bool:
    port = connection.getsockname()[1]
    return any(c.raddr and c.raddr.port == port for c in psutil.Process(service.process.pid).net_connections("tcp"))


def test_a_client_has_so_many_connections_and_no_more(strict: Any) -> None:
    held = [connect(strict) for _ in range(MOST)]
    try:
        for connection in held:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        said = everything(connect(strict))
        check_problem(said, 503, "too many connections")
        assert b"retry-after: 5" in said
    finally:
        for connection in held:
            connection.close()
    time.sleep(0.2)
    assert is_well(strict)


def test_what_is_no_http_is_refused_in_our_words(strict: Any) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / SPDY/3\r\n\r\n", b"GET / HTTP/1.1\r\n: empty\r\n\r\n"):
        with connect(strict) as connection:
            connection.sendall(nonsense)
            check_problem(everything(connection), 400, "no HTTP/1.1 request")
