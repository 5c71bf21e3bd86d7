"""Jobs over HTTP, with a worker that really maps: upload, follow, fetch; cancel; predict; survive."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pystac
import pytest
import rasterio
from pystac.validation import JsonSchemaSTACValidator

from api.schemas.requests import JobOptions
from api.schemas.responses import Accepted, FeatureCollectionOut, JobOut, Jobs, MapOut, Maps
from geounet.service.features.layer import FeatureLayer
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory, bundles: Path, start: Callable[..., Any]) -> Iterator[Any]:
    """A service with a worker."""
    with start(tmp_path_factory.mktemp("working") / "data", bundles, worker=True) as found:
        yield found


@pytest.fixture
def http(working: Any) -> Iterator[httpx2.Client]:
    with working.client() as client:
        yield client


def send(client: httpx2.Client, path: Path, **options: object) -> Accepted:
    query = {"process": "true", "options": json.dumps(options)}
    response = client.put(f"/scenes/{path.name}", content=path.read_bytes(), params=query)
    assert response.status_code == 202, response.text
    assert response.headers["retry-after"]
    return Accepted.model_validate_json(response.content)


def finished(client: httpx2.Client, job: str, seconds: float = 120) -> JobOut:
    ends = time.monotonic() + seconds
    while True:
        found = JobOut.model_validate_json(client.get(f"/jobs/{job}").content)
        if not found.state.open:
            return found
        assert time.monotonic() < ends, found
        time.sleep(0.2)


@pytest.fixture(scope="module")
def suburb(tmp_path_factory: pytest.TempPathFactory, new_scene: Callable[..., Path]) -> Path:
    """The scene of the finished job."""
    return new_scene(tmp_path_factory.mktemp("s") / "suburb.tif")


@pytest.fixture(scope="module")
def done(working: Any, suburb: Path) -> JobOut:
    """One finished job."""
    with working.client() as client:
        accepted = send(client, suburb, min_area_m2=2)
        assert accepted.job is not None
        found = finished(client, accepted.job.id)
    assert found.state == "done", found.error
    return found


def test_a_job_becomes_a_map_with_everything(http: httpx2.Client, done: JobOut, working: Any) -> None:
    links = {link.rel: link.href for link in done.links}
    shown = MapOut.model_validate_json(http.get(links["result"]).content)
    assert shown.title == "suburb.tif"
    assert shown.summary["scene"] == "suburb.tif"
    assert sum(c["share"] for c in shown.summary["classes"]) == pytest.approx(1.0, abs=1e-4)
    files = {link.title for link in shown.links if link.rel == "item"}
    assert {"classes.tif", "confidence.tif", "polygons.gpkg", "polygons.geojson", "preview.png"} <= files
    collection = http.get(links["collection"]).json()
    assert collection["id"] == done.id
    items = FeatureCollectionOut.model_validate_json(http.get(f"/collections/{done.id}/items").content)
    assert items.numberMatched > 0
    assert done.id in [m.id for m in Maps.model_validate_json(http.get("/maps").content).maps]
    assert done.progress is not None
    assert done.progress.done == done.progress.total
    for name in ("summary.json", "run.json"):
        assert str(working.data) not in http.get(f"/maps/{done.id}/{name}").text


def test_a_map_of_the_service_is_the_map_of_the_command_byte_for_byte(
    done: JobOut, working: Any, tmp_path: Path, bundles: Path, suburb: Path
) -> None:
    """All files but the record of the run; the service adds the texts of its pages."""
    scene = tmp_path / "scene.tif"  # what the service calls every scene
    scene.write_bytes(suburb.read_bytes())
    out = tmp_path / "map"
    command = [sys.executable, "-m", "geounet", "predict", str(scene), "-o", str(out), "-m", str(bundles / "toy")]
    subprocess.run([*command, "--min-area", "2", "--device", "cpu"], check=True, capture_output=True, timeout=300)
    theirs = {p.name: p.read_bytes() for p in (working.data / "maps" / done.id).iterdir()}
    ours = {p.name: p.read_bytes() for p in out.iterdir()}
    assert "classes.tif.aux.xml" in ours
    assert set(theirs) - set(ours) == {"features.sqlite3"}
    assert set(ours) <= set(theirs)
    assert [name for name in ours if name != "run.json" and ours[name] != theirs[name]] == []


def test_a_file_that_a_map_lacks_names_an_option_that_there_is(http: httpx2.Client, done: JobOut) -> None:
    for name, option in (("probabilities.tif", "probabilities"), ("polygons.fgb", "formats")):
        answer = http.get(f"/maps/{done.id}/{name}")
        assert answer.status_code == 404
        assert f"option {option}" in answer.json()["detail"]
        assert option in JobOptions.model_fields


def test_a_map_is_a_stac_item_whose_assets_can_be_fetched(http: httpx2.Client, done: JobOut) -> None:
    link = next(x for x in http.get(f"/maps/{done.id}").json()["links"] if x["rel"] == "describedby")
    answer = http.get(link["href"])
    assert answer.headers["content-type"] == link["type"] == "application/geo+json"
    JsonSchemaSTACValidator().validate_core(answer.json(), pystac.STACObjectType.ITEM, "1.1.0")
    item = pystac.Item.from_dict(answer.json())
    assert item.id == done.id
    assert item.common_metadata.title == "Land cover of suburb.tif"
    assert {"classes.tif", "polygons.geojson", "summary.json"} <= item.assets.keys()
    for asset in item.assets.values():
        assert http.head(asset.href).status_code == 200, asset.href
        assert asset.media_type == http.head(asset.href).headers["content-type"]
    for way in item.links:
        assert http.get(str(way.target)).status_code == 200


def test_every_line_of_the_log_is_json_with_what_it_belongs_to(http: httpx2.Client, done: JobOut, working: Any) -> None:
    http.get(
        "/jobs", headers={"X-Request-Id": "mine-42", "X-API-Key": "geounet_ab_secret", "Authorization": "Bearer s3"}
    )
    port = working.url.rpartition(":")[2]
    log = working.data.parent / f"serve-{port}.log"
    ends = time.monotonic() + 10
    while "mine-42" not in log.read_text(encoding="utf-8") and time.monotonic() < ends:
        time.sleep(0.1)  # the line is written once the answer has left
    text = log.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    requests = [line for line in lines if line["logger"] == "geounet.access"]
    assert all(line["request_id"] for line in requests)
    assert [line["path"] for line in requests if line["request_id"] == "mine-42"] == ["/jobs"]
    from_worker = [
        line
        for line in lines
        if line["logger"] == "geounet.service.processes.worker" and line["message"] != "worker started"
    ]
    assert done.id in {line["job"] for line in from_worker}
    assert "secret" not in text
    assert "s3" not in text


def test_a_page_of_a_new_map_is_a_look_up(done: JobOut, working: Any) -> None:
    assert FeatureLayer(working.data / "maps" / done.id).has_texts


def test_events_tell_the_story_until_the_end(http: httpx2.Client, scene_file: Path) -> None:
    job = send(http, scene_file, min_area_m2=1).job
    assert job is not None
    names, ids = [], []
    with http.stream("GET", f"/jobs/{job.id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            elif line.startswith("id: "):
                ids.append(int(line.removeprefix("id: ")))
            elif line.startswith("data: "):
                assert JobOut.model_validate_json(line.removeprefix("data: ")).id == job.id
    assert names[-1] == "done"
    assert ids == sorted(set(ids))
    again = http.get(f"/jobs/{job.id}/events", headers={"Last-Event-ID": str(ids[-1])})
    assert again.status_code == 204
    with http.stream("GET", f"/jobs/{job.id}/events", headers={"Last-Event-ID": str(ids[0])}) as stream:
        assert "event: done" in list(stream.iter_lines())


def test_a_running_job_is_cancelled(http: httpx2.Client, working: Any, tmp_path: Path, new_scene: Any) -> None:
    job = send(http, new_scene(tmp_path / "large.tif", 1500, 1500)).job
    assert job is not None
    ends = time.monotonic() + 60
    while JobOut.model_validate_json(http.get(f"/jobs/{job.id}").content).state == "queued":
        assert time.monotonic() < ends
        time.sleep(0.05)
    response = http.delete(f"/jobs/{job.id}")
    assert response.status_code == 202
    assert finished(http, job.id, 30).state == "cancelled"
    time.sleep(0.5)
    assert not (working.data / "work" / job.id).exists()
    assert http.get(f"/maps/{job.id}").status_code == 404
    assert http.delete(f"/jobs/{job.id}").status_code == 202


def test_a_done_job_is_deleted_by_its_map(http: httpx2.Client, tmp_path: Path, new_scene: Any) -> None:
    accepted = send(http, new_scene(tmp_path / "small.tif", 64, 64))
    assert accepted.job is not None
    assert finished(http, accepted.job.id).state == "done"
    assert http.delete(f"/jobs/{accepted.job.id}").status_code == 409
    assert http.delete(f"/maps/{accepted.job.id}").status_code == 204
    for path in ("maps", "collections", "jobs"):
        assert http.get(f"/{path}/{accepted.job.id}").status_code == 404
    assert http.delete(f"/scenes/{accepted.scene.id}").status_code == 204


def test_an_area_of_interest_maps_only_that(http: httpx2.Client, scene_file: Path, working: Any) -> None:
    west, south, east, north = http.put("/scenes/a.tif", content=scene_file.read_bytes()).json()["scene"]["info"][
        "bounds"
    ]
    x, y = (west + east) / 2, (south + north) / 2
    triangle = {"type": "Polygon", "coordinates": [[[west, y], [x, y], [x, north], [west, y]]]}
    job = send(http, scene_file, area=triangle).job
    assert job is not None
    found = finished(http, job.id)
    assert found.state == "done", found.error
    with rasterio.open(working.data / "maps" / job.id / "classes.tif") as classes:
        assert classes.width < 115
        assert classes.height < 85
        values = classes.read(1)
    assert 0.3 < (values == 255).mean() < 0.7


def test_a_job_for_a_scene_that_does_not_fit_is_not_queued(http: httpx2.Client, tmp_path: Path, new_scene: Any) -> None:
    coarse = new_scene(tmp_path / "c.tif", 40, 40, transform=rasterio.Affine(30, 0, 7e5, 0, -30, 4.4e6))
    uploaded = http.put("/scenes/coarse.tif", content=coarse.read_bytes()).json()["scene"]
    fit = uploaded["info"]["fit"]
    assert fit["fits"] is False
    resolution = next(check for check in fit["checks"] if check["topic"] == "resolution")
    assert (resolution["status"], "too coarse" in resolution["text"]) == ("refused", True)
    assert "the option force" in resolution["remedy"]
    assert fit["suited_models"] == []
    refused = http.post("/jobs", json={"scene": uploaded["id"]})
    assert refused.status_code == 422
    assert "coarse.tif" in refused.json()["detail"]
    assert str(tmp_path) not in refused.text
    forced = http.post("/jobs", json={"scene": uploaded["id"], "options": {"force": True}})
    assert forced.status_code == 202
    assert http.delete(f"/jobs/{forced.json()['job']['id']}").status_code == 202
    assert http.post("/jobs", json={"scene": uploaded["id"], "model": "none"}).status_code == 404


def test_the_same_request_twice_is_one_job(http: httpx2.Client, done: JobOut) -> None:
    body = {"scene": done.scene, "options": {"min_area_m2": 3}}
    first, again = (http.post("/jobs", json=body, headers={"Idempotency-Key": "same"}) for _ in range(2))
    assert first.json()["job"]["id"] == again.json()["job"]["id"]
    other = http.post("/jobs", json={"scene": done.scene}, headers={"Idempotency-Key": "same"})
    assert other.status_code == 422
    finished(http, first.json()["job"]["id"])


def test_jobs_are_listed_the_newest_first(http: httpx2.Client, done: JobOut) -> None:
    seen: list[str] = []
    url = "/jobs?limit=2"
    while url:
        page = Jobs.model_validate_json(http.get(url).content)
        seen += [j.id for j in page.jobs]
        url = next((link.href for link in page.links if link.rel == "next"), "")
    assert done.id in seen
    assert len(seen) == len(set(seen))
    only = Jobs.model_validate_json(http.get("/jobs?state=done").content)
    assert {j.state for j in only.jobs} == {"done"}


def test_predict_answers_at_once_with_polygons_or_a_raster(http: httpx2.Client, scene_file: Path) -> None:
    body = scene_file.read_bytes()
    polygons = http.post("/predict", content=body, headers={"Content-Type": "image/tiff"})
    assert polygons.status_code == 200, polygons.text
    assert polygons.headers["content-type"] == "application/geo+json"
    assert polygons.json()["type"] == "FeatureCollection"
    raster = http.post("/predict", files={"file": ("a.tif", body)}, headers={"Accept": "image/tiff"})
    assert raster.headers["content-type"].startswith("image/tiff")
    with rasterio.MemoryFile(raster.content) as memory, memory.open() as classes:
        assert (classes.width, classes.height) == (210, 150)
        assert set(np.unique(classes.read(1))) <= {1, 2, 3, 255}


def test_predict_hands_over_the_job_where_the_client_does_not_wait(http: httpx2.Client, scene_file: Path) -> None:
    response = http.post("/predict", content=scene_file.read_bytes(), headers={"Prefer": "wait=0"})
    assert response.status_code == 202
    accepted = Accepted.model_validate_json(response.content)
    assert accepted.job is not None
    assert response.headers["location"].endswith(f"/jobs/{accepted.job.id}")
    assert finished(http, accepted.job.id).state == "done"


def test_a_damaged_scene_is_the_scenes_fault(http: httpx2.Client, tmp_path: Path, new_scene: Any) -> None:
    path = new_scene(tmp_path / "d.tif", 256, 256, compress="deflate", tiled=True, blockxsize=128, blockysize=128)
    body = bytearray(path.read_bytes())
    body[-3000:-500] = os.urandom(2500)
    response = http.post("/predict", content=bytes(body))
    assert response.status_code == 422, response.text
    assert "/scenes/" not in response.json()["detail"]


def test_nothing_is_lost_when_service_and_worker_are_killed(
    tmp_path: Path, bundles: Path, start: Callable[..., Any], new_scene: Callable[..., Path]
) -> None:
    """Uploads and jobs that were answered survive kill -9 of every process; results are byte-equal."""
    data = tmp_path / "data"
    scenes = [new_scene(tmp_path / f"{n}.tif", 100 + n, 130) for n in range(3)]
    jobs = []
    with start(data, bundles, worker=True) as service:
        with service.client() as client:
            for path in (*scenes, scenes[0]):
                accepted = send(client, path)
                assert accepted.job is not None
                jobs.append(accepted.job.id)
        family = psutil.Process(service.process.pid).children(recursive=True)
        threading.Event().wait(1.0)
        service.process.send_signal(signal.SIGKILL)
        for process in family:
            if process.is_running():
                process.kill()
    with start(data, bundles, worker=True) as service, service.client() as client:
        assert [finished(client, job).state for job in jobs] == ["done"] * 4
    store = Store(ServiceSettings(data=data, disk_reserve=0))
    folders = [store.maps.folder(jobs[0]), store.maps.folder(jobs[3])]
    for name in ("classes.tif", "confidence.tif", "polygons.gpkg", "polygons.geojson", "summary.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
