"""A table of hostile requests with what must become of each: status, words, an id, careful headers, nothing told."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.edge.headers import HEADERS
from api.main import create_app
from api.settings import ApiSettings

GONE = "0" * 20


@dataclass(frozen=True)
class Hostile:
    """One request, and the statuses that it may end in."""

    path: str
    statuses: tuple[int, ...]
    method: str = "GET"
    rest: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.method} {self.path} {self.rest}"[:300]


ODD_IDS = (
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fgeounet.sqlite3",
    "%00",
    "0%00",
    "%0d%0aSet-Cookie:%20a=b",
    "'%20OR%201=1%20--",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "%E2%80%AE",
    "%F0%9F%A6%86",
    "%ff%fe",
    "-1",
    "9" * 40,
    "0x10",
    "NaN",
    "null",
    "a" * 4000,
    GONE.upper().replace("0", "G"),
    GONE + "%0a",
    "__proto__",
    "{{7*7}}",
)
PLACES = ("/scenes/{}", "/jobs/{}", "/jobs/{}/events", "/maps/{}", "/collections/{}", "/collections/{}/items")
NUMBERS = ("nan", "inf", "-inf", "1e309", "9" * 40, "-1", "1.5", "0x1", "", " ", "true", "[]", "١٢")
BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"\xff\xfe{\x00}\x00",
    b'{"scene": null}',
    b'{"scene": "x"}',
    b'{"scene": ["' + GONE.encode() + b'"]}',
    b'{"scene": "' + GONE.encode() + b'", "extra": 1}',
    b'{"scene": "' + GONE.encode() + b'", "options": {"force": "perhaps"}}',
    b'{"scene": "' + GONE.encode() + b'", "options": {"area": {"type": "Point", "coordinates": [0, 0]}}}',
    b'{"scene": "' + GONE.encode() + b'", "options": {"bands": {"red": 1e400}}}',
    b'{"scene": "' + GONE.encode() + b'", "options": {"min_area_m2": NaN}}',
    b"[" * 100_000,
    b'{"a":' * 20_000,
)
FORMS = (
    (b"", "multipart/form-data"),
    (b"", "multipart/form-data; boundary="),
    (b"x", "multipart/form-data; boundary=" + "b" * 300),
    (b"--b\r\n", "multipart/form-data; boundary=b"),
    (b"--b--\r\n", "multipart/form-data; boundary=b"),
    (b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n\r\n--b--\r\n', "multipart/form-data; boundary=b"),
    (b"--b\r\n" + b"X: y\r\n" * 5000 + b"\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
    (b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--b--\r\n', "multipart/form-data; boundary=b"),
    (b"--b\r\n\r\n" + b"x" * 300_000 + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"),
    (b"a=b", "application/x-www-form-urlencoded"),
)


def table() -> Iterator[Hostile]:
    for place in PLACES:
        for odd in ODD_IDS:
            yield Hostile(place.format(odd), (400, 404))
    for number in NUMBERS:
        yield Hostile(f"/maps/{GONE}/point?lon={number}&lat=0", (400, 404))
        yield Hostile(f"/scenes?limit={number}", (400,))
        yield Hostile(f"/jobs?before={number}", (400,))
        yield Hostile(f"/maps/{GONE}/tiles/{number}/0/0.png", (400, 404))
    for body in BODIES:
        yield Hostile("/jobs", (400, 404), "POST", {"content": body, "headers": {"Content-Type": "application/json"}})
    for body, kind in FORMS:
        for path in ("/scenes", "/predict"):
            status = (400, 413, 422)
            yield Hostile(path, status, "POST", {"content": body, "headers": {"Content-Type": kind}})
    for name in ("", "x" * 201, "%20", "%00", "a%0ab", "%E2%80%AEfdp.tif", "a%1b[2J"):
        yield Hostile(f"/scenes/{name}", (400, 404, 405), "PUT", {"content": b"II*\0" + bytes(100)})
    for method in ("PATCH", "TRACE", "CONNECT", "PROPFIND", "FOO", "DELETE", "PUT"):
        yield Hostile("/jobs", (400, 405), method)
    for host in (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[::1",
        "a b",
        "evil:80:80",
        "@localhost",
    ):
        yield Hostile("/scenes", (421,), "GET", {"headers": {"Host": host}})
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "file://", "http://127.0.0.1:1"):
        yield Hostile(f"/scenes/{GONE}", (403,), "DELETE", {"headers": {"Origin": origin}})
    for site in ("cross-site", "same-site"):
        yield Hostile(f"/scenes/{GONE}", (403,), "DELETE", {"headers": {"Sec-Fetch-Site": site}})
    for query in ("offset=1", "f=xml", "callback=x", "limit=1&limit=2&x=3", "%00=1", "a[]=1", "f=html&f=%3Cscript%3E"):
        yield Hostile(f"/scenes?{query}", (400,))
    for model in ("..%2f..", "%2Fetc%2Fpasswd", "x" * 201, "no-such-model", "%00"):
        query = f"process=true&model={model}"
        yield Hostile(f"/scenes/a.tif?{query}", (400, 404), "PUT", {"content": b"II*\0" + bytes(100)})
    for options in (
        "{",
        "[]",
        '{"stretch":"rm -rf"}',
        '{"formats":["shp"]}',
        '{"assume_crs":"file:///etc/passwd"}',
        "1",
    ):
        asked = {"process": "true", "options": options}
        yield Hostile("/scenes/a.tif", (400,), "PUT", {"content": b"II*\0" + bytes(100), "params": asked})


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    data = tmp_path_factory.mktemp("hostile") / "data"
    with TestClient(create_app(ApiSettings(data=data, disk_reserve=0)), base_url="http://127.0.0.1") as client:
        yield client


def test_every_hostile_request_ends_as_the_table_says(client: TestClient, tmp_path: Path) -> None:
    asked = list(table())
    assert len(asked) >= 200
    wrong = [f"{a.name}: {found}" for a in asked if (found := _what_is_wrong(client, a))]
    assert wrong == [], "\n".join(wrong)
    assert client.get("/scenes").json()["scenes"] == []
    assert client.get("/jobs").json()["jobs"] == []


def _what_is_wrong(client: TestClient, asked: Hostile) -> str:
    """What an answer lacks; "" where it is as it should be."""
    response = client.request(asked.method, asked.path, **asked.rest)
    if response.status_code not in asked.statuses:
        return f"{response.status_code}, not {asked.statuses}: {response.text[:200]}"
    if response.headers["content-type"] != "application/problem+json":
        return f"no problem document: {response.headers['content-type']}"
    problem = response.json()
    if problem["status"] != response.status_code or not problem["detail"] or not problem["title"]:
        return f"no words: {problem}"
    if problem["request_id"] != response.headers["x-request-id"]:
        return "no id"
    if [name for name in HEADERS if name not in response.headers]:
        return "careful headers are missing"
    leaks = [
        word for word in ("Traceback", "site-packages", "/incoming/", "sqlite", "pydantic") if word in response.text
    ]
    return f"tells of {leaks}" if leaks and "sqlite" not in asked.path else ""
