"""Plain pages for people who come with a browser. Everything in them is escaped."""

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from fastapi import Request

from api.schemas.records import base_url

SCRIPTS = {"app.js": "text/javascript; charset=utf-8"}


@cache
def web(name: str) -> str:
    """A file of `api/pages/web`; `name` is one that the code names."""
    return files("api.pages").joinpath("web", name).read_text(encoding="utf-8")


def _page(request: Request, title: str, body: str, page: str = "") -> str:
    parts = {"title": escape(title), "base": escape(base_url(request)), "page": escape(page), "body": body}
    frame = web("page.html")
    for name, text in parts.items():
        frame = frame.replace(f"{{{{{name}}}}}", text)  # the body comes last: what it holds is not looked at again
    return frame


def document(request: Request, title: str, data: Any) -> str:
    """Any JSON document as a page: tables for objects, links that can be followed."""
    return _page(request, title, _shown(data))


def landing(request: Request, data: Mapping[str, Any], models: Sequence[str] | None, default: str | None) -> str:
    """The first page: a form to upload a scene with, and what there is; no form where `models` is None."""
    form = "<p>This service asks for an API key.</p>" if models is None else _upload_form(request, models, default)
    body = f"<p>{escape(data['description'])}</p>{form}<h2>The API</h2>{_shown(data['links'])}"
    return _page(request, data["title"], body, "" if models is None else "landing")


def _upload_form(request: Request, models: Sequence[str], default: str | None) -> str:
    choice = "".join(
        f'<option value="{escape(name)}"{" selected" if name == default else ""}>{escape(name)}</option>'
        for name in models
    )
    return f"""<h2>Map a scene</h2>
<form id="upload" method="post" enctype="multipart/form-data" action="{escape(base_url(request))}/scenes">
<input type="hidden" name="process" value="true">
<p><label for="file">GeoTIFF</label>
<input id="file" type="file" name="file" accept=".tif,.tiff,image/tiff" required></p>
<p><label for="model">Model</label> <select id="model" name="model">{choice}</select></p>
<p><label for="bands">Bands</label>
<input id="bands" placeholder="red=5,green=3,blue=2" size="28" pattern="[a-z0-9_=, ]*">
<small>only where the file does not name them</small></p>
<p><button name="send">Upload and map</button></p>
<progress id="sent" max="1" value="0" hidden></progress>
<p id="told" role="status"></p>
</form>"""


def job(request: Request, data: Mapping[str, Any], scene: str) -> str:
    """A job that can be watched and cancelled."""
    body = f"""<p><strong id="state" class="{escape(data["state"])}">{escape(data["state"])}</strong>
<button id="cancel" hidden>Cancel</button></p>
<progress id="bar" max="1" value="0" hidden></progress>
<p id="told" role="status"></p>
<h2>The request</h2>"""
    asked = {k: data[k] for k in ("model", "created", "options", "links")}
    asked["options"] = {k: v for k, v in data["options"].items() if v not in (None, False, {}, [])}
    return _page(request, f"Job: {scene}", body + _shown(asked), f"job {data['id']}")


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
    """A finished map to look at: tiles, areas by class, files."""
    rows = "".join(_class_row(c, colours.get(c["value"])) for c in data["summary"]["classes"])
    body = f"""<p><label for="layer">Over the scene</label>
<select id="layer"><option value="classes">classes</option><option value="confidence">confidence</option></select>
<input id="opacity" type="range" min="0" max="100" value="60" aria-label="opacity"></p>
<div id="view"><div id="zoom"><button id="in" aria-label="closer">+</button>
<button id="out" aria-label="farther">−</button></div></div>
<p id="told" role="status">Click on the map to ask what is there.</p>
<h2>Areas</h2>
<table><tr><th></th><th>class</th><th>hectares</th><th>share</th></tr>{rows}</table>
<h2>Files and links</h2>"""
    return _page(request, data["title"], body + _shown(data["links"]), f"map {data['id']}")


def _class_row(entry: Mapping[str, Any], colour: Sequence[int] | None) -> str:
    swatch = ""
    if colour is not None:
        red, green, blue = (int(part) for part in colour)
        swatch = f'<span class="swatch" style="background: rgb({red}, {green}, {blue})"></span>'
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
