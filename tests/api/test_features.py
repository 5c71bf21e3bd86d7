"""OGC API - Features against a real server: paging, boxes, CRS, clipping, real clients."""

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pyogrio
import pytest
import shapely
from pyproj import Transformer

from api.schemas.responses import Collection, Collections, Conformance, FeatureCollectionOut, Landing

CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
EPSG = "http://www.opengis.net/def/crs/EPSG/0/"


@pytest.fixture
def items(client: httpx2.Client, service: Any) -> Any:
    def ask(**query: object) -> dict[str, Any]:
        query = {k.replace("_crs", "-crs").replace("classes", "class"): v for k, v in query.items()}
        response = client.get(f"/collections/{service.map_id}/items", params=query)  # type: ignore[arg-type]
        assert response.status_code == 200, response.text
        FeatureCollectionOut.model_validate_json(response.content)
        found: dict[str, Any] = response.json()
        return found

    return ask


@pytest.fixture(scope="module")
def truth(service: Any) -> Any:
    """The GeoPackage itself."""
    path = service.data / "maps" / service.map_id / "polygons.gpkg"
    frame = pyogrio.read_dataframe(path, layer="landcover", fid_as_index=True)
    return frame.sort_index()


def every(client: httpx2.Client, url: str) -> list[dict[str, Any]]:
    found = []
    while url:
        page = client.get(url).json()
        found += page["features"]
        url = next((link["href"] for link in page["links"] if link["rel"] == "next"), "")
    return found


def test_the_way_from_the_landing_page_to_the_polygons(client: httpx2.Client, service: Any) -> None:
    landing = Landing.model_validate_json(client.get("/").content)
    links = {link.rel: link.href for link in landing.links}
    assert {"self", "service-desc", "conformance", "data"} <= links.keys()
    assert client.get(links["service-desc"]).json()["openapi"].startswith("3.0")
    conforms = Conformance.model_validate_json(client.get(links["conformance"]).content).conformsTo
    assert "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core" in conforms
    collections = Collections.model_validate_json(client.get(links["data"]).content)
    assert [c.id for c in collections.collections] == [service.map_id]
    one = Collection.model_validate_json(client.get(f"/collections/{service.map_id}").content)
    assert one.storageCrs == f"{EPSG}32616"
    assert set(one.crs) == {CRS84, f"{EPSG}4326", f"{EPSG}3857", f"{EPSG}32616"}
    assert one.extent is not None
    west, south, east, north = one.extent.spatial.bbox[0]
    assert -85 < west < east < -84
    assert 39 < south < north < 40


@pytest.mark.parametrize("path", ["/conformance", "/collections", "/collections/{map}", "/collections/{map}/items"])
def test_every_page_is_there_as_html(client: httpx2.Client, service: Any, path: str) -> None:
    path = path.replace("{map}", service.map_id)
    by_accept = client.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert by_accept.headers["content-type"].startswith("text/html")
    assert "<h1>" in by_accept.text
    assert client.get(path, params={"f": "html"}).text.startswith("<!doctype html>")
    assert client.get(path, headers={"Accept": "application/json, text/html"}).json()


def test_a_browser_is_given_the_map_and_a_program_the_landing_page(client: httpx2.Client) -> None:
    page = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert "<script" in page.text
    assert client.get("/", headers={"Accept": "application/json"}).json()["links"]


def test_pages_follow_each_other_and_hold_every_polygon_once(client: httpx2.Client, service: Any, truth: Any) -> None:
    found = every(client, f"/collections/{service.map_id}/items?limit=37")
    assert [f["id"] for f in found] == list(truth.index)
    for feature, (_, row) in zip(found, truth.iterrows(), strict=True):
        assert feature["properties"]["class_name"] == row["class_name"]
        assert feature["properties"]["area_m2"] == pytest.approx(row["area_m2"])


def test_the_numbers_add_up(items: Any, truth: Any) -> None:
    page = items(limit=10)
    assert (page["numberMatched"], page["numberReturned"]) == (len(truth), 10)
    assert items(limit=10**12)["numberReturned"] == len(truth)


