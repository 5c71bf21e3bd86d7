"""The STAC Item of a map: by the specification's own schema, by pystac, and by what the files themselves say."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation import JsonSchemaSTACValidator
from rasterio.warp import transform as transform_points

from geounet.mapping.pipeline import map_scene
from geounet.model.bundle import ModelBundle
from geounet.options import Options
from geounet.outputs.stac_item import stac_item
from tiles.scene.scene import open_scene

SUMMARY = {
    "request": {"digest": "0123456789abcdef" * 4},
    "model": {"name": "toy", "version": "1", "digest": "00"},
}
FILES = ("classes.tif", "confidence.tif", "probabilities.tif", "polygons.gpkg", "run.json", "of-no-concern.txt")


@pytest.fixture
def make(tmp_path: Path, bundle: ModelBundle) -> Callable[..., dict[str, Any]]:
    """The item of a scene of 40 x 60 pixels with this CRS, transform and TIFF tags."""

    def build(crs: str, transform: Affine, name: str = "scene.tif", **tags: str) -> dict[str, Any]:
        path = tmp_path / name
        profile = {"driver": "GTiff", "width": 60, "height": 40, "count": 3, "dtype": "uint8", "photometric": "RGB"}
        with rasterio.open(path, "w", **profile, crs=crs, transform=transform) as target:
            target.write(np.full((3, 40, 60), 9, np.uint8))
            target.update_tags(**tags)
        folder = tmp_path / "map"
        folder.mkdir(exist_ok=True)
        for file in FILES:
            (folder / file).touch()
        with open_scene(path, bundle.bands, force=True) as scene:
            return stac_item(scene, bundle, SUMMARY, folder)

    return build


def checked(record: dict[str, Any]) -> pystac.Item:
    """The item as pystac reads it, once it has passed the specification's schema; nothing comes from the network."""
    record = json.loads(json.dumps(record))
    JsonSchemaSTACValidator().validate_core(record, pystac.STACObjectType.ITEM, "1.1.0")
    return pystac.Item.from_dict(record)


UTM = Affine(0.6, 0, 700000, 0, -0.6, 4400000)


def test_an_item_says_where_its_map_lies_and_what_it_holds(
    make: Callable[..., dict[str, Any]], bundle: ModelBundle
) -> None:
    record = make("EPSG:32616", UTM, name="my field (1).tif")
    item = checked(record)
    assert item.id == "my-field-1--0123456789ab"
    place = ProjectionExtension.ext(item)
    assert place.code == "EPSG:32616"
    assert place.shape == [40, 60]
    assert place.transform == list(UTM)[:6]
    assert place.bbox == [700000.0, 4399976.0, 700036.0, 4400000.0]
    assert set(item.assets) == set(FILES) - {"of-no-concern.txt"}
    assert all(asset.href.startswith("./") for asset in item.assets.values())
    classes = ClassificationExtension.ext(item.assets["classes.tif"]).classes
    assert classes is not None
    assert [(c.value, c.to_dict()["title"]) for c in classes] == [(c.value, c.name) for c in bundle.legend.classes]
    assert all(set(c.name or "") <= set("abcdefghijklmnopqrstuvwxyz_-") for c in classes)
    bands = record["assets"]["probabilities.tif"]["bands"]
    assert [band["name"] for band in bands] == [c.name for c in bundle.legend.classes]


def test_the_footprint_is_the_rasters(make: Callable[..., dict[str, Any]]) -> None:
    turned = Affine(0.5, 0.3, 700000, 0.3, -0.5, 4400000)
    for crs, transform in (("EPSG:32616", UTM), ("EPSG:32616", turned)):
        item = checked(make(crs, transform))
        outline = shapely.geometry.shape(item.geometry)
        assert outline.is_valid
        assert outline.exterior.is_ccw
        assert item.bbox == pytest.approx(outline.bounds, abs=2e-7)
        t = transform
        lon, lat = transform_points(crs, "OGC:CRS84", [t.a * 60 + t.b * 40 + t.c], [t.d * 60 + t.e * 40 + t.f])
        assert shapely.Point(lon[0], lat[0]).distance(outline.exterior) < 1e-6


def test_across_the_antimeridian_west_is_greater_than_east(make: Callable[..., dict[str, Any]]) -> None:
    item = checked(make("EPSG:32601", Affine(100, 0, 165000, 0, -100, 10000)))
    assert item.bbox is not None
    assert 179 < item.bbox[0] <= 180
    assert -180 <= item.bbox[2] < -179
    assert item.geometry is not None
    assert item.geometry["type"] == "MultiPolygon"


def test_a_map_that_holds_a_pole_has_no_footprint(make: Callable[..., dict[str, Any]]) -> None:
    record = make("EPSG:3031", Affine(100, 0, -3000, 0, -100, 2000))
    assert record["geometry"] is None
    assert "bbox" not in record
    assert checked(record).geometry is None


def test_a_crs_without_a_number_is_written_out(make: Callable[..., dict[str, Any]]) -> None:
    crs = "+proj=laea +lat_0=47 +lon_0=9.5 +x_0=123 +y_0=0 +ellps=GRS80 +units=m"
    place = ProjectionExtension.ext(checked(make(crs, Affine(0.6, 0, 0, 0, -0.6, 0))))
    assert place.code is None
    assert place.projjson is not None
    assert place.projjson["type"] == "ProjectedCRS"


def test_the_time_is_the_one_the_file_tells(make: Callable[..., dict[str, Any]]) -> None:
    properties = make("EPSG:32616", UTM, TIFFTAG_DATETIME="2021:06:05 10:20:30")["properties"]
    assert properties["datetime"] == "2021-06-05T10:20:30Z"
    assert "no time zone" in properties["geounet:datetime_source"]


@pytest.mark.parametrize("text", [None, "", "yesterday", "2021:13:05 10:20:30", "0000:00:00 00:00:00"])
def test_a_time_that_nobody_knows_is_not_made_up(make: Callable[..., dict[str, Any]], text: str | None) -> None:
    record = make("EPSG:32616", UTM, **({} if text is None else {"TIFFTAG_DATETIME": text}))
    item = checked(record)
    assert item.datetime is None
    assert record["properties"]["start_datetime"] < "0002"
    assert record["properties"]["end_datetime"] > "9999"
    assert record["properties"]["geounet:datetime_source"] == "unknown"


def test_a_finished_map_holds_its_item(bundle: ModelBundle, scene: Path, tmp_path: Path) -> None:
    options = replace(Options(), chip_size=64, overlap=16, engine="torch", device="cpu", precision="f32")
    found = map_scene(scene, bundle, tmp_path / "map", options)
    item = checked(json.loads((found.folder / "item.json").read_text(encoding="utf-8")))
    others = {p.name for p in found.folder.iterdir()} - {"item.json", "classes.tif.aux.xml"}
    assert set(item.assets) == others
    with rasterio.open(found.folder / "classes.tif") as raster:
        assert ProjectionExtension.ext(item).transform == list(raster.transform)[:6]
