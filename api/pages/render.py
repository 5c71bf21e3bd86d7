"""Pages for people who come with a browser: the map, and documents. Everything in them is escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from fastapi import Request

from api.schemas.records import base_url
from api.settings import ApiSettings

_KINDS = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FOREVER = "public, max-age=31536000, immutable"
_ASK = "no-cache"


@dataclass(frozen=True)
class Asset:
    """A file that pages load."""

    content: bytes
    kind: str
    keep: str


@cache
def assets() -> Mapping[str, Asset]:
    """What pages may load, by name. The build puts a digest into the names of its files: those may be kept."""
    built = files("api.pages").joinpath("web", "dist", "assets")
    found = {"page.css": Asset(_static("page.css"), _KINDS["css"], _ASK)}
    for file in built.iterdir():
        kind = _KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            found[f"assets/{file.name}"] = Asset(file.read_bytes(), kind, _FOREVER)
    return found


@cache
def _static(name: str) -> bytes:
    return files("api.pages").joinpath("static", name).read_bytes()


@cache
def _app() -> str:
    return files("api.pages").joinpath("web", "dist", "index.html").read_text(encoding="utf-8")


def app(request: Request, settings: ApiSettings) -> str:
    """The page with the map; its script asks the API for everything else."""
    base = escape(base_url(request))
    told = {
        'data-base=""': f'data-base="{base}"',
        'data-base-map=""': f'data-base-map="{escape(settings.base_map)}"',
        'data-base-map-attribution=""': f'data-base-map-attribution="{escape(settings.base_map_attribution)}"',
    }
    page = _app().replace("./assets/", f"{base}/web/assets/")
    for empty, full in told.items():
        page = page.replace(empty, full)
    return page


def _page(request: Request, title: str, body: str) -> str:
    parts = {"title": escape(title), "base": escape(base_url(request)), "body": body}
    frame = _static("page.html").decode()
    for name, text in parts.items():
        frame = frame.replace(f"{{{{{name}}}}}", text)  # the body comes last: what it holds is not looked at again
    return frame


def document(request: Request, title: str, data: Any) -> str:
    """Any JSON document as a page: tables for objects, links that can be followed."""
    return _page(request, title, _shown(data))


def job(request: Request, data: Mapping[str, Any], scene: str) -> str:
    """A job as it was when the page was made; the page with the map follows it live."""
    told = escape((data.get("error") or {}).get("detail", ""))
    body = f"""<p><strong class="{escape(data["state"])}">{escape(data["state"])}</strong> {told}</p>
<p>{_to_app(request, "#jobs", "Follow it live")}</p>
<h2>The request</h2>"""
    asked = {k: data[k] for k in ("model", "created", "options", "links")}
    asked["options"] = {k: v for k, v in data["options"].items() if v not in (None, False, {}, [])}
    return _page(request, f"Job: {scene}", body + _shown(asked))


def jobs(request: Request, data: Mapping[str, Any]) -> str:
    """The jobs as a table."""
    rows = [
        (_to(request, f"/jobs/{j['id']}", j["id"]), escape(j["state"]), _when(j), escape(j["model"]))
        for j in data["jobs"]
    ]
    return _page(request, "Jobs", _table(("job", "state", "asked for", "model"), rows) + _shown(data["links"]))


def maps(request: Request, data: Mapping[str, Any]) -> str:
    """The maps as a table."""
    rows = [(_to(request, f"/maps/{m['id']}", m["title"]), _when(m), escape(m["model"])) for m in data["maps"]]
    return _page(request, "Maps", _table(("map", "made", "model"), rows) + _shown(data["links"]))


def scenes(request: Request, data: Mapping[str, Any]) -> str:
    """The scenes as a table."""
    rows = [
        (_to(request, f"/scenes/{s['id']}", s["name"]), _when(s), f"{s['bytes'] / 1e6:,.1f} MB") for s in data["scenes"]
    ]
    return _page(request, "Scenes", _table(("scene", "uploaded", "size"), rows) + _shown(data["links"]))


def _to(request: Request, path: str, text: str) -> str:
    return f'<a href="{escape(base_url(request) + path)}?f=html">{escape(text)}</a>'


def _to_app(request: Request, place: str, text: str) -> str:
    return f'<a class="go" href="{escape(base_url(request))}/?f=html{escape(place)}">{escape(text)}</a>'


def _when(thing: Mapping[str, Any]) -> str:
    return escape(f"{thing['created'][:16].replace('T', ' ')} UTC")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are escaped already."""
    if not rows:
        return "<p>There are none yet.</p>"
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{_cells(row)}</tr>' for row in rows)}</table>"


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in row)


