"""Metres, square metres and degrees of a grid are those of the ellipsoid, whatever the CRS counts in."""

import math

import pytest
from affine import Affine
from hypothesis import assume, given
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.crs import CRS

from tiles.georef import Georef

WGS84 = Geod(ellps="WGS84")
BOUND = (
    "+proj=tmerc +lat_0=0 +lon_0=9 +k=1 +x_0=3500000 +y_0=0 +ellps=bessel "
    "+towgs84=598.1,73.7,418.2,0.202,0.045,-2.455,6.7 +units=m +type=crs"
)


def utm_scene(lon: float, lat: float, pixel: float, turn: float) -> Georef:
    """A turned 101 x 201 grid whose centre lies at a longitude and latitude, in that place's UTM zone."""
    zone = int((lon + 180) // 6) % 60 + 1
    crs = CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)
    x, y = Transformer.from_crs(4326, crs.to_epsg(), always_xy=True).transform(lon, lat)
    a, b = pixel * math.cos(turn), pixel * math.sin(turn)
    return Georef(crs, Affine(a, b, x - 201 / 2 * a - 101 / 2 * b, b, -a, y - 201 / 2 * b + 101 / 2 * a), (101, 201))


@given(lon=st.floats(-179.9, 179.9), lat=st.floats(-79, 83), pixel=st.floats(0.05, 10), turn=st.floats(0, 2 * math.pi))
def test_a_pixel_measures_what_its_neighbours_are_apart(lon: float, lat: float, pixel: float, turn: float) -> None:
    georef = utm_scene(lon, lat, pixel, turn)
    down, along = georef.metres_per_pixel()
    assert down == pytest.approx(pixel, rel=0.0015)  # UTM's own scale error stays below 0.1 % in its zone
    assert along == pytest.approx(pixel, rel=0.0015)
    assert georef.gsd == pytest.approx(math.sqrt(down * along))
    assert georef.pixel_area_m2(100.5, 50.5) == pytest.approx(down * along, rel=1e-4)
    found_lon, found_lat = georef.lonlat(100.5, 50.5)
    assert found_lat == pytest.approx(lat, abs=1e-6)
    assert math.remainder(float(found_lon) - lon, 360) == pytest.approx(0, abs=1e-6)


@given(lon=st.floats(-180, 180), lat=st.floats(-85, 85), size=st.floats(1e-6, 0.01), ratio=st.floats(0.3, 3))
def test_degrees_agree_with_a_geodesic_polygon(lon: float, lat: float, size: float, ratio: float) -> None:
    t = Affine(size * ratio, 0, lon, 0, -size, lat)
    georef = Georef(CRS.from_epsg(4326), t, (1, 1))
    corners = [(lon, lat), (lon, lat - size), (lon + size * ratio, lat - size), (lon + size * ratio, lat)]
    xs, ys = zip(*corners, strict=True)
    area, _ = WGS84.polygon_area_perimeter(xs, ys)
    assume(area > 1e-2)
    assert georef.pixel_area_m2(0.5, 0.5) == pytest.approx(area, rel=2e-3)
    down, along = georef.metres_per_pixel()
    assert down * along == pytest.approx(area, rel=2e-3)


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        ("EPSG:4807", Affine(1e-5, 0, 2, 0, -1e-5, 52), (1.0003, 0.6863)),  # gradians from Paris
        ("EPSG:32617+5703", Affine(0.6, 0, 3e5, 0, -0.6, 4.3e6), (0.6, 0.6)),  # with heights
        (BOUND, Affine(0.5, 0, 3.5e6, 0, -0.5, 5.5e6), (0.5, 0.5)),  # with a datum shift
        ("EPSG:6539", Affine(1, 0, 980_000, 0, -1, 200_000), (0.3048, 0.3048)),  # US survey feet
        ("EPSG:3995", Affine(1, 0, -2e6, 0, -1, 2e6), (0.98, 0.98)),  # polar stereographic
        ("ESRI:54009", Affine(10, 0, 0, 0, -10, 0), (10.0, 10.0)),  # Mollweide: equal area, not equal length
    ],
)
def test_units_other_than_metres_and_degrees(crs: str, transform: Affine, metres: tuple[float, float]) -> None:
    georef = Georef(CRS.from_user_input(crs), transform, (10, 10))
    down, along = georef.metres_per_pixel()
    assert down * along == pytest.approx(metres[0] * metres[1], rel=0.03)
    assert georef.pixel_area_m2(5, 5) == pytest.approx(down * along, rel=0.02)


def test_bounds_hold_all_corners_of_a_turned_grid() -> None:
    georef = Georef(CRS.from_epsg(32617), Affine(3, 4, 100, 4, -3, 200), (10, 20))
    assert georef.bounds() == (100, 170, 200, 280)
