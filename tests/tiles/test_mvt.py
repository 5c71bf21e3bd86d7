"""Vector tiles as another library reads them."""

from typing import Any

import mapbox_vector_tile
import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tiles.rasters.tile_regions import tile_regions
from tiles.vectors.mvt import EXTENT, TileFeatures, encode_tile


def decoded(tile: bytes) -> dict[str, Any]:
    found: dict[str, Any] = mapbox_vector_tile.decode(tile, default_options={"y_coord_down": True})
    return found


def array(*geometries: shapely.Geometry) -> Any:
    out = np.empty(len(geometries), object)
    out[:] = geometries
    return out


def test_properties_and_ids_come_back_as_they_went_in() -> None:
    shapes = array(shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10))
    properties: dict[str, list[int | float | str]] = {"n": [3, -4], "share": [0.5, 1.0], "name": ["tree", "Straße"]}
    layer = decoded(encode_tile("cover", TileFeatures(shapes, properties, [7, 2**40])))["cover"]
    assert (layer["extent"], layer["version"]) == (EXTENT, 2)
    assert [f["id"] for f in layer["features"]] == [7, 2**40]
    assert [f["properties"] for f in layer["features"]] == [
        {"n": 3, "share": 0.5, "name": "tree"},
        {"n": -4, "share": 1.0, "name": "Straße"},
    ]


def test_what_is_too_small_to_draw_is_left_out() -> None:
    assert encode_tile("cover", TileFeatures(array(shapely.box(0, 0, 0.2, 0.2), shapely.Polygon()), {})) == b""


def test_holes_and_several_parts_stay_what_they_are() -> None:
    ring = shapely.Polygon(shapely.box(0, 0, 90, 90).exterior, [shapely.box(30, 30, 60, 60).exterior])
    both = shapely.MultiPolygon([ring, shapely.box(200, 200, 4000, 4000)])
    (feature,) = decoded(encode_tile("cover", TileFeatures(array(both), {})))["cover"]["features"]
    assert shapely.geometry.shape(feature["geometry"]).equals(both)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([0, 4]))
def test_regions_of_a_picture_cover_it_without_gap_and_without_overlap(seed: int, kinds: int, margin: int) -> None:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, kinds, (16 + 2 * margin,) * 2).astype(np.uint8)
    classes[:3, :5] = 255
    polygons, values = tile_regions(classes, margin)
    layer = decoded(encode_tile("cover", TileFeatures(polygons, {"class_id": [int(v) for v in values]})))["cover"]
    drawn = [shapely.geometry.shape(f["geometry"]) for f in layer["features"]]
    unit = EXTENT // 16
    assert sum(shape.area for shape in drawn) == (classes != 255).sum() * unit**2
    assert shapely.union_all(drawn).area == (classes != 255).sum() * unit**2
