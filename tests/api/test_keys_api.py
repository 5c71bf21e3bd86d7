"""API keys: scopes, whose is whose, quotas; required where others can reach the service."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from api.settings import ApiSettings
from geounet.cli.serve import is_loopback
from geounet.service.keys import KeyRing, Scope
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store

ALL = frozenset({Scope.READ, Scope.SUBMIT})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(ServiceSettings(data=tmp_path_factory.mktemp("keys") / "data", disk_reserve=0))


@pytest.fixture(scope="module")
def keys(store: Store) -> dict[str, str]:
    ring = KeyRing(store.database)
    made = {
        "ann": ring.create("ann", ALL, max_open_jobs=1),
        "bob": ring.create("bob", ALL),
        "small": ring.create("small", ALL, max_bytes=1000),
        "few": ring.create("few", ALL, max_pixels=100),
        "reader": ring.create("reader", frozenset({Scope.READ})),
        "boss": ring.create("boss", frozenset({Scope.ADMIN})),
    }
    return {name: text for name, (_, text) in made.items()}


@pytest.fixture(scope="module")
def app(store: Store, bundles: Path) -> Iterator[TestClient]:
    settings = ApiSettings(data=store.root, bundles=bundles, disk_reserve=0, require_keys=True, model="toy")
    with TestClient(create_app(settings), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def as_(keys: dict[str, str], who: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {keys[who]}"}


@pytest.fixture(scope="module")
def annas(app: TestClient, keys: dict[str, str], scene_file: Path, store: Store, new_map: Any) -> dict[str, Any]:
    """A scene, a job and a map of ann's."""
    owner = next(k.id for k in KeyRing(store.database).all() if k.name == "ann")
    map_id = new_map(store, owner)
    scene = app.put("/scenes/a.tif", content=scene_file.read_bytes(), headers=as_(keys, "ann")).json()["scene"]["id"]
    job = app.post("/jobs", json={"scene": scene}, headers=as_(keys, "ann"))
    assert job.status_code == 202, job.text
    items = app.get(f"/collections/{map_id}/items?limit=1", headers=as_(keys, "ann")).json()
    return {"scene": scene, "job": job.json()["job"]["id"], "map": map_id, "feature": items["features"][0]["id"]}


PATHS = [
    "/scenes/{scene}",
    "/jobs/{job}",
    "/maps/{map}",
    "/maps/{map}/classes.tif",
    "/maps/{map}/tilejson.json",
    "/maps/{map}/point?lon=0&lat=0",
    "/collections/{map}",
    "/collections/{map}/items",
    "/collections/{map}/items/{feature}",
]


def test_without_a_key_there_is_nothing(app: TestClient) -> None:
    for path in ("/collections", "/scenes", "/jobs", "/maps", "/models"):
        response = app.get(path)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
    for path in ("/", "/conformance", "/healthz", "/openapi.json"):
        assert app.get(path).status_code == 200


