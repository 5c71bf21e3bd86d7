"""What a client accepts: quality values of `Accept` and `Accept-Encoding` (RFC 9110, section 12.4.2)."""

import re

_WEIGHT = re.compile(r"^q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)$", re.IGNORECASE)


def quality(header: str, kind: str) -> float:
    """How much `kind` (`gzip`, `text/html`) is wanted, 0 to 1: the entry that fits best says."""
    best, found = -1, 0.0
    for entry in header.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        fit = _fit(name, kind)
        if fit > best:
            best, found = fit, _weight(parameters)
    return found


def place(header: str, kind: str) -> int:
    """Where `kind` is named in the header, from 0; behind all others where it is not."""
    names = [entry.partition(";")[0].strip() for entry in header.lower().split(",")]
    return names.index(kind) if kind in names else len(names)


def _fit(name: str, kind: str) -> int:
    """2 for the kind itself, 1 for all of its family (`text/*`), 0 for everything, -1 for another one."""
    if name in (kind, f"x-{kind}"):
        return 2
    family, slash, _ = kind.partition("/")
    if slash and name == f"{family}/*":
        return 1
    return 0 if name in ("*", "*/*") else -1


def _weight(parameters: list[str]) -> float:
    weights = [found[1] for parameter in parameters if (found := _WEIGHT.match(parameter))]
    return float(weights[0]) if weights else 1.0
