"""The event loop waits for nobody: not for the database's write lock, not for a disk, whatever is asked."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from api.settings import ApiSettings
from geounet.service import database
from geounet.service.database import Database
from geounet.service.errors import BusyError
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store

HOLD_SECONDS = 4.0
GONE = "0" * 20


def everything(scene: str, job: str, scene_bytes: bytes) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and the rest of a request, at least one for every operation that there is."""
    key = {"Idempotency-Key": "k"}
    form = {"file": ("a.tif", scene_bytes)}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/jobs", {"json": {"scene": scene}, "headers": key}),
        ("POST", "/jobs", {"json": {"scene": scene}}),
        ("POST", "/scenes", {"files": form}),
        ("POST", "/scenes?process=true", {"files": form, "headers": {"Idempotency-Key": "l"}}),
        ("PUT", "/scenes/b.tif", {"content": scene_bytes}),
        ("PUT", "/scenes/c.tif", {"content": scene_bytes, "headers": {"Idempotency-Key": "m"}}),
        ("POST", "/predict", {"content": scene_bytes, "headers": {"Prefer": "wait=0", "Content-Type": "image/tiff"}}),
        ("GET", f"/jobs/{GONE}/events", {}),
        ("DELETE", f"/jobs/{GONE}", {}),
        ("DELETE", f"/scenes/{GONE}", {}),
        ("DELETE", f"/maps/{GONE}", {}),
        ("DELETE", f"/maps/{GONE}/corrections", {}),
        ("DELETE", f"/maps/{GONE}/corrections/1", {}),
        ("POST", f"/maps/{GONE}/corrections", {"json": {"type": "FeatureCollection", "features": []}}),
        ("POST", f"/maps/{GONE}/correct", {"json": {}}),
        ("POST", f"/scenes/{GONE}/fit", {"json": {}}),
        ("POST", f"/maps/{GONE}/statistics", {"json": {"type": "Polygon", "coordinates": []}}),
    ]
    paths = ["/", "/conformance", "/collections", f"/collections/{job}", f"/collections/{job}/items?limit=5"]
    paths += [f"/collections/{job}/items?bbox=-180,-90,180,90&clip=true", f"/collections/{job}/items/1", "/models"]
    paths += ["/healthz", "/readyz", "/scenes", f"/scenes/{scene}", "/jobs", f"/jobs/{job}", "/maps", f"/maps/{job}"]
    paths += [f"/maps/{job}/tilejson.json", f"/maps/{job}/tiles/0/0/0.png", f"/maps/{job}/point?lon=0&lat=0"]
    paths += [f"/maps/{job}/item.json", f"/maps/{job}/classes.tif", f"/maps/{job}/corrections", "/me"]
    paths += [f"/scenes/{scene}/picture.png", f"/collections/{job}/tiles", f"/maps/{job}/suggestions"]
    return asked + [("GET", path, {}) for path in paths]


@pytest.fixture(scope="module")
def held(
    tmp_path_factory: pytest.TempPathFactory, bundles: Path, start: Callable[..., Any], new_map: Any
) -> Iterator[Any]:
    """A service with a map, for a database whose lock is held."""
    data = tmp_path_factory.mktemp("held") / "data"
    map_id = new_map(Store(ServiceSettings(data=data, disk_reserve=0)))
    with start(data, bundles) as found:
        yield found, map_id


def test_the_list_of_requests_is_complete(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    asked = {(method, path) for method, path, _ in everything("scene_id", "job_id", b"")}
    assert len(told) >= 25
    for method, path in told - {("GET", "/jobs/events")}:  # a stream without an end; test_jobs_api follows it
        head = path.partition("{")[0]
        assert any(m == method and p.startswith(head) for m, p in asked), (method, path)


def test_nobody_waits_for_the_write_lock_but_who_writes(held: Any, scene_file: Path) -> None:
    service, job = held
    body = scene_file.read_bytes()
    with service.client() as client:
        scene = client.put("/scenes/a.tif", content=body).json()["scene"]["id"]
    asked = [one for one in everything(scene, job, body) if one[0] == "DELETE" or one[1] == "/jobs"]
    asked += [("DELETE", f"/scenes/{GONE}", {})] * 60  # more than there are threads
    slowest: dict[str, float] = {}
    with closing(sqlite3.connect(service.data / "geounet.sqlite3", isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(len(asked)) as pool, service.client() as writer, service.client() as reader:
            writer.timeout = reader.timeout = 240
            answers = [pool.submit(_ask, writer, *one) for one in asked]
            reader.get("/healthz")
            time.sleep(0.5)
            ends = time.monotonic() + HOLD_SECONDS
            while time.monotonic() < ends:
                for path in ("/healthz", "/jobs", f"/collections/{job}/items?limit=5", f"/jobs/{GONE}"):
                    began = time.monotonic()
                    reader.get(path)
                    slowest[path] = max(slowest.get(path, 0.0), time.monotonic() - began)
                time.sleep(0.05)
            lock.execute("ROLLBACK")
            statuses = [answer.result() for answer in answers]
    assert max(slowest.values()) < 0.75 * HOLD_SECONDS, slowest
    assert [s for s in statuses if s >= 500] == []


def _ask(client: httpx2.Client, method: str, path: str, rest: dict[str, Any]) -> int:
    return client.request(method, path, **rest).status_code


def test_nothing_is_written_in_the_event_loop(
    tmp_path: Path, bundles: Path, scene_file: Path, new_map: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    job = new_map(Store(ServiceSettings(data=data, disk_reserve=0)))
    caught: list[str] = []
    write, begin = Database.write, Store.begin_upload

    def in_the_loop() -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    def watched(self: Database) -> Any:
        if in_the_loop():
            caught.append(path)
        return write(self)

    def watched_upload(self: Store, *args: Any, **kwargs: Any) -> Any:
        if in_the_loop():
            caught.append(path)
        return begin(self, *args, **kwargs)

    app = create_app(ApiSettings(data=data, bundles=bundles, disk_reserve=0, model="toy"))
    body = scene_file.read_bytes()
    with TestClient(app, base_url="http://127.0.0.1") as client:
        path = "/scenes/a.tif"
        scene = client.put(path, content=body).json()["scene"]["id"]
        monkeypatch.setattr(Database, "write", watched)
        monkeypatch.setattr(Store, "begin_upload", watched_upload)
        for method, path, rest in everything(scene, job, body):
            assert client.request(method, path, **rest).status_code < 500, path
        for path in (f"/jobs/{job}", f"/maps/{job}", f"/scenes/{scene}"):
            assert client.delete(path).status_code < 500
    assert caught == []


def test_a_lock_that_is_never_given_back_is_503_and_not_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(ServiceSettings(data=tmp_path / "data", disk_reserve=0))
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    said: list[Exception] = []

    def delete() -> None:  # in a thread of its own, so that its connection is a new one
        try:
            store.delete_scene(GONE)
        except Exception as error:
            said.append(error)

    with closing(sqlite3.connect(store.root / "geounet.sqlite3", isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=delete)
        thread.start()
        thread.join()
    assert [type(error) for error in said] == [BusyError]
    assert "try again" in str(said[0])
