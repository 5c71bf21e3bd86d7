"""Details of HTTP as RFC 9110 has them, and of OGC API - Features."""

import time
from email.utils import formatdate
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.edge.accept import quality
from api.edge.conditions import satisfiable


@pytest.fixture
def url(service: Any) -> str:
    return f"/maps/{service.map_id}/polygons.gpkg"


@pytest.fixture
def truth(service: Any) -> bytes:
    found: bytes = (service.data / "maps" / service.map_id / "polygons.gpkg").read_bytes()
    return found


@pytest.mark.parametrize(
    "odd",
    [
        "rows=0-5",
        "bytes=abc",
        "bytes",
        "bytes=",
        "bytes=5-2",
        "bytes=1-2,x",
        "bytes=--5",
        "bytes 0-5",
        "=0-5",
        "items=0-1",
    ],
)
def test_a_range_that_is_not_understood_is_ignored(client: httpx2.Client, url: str, truth: bytes, odd: str) -> None:
    response = client.get(url, headers={"Range": odd})
    assert (response.status_code, response.content) == (200, truth)


def test_a_range_is_taken_in_any_case_and_with_spaces(client: httpx2.Client, url: str, truth: bytes) -> None:
    response = client.get(url, headers={"Range": "Bytes=10-19"})
    assert (response.status_code, response.content) == (206, truth[10:20])


def test_ranges_beyond_the_end_are_left_out_where_another_one_is_there(
    client: httpx2.Client, url: str, truth: bytes
) -> None:
    response = client.get(url, headers={"Range": f"bytes={len(truth)}-,5-9"})
    assert (response.status_code, response.content) == (206, truth[5:10])


@pytest.mark.parametrize("beyond", ["bytes={}-", "bytes={}-999999999999", "bytes=-0", "bytes={}-,-0"])
def test_a_range_outside_the_file_is_416_with_words(client: httpx2.Client, url: str, truth: bytes, beyond: str) -> None:
    response = client.get(url, headers={"Range": beyond.format(len(truth))})
    assert response.status_code == 416
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["content-range"] == f"bytes */{len(truth)}"
    assert str(len(truth)) in response.json()["detail"]


def test_preconditions_on_time(client: httpx2.Client, url: str) -> None:
    whole = client.get(url)
    same, before, later = (
        whole.headers["last-modified"],
        formatdate(1e9, usegmt=True),
        formatdate(time.time() + 9e3, usegmt=True),
    )
    for date, status in ((same, 304), (later, 304), (before, 200), ("yesterday", 200), ("", 200)):
        assert client.get(url, headers={"If-Modified-Since": date}).status_code == status, date
        assert client.head(url, headers={"If-Modified-Since": date}).status_code == status, date
    for date, status in ((same, 200), (later, 200), (before, 412), ("yesterday", 200)):
        assert client.get(url, headers={"If-Unmodified-Since": date}).status_code == status, date


def test_preconditions_on_the_etag(client: httpx2.Client, url: str) -> None:
    etag = client.get(url).headers["etag"]
    for tags, status in (
        (etag, 200),
        ("*", 200),
        (f'"x", {etag}', 200),
        ('"x"', 412),
        (f"W/{etag}", 412),
        ("junk", 412),
    ):
        response = client.get(url, headers={"If-Match": tags})
        assert response.status_code == status, tags
        if status == 412:
            assert response.headers["content-type"] == "application/problem+json"
    for tags, status in ((etag, 304), (f"W/{etag}", 304), ("*", 304), (f'"x",{etag}', 304), ('"x"', 200)):
        assert client.get(url, headers={"If-None-Match": tags}).status_code == status, tags
    # the etag is the better witness: dates are not looked at beside it
    old, new = formatdate(1e9, usegmt=True), formatdate(time.time() + 9e3, usegmt=True)
    assert client.get(url, headers={"If-None-Match": '"x"', "If-Modified-Since": new}).status_code == 200
    assert client.get(url, headers={"If-Match": etag, "If-Unmodified-Since": old}).status_code == 200
    assert client.get(url, headers={"If-Match": '"x"', "Range": "bytes=0-9"}).status_code == 412


