"""Bodies on their way to disk: raw or multipart, counted as they come, never held in memory."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import CancelScope
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.dependencies import Caller, Parts
from geounet.service.errors import BadRequestError, ServiceError, TooLargeError
from geounet.service.settings import MEGA
from geounet.service.uploads import Upload

_CHUNK = MEGA
_DRAIN_BYTES = 16 * MEGA
_DRAIN_SECONDS = 2.0
_FIELD_BYTES = 256_000
_FIELDS = 16
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffd]")
NAME_LENGTH = 200


def checked_name(name: str) -> str:
    """A client's name for a scene: a label, never a path. Raises BadRequestError."""
    if not name.strip() or len(name) > NAME_LENGTH or _UNSEEN.search(name):
        raise BadRequestError(f"a name has 1 to {NAME_LENGTH} visible characters", "name")
    return name


@asynccontextmanager
async def raw_upload(request: Request, parts: Parts, caller: Caller, limit: int) -> AsyncIterator[Upload]:
    """The whole body as an upload, gone at the end unless the store has kept it."""
    async with _begun(request, parts, caller, limit) as upload:
        try:
            async for chunk in _gathered(request):
                await run_in_threadpool(upload.write, chunk)
        except ServiceError:
            await _drain(request)
            raise
        if not upload.bytes:
            raise BadRequestError("the body is empty: send the bytes of a GeoTIFF", "body")
        yield upload


@asynccontextmanager
async def form_upload(
    request: Request, parts: Parts, caller: Caller, limit: int
) -> AsyncIterator[tuple[Upload, str, dict[str, str]]]:
    """(upload, its file name, the other fields) of a multipart form with one part named `file`."""
    _, options = parse_options_header(request.headers.get("content-type", ""))
    if not options.get(b"boundary"):
        raise BadRequestError("send multipart/form-data with a part named 'file', as curl -F file=@scene.tif does")
    async with _begun(request, parts, caller, limit) as upload:
        form = _Form(options[b"boundary"])
        try:
            async for chunk in _gathered(request):
                for piece in form.feed(chunk):
                    await run_in_threadpool(upload.write, piece)
            form.finish()
        except ServiceError:
            await _drain(request)
            raise
        if form.file_name is None or not upload.bytes:
            raise BadRequestError("the form has no part named 'file' with a GeoTIFF in it", "file")
        yield upload, form.file_name, form.fields


@asynccontextmanager
async def _begun(request: Request, parts: Parts, caller: Caller, limit: int) -> AsyncIterator[Upload]:
    length = request.headers.get("content-length", "")
    announced = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
    upload = await run_in_threadpool(parts.store.begin_upload, caller.owner, caller.share, limit, announced)
    try:
        yield upload
    finally:
        with CancelScope(shield=True):  # also where the client has gone: the file goes too
            await run_in_threadpool(upload.close)


async def _gathered(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of about a megabyte: a hop to a thread for each is cheap then."""
    held: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            held.append(chunk)
            size += len(chunk)
            if size >= _CHUNK:
                yield b"".join(held)
                held, size = [], 0
    except ClientDisconnect as error:
        raise BadRequestError("the body ended before its time") from error
    request.state.body_ended = True
    if held:
        yield b"".join(held)


async def _drain(request: Request) -> None:
    """Read on a little after a refusal, so that the client sees the answer rather than a broken connection."""
    if getattr(request.state, "body_ended", False):
        return
    seen = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while seen < _DRAIN_BYTES:
                message = await request.receive()
                seen += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return


class _Form:
    """A multipart parser that hands the file's bytes on and keeps the small fields."""

    def __init__(self, boundary: bytes) -> None:
        self.file_name: str | None = None
        self.fields: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._header_name, self._header_value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._in_file = False
        self._value = bytearray()
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise BadRequestError(f"the form is malformed: {error}") from error

    def feed(self, chunk: bytes) -> list[bytes]:
        """Parse on; returns the file's bytes in it."""
        self._pieces = []
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadRequestError(f"the form is malformed: {error}") from error
        return self._pieces

    def finish(self) -> None:
        """Raise BadRequestError where the form is not whole."""
        if not self._ended:
            raise BadRequestError("the form ended before its last boundary")

    def _part_begin(self) -> None:
        self._headers, self._value, self._field, self._in_file = {}, bytearray(), None, False
        self._header_name, self._header_value = b"", b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = _text(options.get(b"name", b""))
        if name == "file":
            if self.file_name is not None:
                raise BadRequestError("one file at a time: the form has two parts named 'file'", "file")
            self._in_file = True
            self.file_name = _text(options.get(b"filename", b"")) or "scene.tif"
        else:
            self._field = name

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(bytes(data[start:end]))
            return
        self._value += data[start:end]
        if len(self._value) > _FIELD_BYTES:
            raise TooLargeError(f"the field '{self._field}' is over {_FIELD_BYTES} bytes", self._field)

    def _part_end(self) -> None:
        if self._field is not None:
            if len(self.fields) >= _FIELDS:
                raise BadRequestError(f"the form has more than {_FIELDS} fields")
            self.fields[self._field] = _text(bytes(self._value))

    def _on_end(self) -> None:
        self._ended = True


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadRequestError("names and fields must be UTF-8") from error
