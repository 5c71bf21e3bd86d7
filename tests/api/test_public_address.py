"""Behind a proxy: every link leads to where the client is, and nobody but the proxy may say where that is."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError

from api.main import create_app
from api.settings import ApiSettings
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store

PUBLIC = "https://maps.example.org/lc"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, bundles: Path, new_map: Any) -> tuple[Path, str]:
    """A data folder with one map."""
    data = tmp_path_factory.mktemp("address") / "data"
    return data, new_map(Store(ServiceSettings(data=data, disk_reserve=0)))


@pytest.fixture
def app(made: tuple[Path, str], bundles: Path) -> Callable[..., FastAPI]:
    def build(**settings: Any) -> FastAPI:
        return create_app(ApiSettings(data=made[0], bundles=bundles, disk_reserve=0, model="toy", **settings))

    return build


def addresses(client: TestClient, map_id: str, scene_file: Path, headers: dict[str, str]) -> list[str]:
    """Every absolute address in every kind of answer that has any."""
    uploaded = client.put("/scenes/a.tif", content=scene_file.read_bytes(), headers=headers)
    assert uploaded.status_code == 201
    found = [uploaded.headers["location"]]
    paths = ["/", "/collections", f"/collections/{map_id}", f"/collections/{map_id}/items?limit=1", "/scenes", "/jobs"]
    first = client.get(f"/collections/{map_id}/items?limit=1", headers=headers).json()["features"][0]["id"]
    paths += ["/maps", f"/maps/{map_id}", f"/maps/{map_id}/tilejson.json", f"/collections/{map_id}/items/{first}"]
    paths += [f"/jobs/{map_id}", "/openapi.json", "/openapi-3.1.json"]
    for path in paths:
        answers = [client.get(path, headers=headers)]
        if "openapi" not in path and "tilejson" not in path:
            answers.append(client.get(path, headers={**headers, "Accept": "text/html"}))
        for answer in answers:
            assert answer.status_code == 200, path
            text = answer.text if "html" in answer.headers["content-type"] else json.dumps(_of_ours(answer.json()))
            links = re.findall(r"https?://[^\s\"'<>]+", re.sub(r"https?://(www\.)?(opengis|w3)\.[^\s\"'<>]+", "", text))
            assert links, f"{path} has no links to look at"
            found += links
    return found


def _of_ours(body: Any) -> Any:
    """The part of an OpenAPI document that is about this service: its examples name other hosts."""
    return body["servers"] if "openapi" in body else body


def test_a_public_url_is_in_every_link(app: Callable[..., FastAPI], made: tuple[Path, str], scene_file: Path) -> None:
    with TestClient(app(public_url=PUBLIC), base_url="http://127.0.0.1:8000") as client:
        for host in ("127.0.0.1:8000", "maps.example.org"):
            found = addresses(client, made[1], scene_file, {"Host": host})
            assert [a for a in found if not a.startswith(f"{PUBLIC}/") and a != PUBLIC] == []


def test_only_a_trusted_proxy_may_say_where_the_client_is(
    app: Callable[..., FastAPI], made: tuple[Path, str], scene_file: Path
) -> None:
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "maps.example.org", "X-Forwarded-Prefix": "/lc"}
    trusting = app(trusted_proxies=("10.9.0.0/16",), hosts=("maps.example.org",))
    with TestClient(trusting, base_url="http://127.0.0.1", client=("10.9.1.2", 5)) as client:
        found = addresses(client, made[1], scene_file, told)
        assert [a for a in found if not a.startswith(f"{PUBLIC}/") and a != PUBLIC] == []
    for build, peer in ((trusting, "10.8.0.1"), (app(), "10.9.1.2")):
        with TestClient(build, base_url="http://127.0.0.1", client=(peer, 5)) as client:
            found = addresses(client, made[1], scene_file, told)
            assert [a for a in found if not a.startswith("http://127.0.0.1")] == []


@pytest.mark.parametrize(
    "told",
    [
        {"X-Forwarded-Proto": "javascript"},
        {"X-Forwarded-Host": "evil.example/<script>"},
        {"X-Forwarded-Host": ""},
        {"X-Forwarded-Prefix": "//evil.example"},
        {"X-Forwarded-Prefix": '/"><script>'},
        {"X-Forwarded-For": "not an address"},
    ],
)
def test_what_a_proxy_passes_on_is_checked(app: Callable[..., FastAPI], told: dict[str, str]) -> None:
    with TestClient(app(trusted_proxies=("10.0.0.1",)), base_url="http://127.0.0.1", client=("10.0.0.1", 5)) as client:
        page = client.get("/", headers=told).json()
        assert page["links"][0]["href"] == "http://127.0.0.1/"


def test_a_name_the_service_does_not_have_is_refused_behind_a_proxy_too(app: Callable[..., FastAPI]) -> None:
    with TestClient(app(trusted_proxies=("10.0.0.1",)), base_url="http://127.0.0.1", client=("10.0.0.1", 5)) as client:
        assert client.get("/", headers={"X-Forwarded-Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    "bad", ["maps.example.org", "ftp://x", "https://", "https://a b", "https://x/?q=1", "https://u:p@x"]
)
def test_a_public_url_that_is_none_is_refused_at_start(bad: str) -> None:
    with pytest.raises(ValidationError, match="public_url"):
        ApiSettings(public_url=bad)


def test_a_proxy_that_is_no_address_is_refused_at_start() -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        ApiSettings(trusted_proxies=("proxy.internal",))


def test_a_page_of_another_site_changes_nothing_even_from_a_browser_that_does_not_say_so(
    app: Callable[..., FastAPI], scene_file: Path
) -> None:
    body = scene_file.read_bytes()
    with TestClient(app(public_url=PUBLIC), base_url="http://127.0.0.1:8000") as client:
        for origin in (
            "https://evil.example",
            "null",
            "http://127.0.0.1:9000",
            "https://maps.example.org.evil.example",
        ):
            refused = client.put("/scenes/a.tif", content=body, headers={"Origin": origin})
            assert refused.status_code == 403, origin
            assert client.get("/scenes", headers={"Origin": origin}).status_code == 200
        for origin in ("http://127.0.0.1:8000", "https://maps.example.org"):
            assert client.put("/scenes/a.tif", content=body, headers={"Origin": origin}).status_code == 201, origin
        assert client.put("/scenes/a.tif", content=body).status_code == 201