@pytest.mark.parametrize(
    ("accept", "packed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("*", True),
        ("br, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*, gzip;q=0", False),
        ("identity", False),
        ("identity, gzip;q=0.1", False),
        ("gzipped", False),
        ("", False),
    ],
)
def test_answers_are_packed_only_for_those_who_want_it(
    client: httpx2.Client, service: Any, accept: str, packed: bool
) -> None:
    response = client.get(f"/collections/{service.map_id}/items?limit=50", headers={"Accept-Encoding": accept})
    assert response.status_code == 200
    assert (response.headers.get("content-encoding") == "gzip") is packed
    assert "accept-encoding" in response.headers["vary"].lower()


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html;q=0.1, application/json", False),
        ("application/json;q=0.5, text/html;q=0.9", True),
        ("application/json, text/html", False),
        ("text/html, application/json", True),
        ("text/html;q=0, */*", False),
        ("text/*", True),
        ("*/*", False),
        ("image/png", False),
        ("application/geo+json, text/html;q=0.9", False),
    ],
)
def test_pages_for_people_json_for_programs(client: httpx2.Client, service: Any, accept: str, html: bool) -> None:
    for path in ("/", f"/collections/{service.map_id}/items?limit=1"):
        response = client.get(path, headers={"Accept": accept})
        assert response.headers["content-type"].startswith("text/html") is html, path


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("2018-02-12T23:20:50Z", True),
        ("2018-02-12T23:20:50.52+01:00", True),
        ("2018-02-12T00:00:00Z/2018-03-18T12:31:12Z", True),
        ("2018-02-12T00:00:00Z/..", True),
        ("../2018-03-18T12:31:12Z", True),
        ("/2018-03-18T12:31:12Z", True),
        ("2018-02-12T00:00:00Z/", True),
        ("../..", True),
        ("yesterday", False),
        ("2018-13-45T00:00:00Z", False),
        ("2018-02-12T23:20:50", False),
        ("2018-03-18T00:00:00Z/2018-02-12T00:00:00Z", False),
        ("2018-02-12T00:00:00Z/x", False),
        ("a/b/c", False),
        ("", False),
    ],
)
def test_a_time_is_an_instant_or_an_interval(client: httpx2.Client, service: Any, text: str, fine: bool) -> None:
    response = client.get(f"/collections/{service.map_id}/items", params={"datetime": text, "limit": 1})
    assert response.status_code == (200 if fine else 400)
    if not fine:
        assert response.json()["errors"][0]["field"] == "datetime"
        assert "RFC 3339" in response.json()["detail"]
    else:  # a map has no times: none of its polygons is left out
        assert response.json()["numberMatched"] > 100


PYDANTIC = (
    "Input should",
    "Extra inputs",
    "String should",
    "unable to parse",
    "Field required",
    "Value error",
    "pattern",
)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("/collections/{map}/items?offset=10", "'offset'"),
        ("/collections/{map}/items?limits=10", "limit"),
        ("/collections/{map}?x=1", "'x'"),
        ("/jobs?offset=10", "'offset'"),
        ("/maps?page=2", "'page'"),
        ("/maps/{map}/point?lng=1&lat=2", "'lng'"),
        ("/maps/{map}/tiles/0/0/0.png?style=x", "'style'"),
        ("/collections/{map}/items?limit=ten", "whole number"),
        ("/collections/{map}/items?limit=0", "at least 1"),
        ("/jobs?limit=5000", "at most 1000"),
        ("/jobs?state=sleeping", "one of"),
        ("/maps/{map}/point?lon=1", "needed"),
        ("/maps/{map}/point?lon=nan&lat=1", "number"),
        ("/collections/{map}/items?bbox=1,2,3", "four numbers"),
        ("/collections/{map}/items?bbox=1,2,3,x", "number"),
        ("/collections/{map}/items?clip=perhaps", "true or false"),
        ("/maps/{map}/tiles/99/0/0.png", "at most 24"),
        ("/scenes?after=zz", "an id"),
    ],
)
def test_what_is_wrong_with_a_parameter_is_said_in_plain_words(
    client: httpx2.Client, service: Any, query: str, words: str
) -> None:
    response = client.get(query.format(map=service.map_id))
    assert response.status_code == 400, response.text
    detail = response.json()["detail"]
    assert words in detail
    assert not [p for p in PYDANTIC if p in detail], detail


def test_who_asks_for_an_offset_hears_how_pages_follow(client: httpx2.Client, service: Any) -> None:
    detail = client.get(f"/collections/{service.map_id}/items?offset=10").json()["detail"]
    assert "next" in detail


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8), st.integers(1, 40))
def test_what_is_left_of_ranges_is_what_the_file_has(pairs: list[tuple[int, int]], size: int) -> None:
    asked = [(a, a + b) for a, b in pairs]
    header = "bytes=" + ", ".join(f"{first}-{last}" for first, last in asked)
    left = [(first, last) for first, last in asked if first < size]
    told = satisfiable(header, size)
    assert told == ("bytes=" + ",".join(f"{first}-{last}" for first, last in left) if left else "")


@given(st.text(max_size=40))
def test_any_text_is_a_range_or_none(text: str) -> None:
    told = satisfiable(text, 1000)
    assert told is None or told == "" or told.startswith("bytes=")


@given(st.text(max_size=60), st.sampled_from(["gzip", "text/html"]))
def test_any_accept_header_has_a_quality(text: str, kind: str) -> None:
    assert 0.0 <= quality(text, kind) <= 1.0