def map_page(request: Request, data: Mapping[str, Any], colours: Mapping[int, Sequence[int]]) -> str:
    """A finished map: areas by class, files."""
    rows = "".join(_class_row(c, colours.get(c["value"])) for c in data["summary"]["classes"])
    body = f"""<p>{_to_app(request, f"#map={data['id']}", "Look at the map")}</p>
<h2>Areas</h2>
<table><tr><th></th><th>class</th><th>hectares</th><th>share</th></tr>{rows}</table>
<h2>Files and links</h2>"""
    return _page(request, data["title"], body + _shown(data["links"]))


def _class_row(entry: Mapping[str, Any], colour: Sequence[int] | None) -> str:
    swatch = ""
    if colour is not None:  # an attribute of the drawing: styles in the page are not allowed
        red, green, blue = (int(part) for part in colour)
        square = f'<rect width="16" height="16" fill="rgb({red}, {green}, {blue})"/>'
        swatch = f'<svg class="swatch" width="16" height="16" aria-hidden="true">{square}</svg>'
    area, share = f"{entry['area_m2'] / 1e4:,.3f}", f"{entry['share']:.1%}"
    numbers = f'<td class="number">{area}</td><td class="number">{share}</td>'
    return f"<tr><td>{swatch}</td><td>{escape(entry['name'])}</td>{numbers}</tr>"


def features(request: Request, title: str, collection: Mapping[str, Any]) -> str:
    """A page of features as a table."""
    found = collection["features"]
    columns = list(found[0]["properties"]) if found else []
    head = "".join(f"<th>{escape(c)}</th>" for c in ("id", *columns))
    here = request.url.path.removeprefix(request.scope.get("root_path", ""))
    address = escape(f"{base_url(request)}{here}")
    rows = "".join(
        f'<tr><td><a href="{address}/{f["id"]}?f=html">{f["id"]}</a></td>'
        + "".join(f"<td>{escape(str(f['properties'][c]))}</td>" for c in columns)
        + "</tr>"
        for f in found
    )
    said = f"<p>{collection['numberReturned']} of {collection['numberMatched']} polygons</p>"
    return _page(request, title, f"{said}{_shown(collection['links'])}<table><tr>{head}</tr>{rows}</table>")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        if "href" in value and "rel" in value:
            return _link(value)
        rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{_shown(v)}</td></tr>" for k, v in value.items())
        return f"<table>{rows}</table>"
    if isinstance(value, list):
        if _is_numbers(value):
            return escape(str(value) if any(isinstance(v, list) for v in value) else ", ".join(str(v) for v in value))
        return f"<ul>{''.join(f'<li>{_shown(v)}</li>' for v in value)}</ul>"
    return escape("" if value is None else str(value))


def _is_numbers(value: list[Any]) -> bool:
    """Whether a list holds numbers only, at whatever depth: coordinates are no list of bullets."""
    return all(_is_numbers(v) if isinstance(v, list) else isinstance(v, (int, float)) for v in value)


def _link(link: Mapping[str, Any]) -> str:
    href = _safe(link["href"])
    # People stay among pages: where a path has one, the link leads to it.
    is_file = "." in href.partition("?")[0].rpartition("/")[2]
    if link.get("type") == "application/json" and "f=" not in href and not is_file and href != "#":
        href += "&f=html" if "?" in href else "?f=html"
    return (
        f'<a href="{escape(href)}">{escape(link.get("title") or link["rel"])}</a> <small>{escape(link["rel"])}</small>'
    )


def _safe(href: str) -> str:
    return href if href.startswith(("http://", "https://", "/")) else "#"
