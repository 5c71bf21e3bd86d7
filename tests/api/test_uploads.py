"""Uploads: streamed, counted, checked; the same one again is the same scene."""

import hashlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from api.schemas.responses import Accepted, SceneOut, Scenes


def put(client: httpx2.Client, path: Path, name: str = "scene.tif", **query: str) -> httpx2.Response:
    return client.put(f"/scenes/{name}", content=path.read_bytes(), params=query)


def leftovers(service: Any) -> list[Path]:
    return list((service.data / "incoming").iterdir())


def test_a_form_as_a_browser_sends_it(client: httpx2.Client, service: Any, scene_file: Path) -> None:
    response = client.post("/scenes", files={"file": ("my field.tif", scene_file.read_bytes(), "image/tiff")})
    assert response.status_code == 201, response.text
    scene = Accepted.model_validate_json(response.content).scene
    assert response.headers["location"] == f"{service.url}/scenes/{scene.id}"
    assert scene.name == "my field.tif"
    assert scene.sha256 == hashlib.sha256(scene_file.read_bytes()).hexdigest()
    assert (scene.info["rows"], scene.info["columns"], scene.info["crs"]) == (150, 210, "EPSG:32616")
    assert scene.info["gsd_m"] == pytest.approx(0.6, rel=0.01)
    fit = scene.info["fit"]
    assert fit["fits"] is True
    assert {"bands", "resolution", "valid pixels", "size"} <= {check["topic"] for check in fit["checks"]}
    assert (fit["map"], "toy" in fit["suited_models"]) == ({"rows": 150, "columns": 210}, True)
    assert SceneOut.model_validate_json(client.get(f"/scenes/{scene.id}").content) == scene
    stored = service.data / "scenes" / scene.id
    assert sorted(p.name for p in stored.iterdir()) == ["original.json", "pixels.tif"]
    assert leftovers(service) == []


def test_curl_uploads_both_ways(service: Any, scene_file: Path) -> None:
    form = subprocess.run(
        ["curl", "-sS", "-F", f"file=@{scene_file}", f"{service.url}/scenes"], capture_output=True, check=True
    )
    raw = subprocess.run(
        ["curl", "-sS", "-T", str(scene_file), f"{service.url}/scenes/curl.tif"], capture_output=True, check=True
    )
    names = [Accepted.model_validate_json(done.stdout).scene.name for done in (form, raw)]
    assert names == ["scene.tif", "curl.tif"]


def test_the_same_bytes_under_the_same_name_are_the_same_scene(client: httpx2.Client, scene_file: Path) -> None:
    first, again = put(client, scene_file, "twice.tif"), put(client, scene_file, "twice.tif")
    assert first.json()["scene"]["id"] == again.json()["scene"]["id"]
    assert put(client, scene_file, "thrice.tif").json()["scene"]["id"] != first.json()["scene"]["id"]


def test_an_idempotency_key_makes_an_upload_one_scene_and_one_job(client: httpx2.Client, scene_file: Path) -> None:
    def send(process: str) -> httpx2.Response:
        files = {"file": ("a.tif", scene_file.read_bytes(), "image/tiff")}
        return client.post("/scenes", files=files, params={"process": process}, headers={"Idempotency-Key": "k1"})

    first, again = send("true"), send("true")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["job"]["id"] == again.json()["job"]["id"]
    assert first.json()["scene"]["id"] == again.json()["scene"]["id"]
    assert send("false").status_code == 422
    client.delete(f"/jobs/{first.json()['job']['id']}")


