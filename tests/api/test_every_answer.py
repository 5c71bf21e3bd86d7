"""Whatever the answer is, it has a request id, the headers of a careful site, and words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from api.settings import ApiSettings

CAREFUL = ("x-content-type-options", "content-security-policy", "x-frame-options", "referrer-policy")


def is_complete(response: Any) -> bool:
    return bool(response.headers.get("x-request-id")) and all(name in response.headers for name in CAREFUL)


@pytest.fixture
def broken(tmp_path: Path, bundles: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A service with a bug in one route."""
    app = create_app(ApiSettings(data=tmp_path / "data", bundles=bundles, disk_reserve=0, model="toy"))

    @app.get("/bug")
    def bug() -> None:
        raise ZeroDivisionError("inner workings")

    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def test_an_unexpected_error_has_an_id_to_look_for_in_the_log(
    broken: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = broken.get("/bug", headers={"X-Request-Id": "thread-to-pull"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert is_complete(response)
    assert response.headers["x-request-id"] == response.json()["request_id"] == "thread-to-pull"
    assert "inner workings" not in response.text
    logged = [r for r in caplog.records if r.exc_info and getattr(r, "request_id", "") == "thread-to-pull"]
    assert len(logged) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PATCH", "/jobs", 405),
        ("GET", "/jobs?limit=x", 400),
        ("GET", "/jobs/00000000000000000000", 404),
        ("POST", "/scenes", 400),
        ("GET", "/healthz", 200),
        ("HEAD", "/jobs", 200),
    ],
)
def test_every_answer_has_an_id_and_careful_headers(client: httpx2.Client, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert is_complete(response)


@pytest.mark.parametrize("announced", [True, False])
def test_a_json_body_over_the_limit_is_413(client: httpx2.Client, announced: bool) -> None:
    body = b'{"scene": "' + b"a" * 3_000_000 + b'"}'
    pieces = [body[i : i + 100_000] for i in range(0, len(body), 100_000)]
    response = client.post("/jobs", content=body if announced else iter(pieces))
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:problem-type:geounet:too-large"
    assert "2000000 bytes" in response.json()["detail"]
    assert is_complete(response)


@pytest.mark.parametrize("boundary", ["x" * 257, "x" * 5000, "", '"', "\xe9"])
def test_a_boundary_that_no_form_has_is_refused(client: httpx2.Client, boundary: str) -> None:
    kind = f"multipart/form-data; boundary={boundary}".encode("latin-1")
    for path in ("/scenes", "/predict"):
        response = client.post(path, content=b"--x--", headers={b"Content-Type": kind})
        assert response.status_code == 400, response.text
        assert is_complete(response)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/scenes", {"GET", "HEAD", "POST"}),
        ("/jobs", {"GET", "HEAD", "POST"}),
        ("/jobs/00000000000000000000", {"GET", "HEAD", "DELETE"}),
        ("/scenes/00000000000000000000", {"GET", "HEAD", "PUT", "DELETE"}),
        ("/collections", {"GET", "HEAD"}),
    ],
)
def test_405_names_every_method_of_the_path(client: httpx2.Client, path: str, methods: set[str]) -> None:
    response = client.request("PATCH", path)
    assert response.status_code == 405
    assert {m.strip() for m in response.headers["allow"].split(",")} == methods
    assert all(method in response.json()["detail"] for method in methods)


@pytest.mark.parametrize("path", ["/collections/", "/jobs/", "/scenes/", "/maps/", "/models/", "/healthz/"])
def test_a_slash_at_the_end_changes_nothing(client: httpx2.Client, path: str) -> None:
    assert client.get(path).status_code == client.get(path.rstrip("/")).status_code == 200


def test_the_links_of_a_page_with_a_slash_are_those_without(client: httpx2.Client, service: Any) -> None:
    page = client.get(f"/collections/{service.map_id}/items/", params={"limit": 1}).json()
    assert page["links"]
    assert all("items/?" not in link["href"] for link in page["links"])
