"""Pages for people: every list and thing has one, nothing in them is taken for markup, their script runs."""

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from api.pages import render as pages

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


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


def test_the_first_page_has_a_form_that_names_the_models(client: httpx2.Client, service: Any) -> None:
    page = client.get("/", params={"f": "html"}).text
    assert '<option value="toy" selected>' in page
    assert f'action="{service.url}/scenes"' in page


def test_links_of_the_pages_lead_somewhere(client: httpx2.Client, service: Any) -> None:
    for path in ("/", f"/maps/{service.map_id}", f"/jobs/{service.map_id}", f"/collections/{service.map_id}/items"):
        text = client.get(path, params={"f": "html"}).text
        links = {link.replace("&amp;", "&") for link in re.findall(r'(?:href|src)="(http[^"]+)"', text)}
        assert len(links) >= 6
        for link in links:
            with client.stream("GET", link) as answer:
                assert answer.status_code == 200, link


def test_only_the_scripts_of_the_pages_are_given(client: httpx2.Client) -> None:
    script = client.get("/web/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "EventSource" in script.text
    for name in ("page.html", "..%2Fmain.py", "none.js"):
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


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_the_tiles_of_a_map(service: Any, tmp_path: Path) -> None:
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--dump-dom",
    ]
    url = f"{service.url}/maps/{service.map_id}?f=html"
    done = subprocess.run(
        [*command, "--virtual-time-budget=20000", url], capture_output=True, text=True, timeout=120, check=True
    )
    tiles = re.findall(r'<img[^>]* src="([^"]*/tiles/[^"]*)"', done.stdout)
    assert {"scene", "classes"} <= {tile.rpartition("=")[2] for tile in tiles}
    assert "visibility: hidden" not in done.stdout  # every tile that was asked for is there
