"""What is refused is refused at once; who guesses keys waits; who kills a reader leaves a line in the log."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.edge.wrong_keys import WrongKeys
from api.main import create_app
from api.settings import ApiSettings
from geounet.service.errors import BusyError, QuotaError
from geounet.service.keys import KeyRing, Scope
from geounet.service.processes.raster_pool import Readers
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[TestClient]:
    data = tmp_path_factory.mktemp("refusals") / "data"
    app = create_app(ApiSettings(data=data, bundles=bundles, disk_reserve=0, model="toy"))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def square(west: float, south: float, side: float = 0.0004) -> dict[str, Any]:
    east, north = west + side, south + side
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def test_an_area_outside_the_scene_is_refused_at_once(client: TestClient, scene_file: Path) -> None:
    body = scene_file.read_bytes()
    scene = client.put("/scenes/a.tif", content=body).json()["scene"]
    west, south, _, _ = scene["info"]["bounds"]
    far = square(west + 5, south)
    refused = client.post("/jobs", json={"scene": scene["id"], "options": {"area": far}})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "options.area"
    assert "does not touch the area of interest" in refused.json()["detail"]
    assert client.get("/jobs").json()["jobs"] == []
    query = {"process": "true", "options": json.dumps({"area": far})}
    assert client.put("/scenes/b.tif", content=body, params=query).status_code == 422
    near = {"scene": scene["id"], "options": {"area": square(west + 0.0002, south + 0.0002)}}
    assert client.post("/jobs", json=near).status_code == 202


def test_wrong_keys_are_answered_ever_more_slowly_and_right_ones_at_once(tmp_path: Path, bundles: Path) -> None:
    data = tmp_path / "data"
    _, key = KeyRing(Store(ServiceSettings(data=data, disk_reserve=0)).database).create("a", frozenset({Scope.READ}))
    app = create_app(ApiSettings(data=data, bundles=bundles, disk_reserve=0, require_keys=True))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        app.state.parts.wrong_keys = WrongKeys(free=3, pause=0.2)
        took = []
        for n in range(6):
            began = time.monotonic()
            assert client.get("/jobs", headers={"X-API-Key": f"gun_x_{n}"}).status_code == 401
            took.append(time.monotonic() - began)
        assert min(took[3:]) >= 0.2
        assert client.get("/jobs").status_code == 401  # no key is no guess
        assert client.get("/jobs", headers={"X-API-Key": key}).status_code == 200


def test_a_guesser_in_a_hurry_is_refused_and_nobody_else() -> None:
    async def run() -> float:
        slow = WrongKeys(free=2, pause=0.05, held=4)
        guesses = [asyncio.create_task(slow.slow("guesser")) for _ in range(6)]
        await asyncio.sleep(0.01)
        with pytest.raises(QuotaError, match="wrong keys"):
            slow.check("guesser")
        slow.check("other")
        began = time.monotonic()
        await asyncio.gather(*guesses)
        slow.check("guesser")
        return time.monotonic() - began

    assert asyncio.run(run()) >= 0.15  # one after the other, not all at once


def test_a_reader_that_is_killed_leaves_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        def ask(self, request: Any, seconds: float) -> Any:
            raise TimeoutError("the reader takes too long")

        def kill(self) -> None:
            pass

    readers = Readers(ServiceSettings(data=tmp_path, disk_reserve=0), 1)
    monkeypatch.setattr(readers, "_start", Slow)
    with caplog.at_level(logging.WARNING), pytest.raises(BusyError):
        readers.ask({"want": "tile", "path": "scene.tif"})
    lines = [r for r in caplog.records if "killed" in r.getMessage()]
    assert len(lines) == 1
    assert vars(lines[0])["raster"] == "scene.tif"
    readers.close()
