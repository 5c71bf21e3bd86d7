"""Conditional and partial requests for files (RFC 9110, sections 13 and 14)."""

import re
from email.utils import parsedate_to_datetime

from starlette.datastructures import Headers

_RANGES = re.compile(
    r"^bytes\s*=(\s*(?:[0-9]+-[0-9]*|-[0-9]+)\s*(?:,\s*(?:[0-9]+-[0-9]*|-[0-9]+)\s*)*)$", re.IGNORECASE
)
_TAG = re.compile(r'(?:W/)?"[^"]*"')
_DIGITS = 18


def verdict(headers: Headers, etag: str, modified: float) -> int | None:
    """304 or 412 where a precondition says so, in the order of section 13.2.2; None: send the file.

    `etag` is a strong one, in its quotes; `modified` is the file's time in seconds since 1970.
    """
    if (match := headers.get("if-match")) is not None:
        if match.strip() != "*" and etag not in _TAG.findall(match):
            return 412
    elif (unmodified := _seconds(headers.get("if-unmodified-since"))) is not None and int(modified) > unmodified:
        return 412
    if (none_match := headers.get("if-none-match")) is not None:
        tags = [tag.removeprefix("W/") for tag in _TAG.findall(none_match)]
        return 304 if none_match.strip() == "*" or etag in tags else None
    since = _seconds(headers.get("if-modified-since"))
    return 304 if since is not None and int(modified) <= since else None


def satisfiable(header: str, size: int) -> str | None:
    """The ranges of a Range header that a file of `size` bytes has, as a header again; "" where it has none of them.

    None for what is no header of byte ranges: it is to be ignored, as if it had not come.
    """
    found = _RANGES.match(header)
    if found is None or any(len(digits) > _DIGITS for digits in re.findall("[0-9]+", header)):
        return None
    kept = []
    for part in found[1].split(","):
        first, _, last = part.strip().partition("-")
        if first and last and int(last) < int(first):
            return None
        if int(first) < size if first else int(last) > 0 and size > 0:
            kept.append(part.strip())
    return f"bytes={','.join(kept)}" if kept else ""


def _seconds(date: str | None) -> float | None:
    """An HTTP date in seconds since 1970, None for anything else."""
    if not date:
        return None
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
