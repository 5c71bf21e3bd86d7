"""Corrections over HTTP: kept, listed, undone; refused in words; made into a better map."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import rasterio.warp

Corrections = dict[str, Any]


def correction(x: float, y: float, name: object) -> dict[str, Any]:
    """A point at metres of the map's CRS."""
    (lon,), (lat,) = rasterio.warp.transform("EPSG:32616", "EPSG:4326", [x], [y])
    point = {"type": "Point", "coordinates": [lon, lat]}
    return {"type": "Feature", "geometry": point, "properties": {"class": name, "author": "somebody"}}


def collection(*features: dict[str, Any]) -> Corrections:
    return {"type": "FeatureCollection", "features": list(features)}


SOME = collection(
    correction(700030, 4399970, "tree"), correction(700040, 4399960, "building"), correction(700050, 4399950, 3)
)


@pytest.fixture
def corrected(client: httpx2.Client, service: Any) -> str:
    """The path of the map's corrections, none in force."""
    path = f"/maps/{service.map_id}/corrections"
    while client.delete(path).status_code == 204:
        pass
    return path


def test_corrections_are_kept_listed_and_undone(client: httpx2.Client, corrected: str) -> None:
    first = client.post(corrected, json=SOME)
    assert first.status_code == 201
    assert first.json()["classes"] == {"building": 1, "tree": 1, "bare ground": 1}
    second = client.post(corrected, json=collection(correction(700020, 4399980, "solar")))
    assert second.json()["revision"] == first.json()["revision"] + 1
    told = client.get(corrected).json()
    assert [f["properties"]["class"] for f in told["features"]] == ["tree", "building", 3, "solar"]
    assert all(set(f["properties"]) == {"class", "revision"} for f in told["features"])  # who drew it is not kept
    assert [r["corrections"] for r in told["revisions"]] == [3, 1]
    assert client.delete(f"{corrected}/{first.json()['revision']}").status_code == 204
    assert len(client.get(corrected).json()["features"]) == 1
    assert client.delete(corrected).status_code == 204
    assert client.delete(corrected).status_code == 404


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (collection(correction(100, 100, "tree")), "outside the map"),
        (collection(correction(700030, 4399970, "bildung")), "did you mean 'building'"),
        (collection(correction(700030, 4399970, 99)), "there is no class '99'"),
        (collection(), "1 entries at least"),
        ({"type": "Point", "coordinates": [0, 0]}, "FeatureCollection"),
        (collection({**correction(0, 0, "tree"), "geometry": {"type": "Point", "coordinates": [1e400, 0]}}), ""),
        (collection({**correction(0, 0, "tree"), "geometry": {"type": "Polygon", "coordinates": [[0]]}}), ""),
    ],
)
def test_what_does_not_fit_is_refused(client: httpx2.Client, corrected: str, sent: Corrections, told: str) -> None:
    answer = client.post(corrected, content=json.dumps(sent), headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert told in answer.text
    assert client.get(corrected).json()["features"] == []


def test_suggestions(client: httpx2.Client, service: Any) -> None:
    found = client.get(f"/maps/{service.map_id}/suggestions", params={"limit": 5}).json()
    assert [f["properties"]["rank"] for f in found["features"]] == [1, 2, 3, 4, 5]


def test_nothing_to_correct_by_is_said(client: httpx2.Client, corrected: str) -> None:
    answer = client.post(corrected.replace("/corrections", "/correct"), json={})
    assert answer.status_code == 409
    assert "has no corrections" in answer.json()["detail"]


def test_a_correction_becomes_a_map(start: Callable[..., Any], bundles: Path, scene_file: Path, tmp_path: Path) -> None:
    with start(tmp_path / "data", bundles, worker=True) as service, service.client() as client:
        sent = client.put(f"/scenes/{scene_file.name}", content=scene_file.read_bytes(), params={"process": "true"})
        first = finished(client, sent)
        given = [
            correction(700000 + 0.6 * x, 4400000 - 0.6 * y, name)
            for name, shift in (("tree", 0), ("bare ground", 60))
            for x, y in ((30 + shift, 40), (50 + shift, 70), (40 + shift, 110), (60 + shift, 130))
        ]
        assert client.post(f"/maps/{first}/corrections", json=collection(*given)).status_code == 201
        second = finished(client, client.post(f"/maps/{first}/correct", json={}))
        told = client.get(f"/maps/{second}").json()
        assert told["corrected_from"] == first
        report = client.get(f"/maps/{second}/correction.json").json()
        assert report["corrections"] == 8
        assert client.get(f"/maps/{second}/classes.tif").content != client.get(f"/maps/{first}/classes.tif").content


def finished(client: httpx2.Client, accepted: Any) -> str:
    """The id of the job's map."""
    assert accepted.status_code == 202, accepted.text
    job = accepted.json()["job"]
    ends = time.monotonic() + 300
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < ends
        time.sleep(0.2)
        job = client.get(f"/jobs/{job['id']}").json()
    assert job["state"] == "done", job
    return str(job["id"])
