"""The walk in docs/service.md leads somewhere: its box and its point lie in the demo scene."""

import re
from pathlib import Path

import pytest
import rasterio
from rasterio.warp import transform_bounds

PAGE = Path(__file__).parents[2] / "docs" / "service.md"


def test_box_and_point_of_the_walk_hit_the_demo_scene() -> None:
    dgsamples = pytest.importorskip("dgsamples")
    scene = next(Path(dgsamples.wv3_longmont_1k["path"]).glob("*_MUL/*.TIF"))
    with rasterio.open(scene) as dataset:
        west, south, east, north = transform_bounds(dataset.crs, "OGC:CRS84", *dataset.bounds)
    text = PAGE.read_text(encoding="utf-8")
    points = re.findall(r"lon=(-?[\d.]+)&lat=(-?[\d.]+)", text)
    boxes = re.findall(r"bbox=(-?[\d.]+),(-?[\d.]+),(-?[\d.]+),(-?[\d.]+)", text)
    assert points
    assert boxes
    for lon, lat in points:
        assert west < float(lon) < east
        assert south < float(lat) < north
    for box in boxes:
        left, bottom, right, top = map(float, box)
        assert west < left < right < east
        assert south < bottom < top < north
