"""Plain pages for people who look at the API with a browser. Everything in them is escaped."""

from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any


@cache
def _frame() -> str:
    return files("api").joinpath("web/page.html").read_text(encoding="utf-8")


def document(title: str, data: Any) -> str:
    """Any JSON document as a page: tables for objects, links that can be followed."""
    return _frame().replace("{{title}}", escape(title)).replace("{{body}}", _shown(data))


def features(title: str, collection: Mapping[str, Any]) -> str:
    """A page of features as a table."""
    found = collection["features"]
    columns = list(found[0]["properties"]) if found else []
    head = "".join(f"<th>{escape(c)}</th>" for c in ("id", *columns))
    rows = "".join(
        f"<tr><td>{f['id']}</td>" + "".join(f"<td>{escape(str(f['properties'][c]))}</td>" for c in columns) + "</tr>"
        for f in found
    )
    said = f"<p>{collection['numberReturned']} of {collection['numberMatched']} polygons</p>"
    return (
        _frame()
        .replace("{{title}}", escape(title))
        .replace("{{body}}", f"{said}{_shown(collection['links'])}<table><tr>{head}</tr>{rows}</table>")
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        if "href" in value and "rel" in value:
            name = value.get("title") or value["rel"]
            return f'<a href="{escape(_safe(value["href"]))}">{escape(name)}</a> <small>{escape(value["rel"])}</small>'
        rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{_shown(v)}</td></tr>" for k, v in value.items())
        return f"<table>{rows}</table>"
    if isinstance(value, list):
        if all(isinstance(v, (int, float)) for v in value):
            return escape(", ".join(str(v) for v in value))
        return f"<ul>{''.join(f'<li>{_shown(v)}</li>' for v in value)}</ul>"
    return escape("" if value is None else str(value))


def _safe(href: str) -> str:
    return href if href.startswith(("http://", "https://", "/")) else "#"