def test_a_box_gives_what_it_touches_and_nothing_else(items: Any, truth: Any) -> None:
    left, bottom, _, top = truth.total_bounds
    box = (left + 20.3, bottom + 10.1, left + 60.2, top - 20.7)
    expected = truth.index[truth.intersects(shapely.box(*box))]
    page = items(bbox=",".join(map(str, box)), bbox_crs=f"{EPSG}32616", limit=10000)
    assert sorted(f["id"] for f in page["features"]) == sorted(expected)
    assert page["numberMatched"] == len(expected)


def test_a_box_in_degrees_is_bent_as_the_projection_bends_it(items: Any, truth: Any) -> None:
    lonlat = truth.to_crs("OGC:CRS84")
    west, south, east, north = lonlat.total_bounds
    box = (west + (east - west) * 0.3, south + (north - south) * 0.2, east - (east - west) * 0.4, north)
    expected = set(lonlat.index[lonlat.intersects(shapely.box(*box))])
    found = {f["id"] for f in items(bbox=",".join(map(str, box)), limit=10000)["features"]}
    assert len(found ^ expected) <= 1  # straight edges of polygons in degrees are not quite those on the grid
    swapped = ",".join(str(box[i]) for i in (1, 0, 3, 2))
    same = items(bbox=swapped, bbox_crs=f"{EPSG}4326", limit=10000)
    assert {f["id"] for f in same["features"]} == found


def test_a_box_across_the_antimeridian_or_of_a_point(items: Any, truth: Any) -> None:
    west, south, east, north = truth.to_crs("OGC:CRS84").total_bounds
    around_the_world = f"{west - 0.001},{south},{west - 0.002},{north}"
    assert items(bbox=around_the_world)["numberMatched"] == len(truth)
    assert items(bbox="170,-10,-170,10")["numberMatched"] == 0
    x, y = (west + east) / 2, (south + north) / 2
    assert items(bbox=f"{x},{y},{x},{y}")["numberMatched"] in (1, 2, 3, 4)
    assert items(bbox=f"{x},{y},0,{x},{y},10")["numberMatched"] in (1, 2, 3, 4)


def test_clipping_keeps_everything_inside_the_box_and_nothing_outside(items: Any, truth: Any) -> None:
    left, bottom, _, _ = truth.total_bounds
    box = (left + 10.1, bottom + 10.1, left + 21.7, bottom + 19.3)
    asked = {"bbox": ",".join(map(str, box)), "bbox_crs": f"{EPSG}32616", "crs": f"{EPSG}32616", "limit": 10000}
    whole, cut = items(**asked), items(**asked, clip="true")
    shapes = [shapely.geometry.shape(f["geometry"]) for f in cut["features"]]
    assert all(s.is_valid for s in shapes)
    union = shapely.union_all(shapes)
    expected = shapely.intersection(shapely.union_all(truth.geometry.values), shapely.box(*box))
    assert union.symmetric_difference(expected).area < 0.1
    assert sum(s.area for s in shapes) == pytest.approx(union.area, rel=1e-6)
    assert len(json.dumps(cut)) < len(json.dumps(whole))


def test_classes_and_areas_filter(items: Any, truth: Any) -> None:
    assert items(classes="tree")["numberMatched"] == (truth.class_id == 2).sum()
    assert items(classes="2,building")["numberMatched"] == truth.class_id.isin([1, 2]).sum()
    assert items(min_area=20)["numberMatched"] == (truth.area_m2 >= 20).sum()
    left, bottom, right, top = truth.total_bounds
    half = shapely.box(left, bottom, (left + right) / 2, top)
    both = items(
        classes="tree", min_area=20, bbox=f"{left},{bottom},{(left + right) / 2},{top}", bbox_crs=f"{EPSG}32616"
    )
    expected = truth[(truth.class_id == 2) & (truth.area_m2 >= 20) & truth.intersects(half)]
    assert both["numberMatched"] == len(expected)


@pytest.mark.parametrize("number", ["32616", "3857", "4326"])
def test_every_crs_is_given_in_the_axis_order_of_its_authority(
    client: httpx2.Client, service: Any, truth: Any, number: str
) -> None:
    uri = EPSG + number
    response = client.get(f"/collections/{service.map_id}/items", params={"crs": uri, "limit": 5})
    assert response.headers["content-crs"] == f"<{uri}>"
    to_crs = Transformer.from_crs(32616, int(number))  # the authority's axis order
    for feature in response.json()["features"]:
        row = truth.loc[feature["id"]]
        x, y = to_crs.transform(*shapely.get_coordinates(row.geometry).T)
        expected = shapely.Polygon(list(zip(x, y, strict=True)))
        got = shapely.geometry.shape(feature["geometry"])
        tolerance = 2e-7 if number == "4326" else 0.01
        assert shapely.hausdorff_distance(got.exterior, expected.exterior) < tolerance