@pytest.mark.parametrize("text", ["", "x", "gun_", "gun_abc_def", "gun__", "\xe9", "a" * 10_000])
def test_a_wrong_key_is_refused(app: TestClient, keys: dict[str, str], text: str) -> None:
    headers = {"X-API-Key": text.encode("latin-1")}
    assert app.get("/jobs", headers=headers).status_code == 401  # type: ignore[arg-type]
    near = keys["ann"][:-1] + ("a" if keys["ann"][-1] != "a" else "b")
    assert app.get("/jobs", headers={"X-API-Key": near}).status_code == 401
    assert app.get("/jobs", headers={"X-API-Key": keys["ann"]}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_key_sees_its_own_things_and_an_admin_all(
    app: TestClient, keys: dict[str, str], annas: dict[str, Any], path: str
) -> None:
    path = path.format(**annas)
    assert app.get(path, headers=as_(keys, "ann")).status_code == 200
    assert app.get(path, headers=as_(keys, "bob")).status_code == 404
    assert app.get(path, headers=as_(keys, "boss")).status_code == 200


def test_lists_show_only_ones_own(app: TestClient, keys: dict[str, str], annas: dict[str, Any]) -> None:
    for path, kind in (("scenes", "scene"), ("jobs", "job"), ("maps", "map"), ("collections", "map")):
        for who, sees in (("ann", True), ("bob", False), ("boss", True)):
            found = app.get(f"/{path}", headers=as_(keys, who)).json()[path]
            assert (annas[kind] in [f["id"] for f in found]) is sees


def test_nobody_else_deletes_or_uses_them(app: TestClient, keys: dict[str, str], annas: dict[str, Any]) -> None:
    bob = as_(keys, "bob")
    assert app.delete(f"/scenes/{annas['scene']}", headers=bob).status_code == 404
    assert app.delete(f"/jobs/{annas['job']}", headers=bob).status_code == 404
    assert app.delete(f"/maps/{annas['map']}", headers=bob).status_code == 404
    assert app.post("/jobs", json={"scene": annas["scene"]}, headers=bob).status_code == 404
    assert app.delete(f"/maps/{annas['map']}", headers=as_(keys, "reader")).status_code == 403
    assert app.put("/scenes/x.tif", content=b"x", headers=as_(keys, "reader")).status_code == 403


def test_quotas_of_a_key(app: TestClient, keys: dict[str, str], annas: dict[str, Any], scene_file: Path) -> None:
    body = scene_file.read_bytes()
    for who in ("small", "few"):
        response = app.put("/scenes/a.tif", content=body, headers=as_(keys, who))
        assert response.status_code == 429
        assert "your key may hold" in response.json()["detail"]
    second = app.post("/jobs", json={"scene": annas["scene"]}, headers=as_(keys, "ann"))
    assert second.status_code == 429
    assert second.headers["retry-after"]


def test_keys_are_kept_as_digests_and_can_be_revoked(store: Store, app: TestClient) -> None:
    ring = KeyRing(store.database)
    key, text = ring.create("gone", ALL)
    secret = text.split("_", 2)[2]  # it may hold underscores itself
    store.database.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert secret.encode() not in store.database.path.read_bytes()
    assert app.get("/jobs", headers={"X-API-Key": text}).status_code == 200
    ring.revoke(key.id)
    assert app.get("/jobs", headers={"X-API-Key": text}).status_code == 401


def test_keys_are_required_on_any_address_but_loopback(store: Store, bundles: Path, tmp_path: Path) -> None:
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1", "host")] == [
        True,
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    open_app = create_app(ApiSettings(data=tmp_path / "d", bundles=bundles, disk_reserve=0))
    with TestClient(open_app, base_url="http://10.1.2.3") as client:  # as if uvicorn was bound to it
        assert client.get("/jobs").status_code == 401
    with TestClient(open_app, base_url="http://127.0.0.1") as client:
        assert client.get("/jobs").status_code == 200
    command = [
        sys.executable,
        "-m",
        "geounet.cli.serve",
        "serve",
        "--host",
        "0.0.0.0",
        "--data",
        str(tmp_path / "e"),
    ]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0
    assert "API keys" in refused.stderr


def test_no_key_is_in_the_logs(app: TestClient, keys: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        app.get("/jobs", headers=as_(keys, "ann"))
        app.get("/jobs", headers={"X-API-Key": "gun_abc_verysecret"})
    told = "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith("geounet"))
    assert "request_id" in told
    assert keys["ann"] not in told
    assert "verysecret" not in told


def test_cross_origin_reading_is_off_unless_set(store: Store, bundles: Path, tmp_path: Path) -> None:
    settings = ApiSettings(
        data=tmp_path / "d", bundles=bundles, disk_reserve=0, cors_origins=("https://map.test",), root_path="/lc"
    )
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        allowed = client.get("/collections", headers={"Origin": "https://map.test"})
        assert allowed.headers["access-control-allow-origin"] == "https://map.test"
        assert "access-control-allow-origin" not in client.get("/", headers={"Origin": "https://evil.test"}).headers
        assert allowed.json()["links"][0]["href"] == "http://127.0.0.1/lc/collections"


def test_who_has_no_key_gets_no_form_and_hears_of_no_model(app: TestClient) -> None:
    page = app.get("/", params={"f": "html"}).text
    assert "<script" in page  # the map asks for the key itself
    assert "<form" not in page
    assert "toy" not in page
