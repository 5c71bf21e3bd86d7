"""Pages for people: every list and thing has one, nothing in them is taken for markup, their script runs."""

import hashlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from api.pages import render as pages


@pytest.mark.parametrize(
    "path", ["/jobs", "/jobs/{map}", "/maps", "/maps/{map}", "/scenes", "/scenes/{scene}", "/models"]
)
def test_things_are_pages_for_a_browser_and_json_for_programs(client: httpx2.Client, service: Any, path: str) -> None:
    scene = client.get(f"/maps/{service.map_id}").json()["scene"]
    path = path.format(map=service.map_id, scene=scene)
    page = client.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["vary"].startswith("Accept")
    assert page.text.startswith("<!doctype html>")
    assert "{{" not in page.text
    assert client.get(path).headers["content-type"] == "application/json"
    assert client.get(path, params={"f": "html"}).text == page.text
    assert client.get(path, params={"f": "pdf"}).status_code == 400


def test_the_first_page_is_the_map_and_knows_where_the_service_is(client: httpx2.Client, service: Any) -> None:
    page = client.get("/", params={"f": "html"})
    assert f'data-base="{service.url}"' in page.text
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "worker-src 'self';" in policy
    for name in re.findall(r'(?:href|src)="(http[^"]+/web/[^"]+)"', page.text):
        got = client.get(name)
        assert got.status_code == 200
        assert "immutable" in got.headers["cache-control"]
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", page.text)


def test_the_operator_may_set_a_base_map(start: Any, bundles: Path, tmp_path: Path) -> None:
    address = "https://tiles.example.org/{z}/{x}/{y}.png"
    with (
        start(tmp_path / "data", bundles, base_map=address, base_map_attribution='"A" & B') as found,
        found.client() as c,
    ):
        page = c.get("/", params={"f": "html"})
        assert f'data-base-map="{address}"' in page.text
        assert "&quot;A&quot; &amp; B" in page.text
        assert page.headers["content-security-policy"].count("https://tiles.example.org;") == 2


def test_the_built_page_is_that_of_its_sources() -> None:
    """`make web` builds it with Node; everything else works without."""
    folder = Path(pages.__file__).parent / "web"
    names = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"]
    names += [p.relative_to(folder).as_posix() for p in (folder / "src").rglob("*") if p.is_file()]
    lines = (f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n" for name in sorted(names))
    found = hashlib.sha256("".join(lines).encode()).hexdigest()
    built = (folder / "dist" / "SOURCES.sha256").read_text().strip()
    assert found == built, "the page's sources have changed: run `make web` and commit api/pages/web/dist"


def test_the_lock_file_names_no_registry() -> None:
    lock = (Path(pages.__file__).parent / "web" / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert '"resolved"' not in lock


def test_links_of_the_pages_lead_somewhere(client: httpx2.Client, service: Any) -> None:
    for path in (f"/maps/{service.map_id}", f"/jobs/{service.map_id}", f"/collections/{service.map_id}/items"):
        text = client.get(path, params={"f": "html"}).text
        links = {link.replace("&amp;", "&") for link in re.findall(r'(?:href|src)="(http[^"]+)"', text)}
        assert len(links) >= 6
        for link in links:
            with client.stream("GET", link) as answer:
                assert answer.status_code == 200, link


def test_only_what_the_pages_need_is_given(client: httpx2.Client) -> None:
    assert client.get("/web/page.css").headers["content-type"].startswith("text/css")
    for name in ("page.html", "..%2Fmain.py", "none.js", "dist/index.html", "assets/../../render.py", "package.json"):
        assert client.get(f"/web/{name}").status_code == 404


def test_nothing_in_a_page_is_taken_for_markup() -> None:
    request: Any = SimpleNamespace(base_url="http://localhost/", url=SimpleNamespace(path="/x"), scope={})
    evil = '<script>alert("x")</script>'
    job = {"id": "0" * 20, "state": "queued", "model": evil, "created": evil, "options": {evil: [evil]}, "links": []}
    entry = {"id": "0" * 20, "title": evil, "name": evil, "created": evil, "model": evil, "state": evil, "bytes": 1}
    link = {"href": "javascript:alert(1)", "rel": evil, "title": evil}
    shown = [
        pages.document(request, evil, {evil: [evil, link]}),
        pages.job(request, job, evil),
        pages.jobs(request, {"jobs": [entry], "links": [link]}),
        pages.maps(request, {"maps": [entry], "links": [link]}),
        pages.scenes(request, {"scenes": [entry], "links": [link]}),
    ]
    for text in shown:
        assert "<script>alert" not in text
        assert "javascript:" not in text
        assert "&lt;script&gt;" in text