def test_too_large_is_said_before_or_while_the_bytes_come(client: httpx2.Client, service: Any) -> None:
    limit = 20_000_000  # the fixture's
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as wire:
        wire.sendall(f"PUT /scenes/a.tif HTTP/1.1\r\nHost: {host}\r\nContent-Length: {limit + 1}\r\n\r\n".encode())
        announced = b""  # not a byte of the body was sent
        while not announced.endswith(b"}") and (more := wire.recv(65536)):
            announced += more
    assert announced.startswith(b"HTTP/1.1 413")
    assert b"urn:problem-type:geounet:too-large" in announced

    def endless() -> Iterator[bytes]:
        for _ in range(limit // 1_000_000 + 3):
            yield b"\0" * 1_000_000

    assert client.put("/scenes/big.tif", content=endless()).status_code == 413
    assert leftovers(service) == []


def test_an_upload_takes_no_memory(client: httpx2.Client, service: Any) -> None:
    process = psutil.Process(service.process.pid)
    client.put("/scenes/warm.tif", content=b"II*\0")
    before = process.memory_info().rss

    def body() -> Iterator[bytes]:
        for _ in range(19):
            yield b"\0" * 1_000_000

    assert client.put("/scenes/zeros.tif", content=body()).status_code == 422
    assert process.memory_info().rss - before < 15_000_000


def test_a_broken_connection_leaves_nothing(service: Any) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as wire:
        wire.sendall(f"PUT /scenes/cut.tif HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n".encode())
        wire.sendall(b"x" * 5000)
        time.sleep(0.2)
    for _ in range(50):
        if not leftovers(service):
            return
        time.sleep(0.1)
    pytest.fail("the part file stayed")


def test_a_form_without_a_file_or_malformed_is_a_problem(client: httpx2.Client) -> None:
    for response in (
        client.post("/scenes", files={"wrong": ("a.tif", b"x")}),
        client.post("/scenes", data={"file": "text"}),
        client.post("/scenes", content=b"x", headers={"Content-Type": "multipart/form-data"}),
        client.post("/scenes", content=b"xyz", headers={"Content-Type": "multipart/form-data; boundary=b"}),
        client.post("/scenes", content=b"x" * 99, headers={"Content-Type": "multipart/form-data; boundary="}),
        client.post("/scenes", files=[("file", ("a.tif", b"x")), ("file", ("b.tif", b"y"))]),
        client.put("/scenes/empty.tif", content=b""),
    ):
        assert response.status_code in (400, 422), response.text
        assert response.headers["content-type"] == "application/problem+json"


def test_options_come_with_the_form_and_are_checked(client: httpx2.Client, scene_file: Path) -> None:
    def send(options: str) -> httpx2.Response:
        form = {"process": "true", "options": options}
        return client.post("/scenes", files={"file": ("a.tif", scene_file.read_bytes())}, data=form)

    good = send(json.dumps({"min_area_m2": 10, "bands": {"red": 1, "green": 2, "blue": 3}}))
    assert good.status_code == 202, good.text
    assert good.json()["job"]["options"]["min_area_m2"] == 10
    client.delete(f"/jobs/{good.json()['job']['id']}")
    wrong = send(json.dumps({"bands": {"red": 1, "green": 2, "blue": 9}}))
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["field"] == "options.bands"
    assert send("{").status_code == 400
    unknown = send(json.dumps({"min_aera": 10}))
    assert unknown.status_code == 400
    assert "min_aera" in unknown.json()["errors"][0]["field"]


def test_scenes_are_listed_in_pages_and_deleted(client: httpx2.Client, scene_file: Path) -> None:
    made = {put(client, scene_file, f"list-{n}.tif").json()["scene"]["id"] for n in range(3)}
    seen: list[str] = []
    url = "/scenes?limit=2"
    while url:
        page = Scenes.model_validate_json(client.get(url).content)
        seen += [s.id for s in page.scenes]
        url = next((link.href for link in page.links if link.rel == "next"), "")
    assert len(seen) == len(set(seen))
    assert made <= set(seen)
    for scene in made:
        assert client.delete(f"/scenes/{scene}").status_code == 204
        assert client.get(f"/scenes/{scene}").status_code == 404
        assert client.delete(f"/scenes/{scene}").status_code == 404