def test_one_polygon(client: httpx2.Client, service: Any, truth: Any) -> None:
    fid = int(truth.index[3])
    response = client.get(f"/collections/{service.map_id}/items/{fid}")
    assert response.headers["content-crs"] == f"<{CRS84}>"
    assert response.json()["id"] == fid
    assert {link["rel"] for link in response.json()["links"]} == {"self", "collection"}
    assert client.get(f"/collections/{service.map_id}/items/{2**62}").status_code == 404


def test_geometries_are_those_of_the_geojson_file(client: httpx2.Client, service: Any) -> None:
    from_file = client.get(f"/maps/{service.map_id}/polygons.geojson").json()
    by_id = {f["id"]: shapely.geometry.shape(f["geometry"]) for f in from_file["features"]}
    for feature in every(client, f"/collections/{service.map_id}/items?limit=1000"):
        assert shapely.equals(shapely.geometry.shape(feature["geometry"]), by_id[feature["id"]])


@pytest.mark.parametrize(
    "query",
    [
        "bbox=1,2,3",
        "bbox=a,b,c,d",
        "bbox=nan,0,1,1",
        "bbox=0,inf,1,1",
        "bbox=0,10,1,5",
        "bbox=500,0,501,1",
        "bbox=0,0,1,1,2",
        "bbox=0,0,1,1&bbox-crs=http://www.opengis.net/def/crs/EPSG/0/27700",
        "bbox=1e300,0,1,1",
        "crs=EPSG:4326",
        "crs=file:///etc/passwd",
        "limit=0",
        "limit=-1",
        "limit=99999999999999999999999999",
        "limit=ten",
        "after=99999999999999999999999999",
        "class=lava",
        "class=%00",
        "min_area=-1",
        "min_area=nan",
        "clip=true",
        "unknown=1",
        "f=xml",
    ],
)
def test_a_senseless_query_is_a_problem_document(client: httpx2.Client, service: Any, query: str) -> None:
    response = client.get(f"/collections/{service.map_id}/items?{query}")
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == 400
    assert response.json()["errors"][0]["field"]


def test_gdal_reads_every_polygon(service: Any, truth: Any) -> None:
    """GDAL's OAPIF driver, page by page, in the default CRS and in the map's own."""
    source = f"OAPIF:{service.url}/collections/{service.map_id}"
    assert "OAPIF" in pyogrio.list_drivers()
    frame = pyogrio.read_dataframe(source, fid_as_index=True)
    assert len(frame) == len(truth)
    assert frame.index.is_unique
    assert sorted(frame["class_name"]) == sorted(truth["class_name"])
    own = pyogrio.read_dataframe(source, CRS="EPSG:32616")
    assert own.crs.to_epsg() == 32616
    assert own.geometry.union_all().symmetric_difference(truth.geometry.union_all()).area < 1.0
    assert own.geometry.area.sum() == pytest.approx(truth.geometry.area.sum(), rel=1e-5)


def test_owslib_finds_and_reads_the_polygons(service: Any, truth: Any) -> None:
    features = pytest.importorskip("owslib.ogcapi.features")
    api = features.Features(service.url)
    assert service.map_id in [c["id"] for c in api.collections()["collections"]]
    assert service.map_id in api.feature_collections()
    page = api.collection_items(service.map_id, limit=7)
    assert page["numberMatched"] == len(truth)
    assert len(page["features"]) == 7
    first = api.collection_item(service.map_id, str(page["features"][0]["id"]))
    assert first["id"] == page["features"][0]["id"]


def test_answers_are_compressed_for_those_who_ask(client: httpx2.Client, service: Any) -> None:
    plain = client.get(f"/collections/{service.map_id}/items?limit=1000", headers={"Accept-Encoding": "identity"})
    packed = client.get(f"/collections/{service.map_id}/items?limit=1000", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert re.sub(r'"timeStamp":"[^"]*"', "", plain.text) == re.sub(r'"timeStamp":"[^"]*"', "", packed.text)
    assert Path(service.data).exists()
