"""A pre-flight passes clean scenes without a warning and catches what would spoil a map."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from affine import Affine

from geounet.errors import MismatchError
from geounet.mapping import preflight as preflight_module
from geounet.mapping.cost import Cost
from geounet.mapping.preflight import Preflight, examine, inspect_scene, preflight
from geounet.model.bundle import ModelBundle, ModelCard
from geounet.model.stretch import LEVELS
from geounet.options import Options
from geounet.outputs.check import Check
from tiles.errors import SceneError
from tiles.scene.scene import open_scene
from tiles.window import Window

GeoTiff = Callable[..., Path]

# What the red, green and blue of a landscape look like: air and shadow are blue, soil and roofs red.
LOW, SPREAD = np.array([30, 45, 55]), np.array([180, 165, 140])


@dataclass(frozen=True)
class Land:
    """A made landscape: fields of even brightness, with the colours above."""

    rows: int = 120
    cols: int = 150
    seed: int = 4
    image: npt.NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        light = np.kron(rng.beta(2.0, 2.6, (self.rows // 10, self.cols // 10)), np.ones((10, 10)))
        noise = rng.normal(0, 0.03, (3, self.rows, self.cols))
        image = LOW[:, None, None] + SPREAD[:, None, None] * np.clip(light + noise, 0, 1)
        object.__setattr__(self, "image", image)


def model(**changes: Any) -> ModelBundle:
    """A bundle trained on such landscapes; nothing here opens its weights."""
    pixels = Land(rows=200, cols=200, seed=9).image.reshape(3, -1)
    card = ModelCard.model_validate(
        {
            "name": "meadow",
            "bands": ["red", "green", "blue"],
            "normalisation": {"mean": [127.0] * 3, "std": [50.0] * 3},
            "quantiles": {"levels": LEVELS, "values": np.quantile(pixels, LEVELS, axis=1).T.tolist()},
            "legend": [{"value": i, "name": n, "color": (0, i, 0)} for i, n in enumerate(("tree", "water"))],
            "gsd_m": (0.3, 1.2),
            "weights": {"sha256": "0" * 64},
            **changes,
        }
    )
    return ModelBundle(Path("meadow"), card)


def checks(path: Path, bundle: ModelBundle | None = None, **wishes: Any) -> list[Check]:
    chosen, bundle = Options(**wishes), bundle or model()
    given: dict[str, Any] = {"bands": chosen.bands, "force": chosen.force, "nodata": chosen.nodata}
    with open_scene(path, bundle.bands, gsd_range=bundle.card.gsd_m, **given) as scene:
        return list(examine(scene, bundle, chosen).rows)


def troubles(rows: list[Check]) -> list[str]:
    return [f"{row.status}: {row.topic}: {row.text}" for row in rows if row.status not in ("ok", "adjusted")]


CLEAN: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[Any]]] = {
    "8 bit": lambda image: image.astype(np.uint8),
    "11 bit in 16": lambda image: (image * 8).astype(np.uint16),
    "reflectance": lambda image: (image / 400).astype(np.float32),
    "signed": lambda image: (image * 20).astype(np.int16),
    "with 1000 added": lambda image: (image * 12 + 1000).astype(np.uint16),
}


@pytest.mark.parametrize("kind", CLEAN)
def test_a_clean_scene_passes_without_a_warning(geotiff: GeoTiff, kind: str) -> None:
    rows = checks(geotiff(CLEAN[kind](Land().image), photometric="RGB"))
    assert troubles(rows) == []
    assert {"bands", "position", "resolution", "valid pixels", "values", "size"} <= {row.topic for row in rows}


SPOILED: dict[str, tuple[Callable[[npt.NDArray[np.float64]], npt.NDArray[Any]], str]] = {
    "8-bit blue, green, red": (lambda i: i[::-1].astype(np.uint8), "red and blue look swapped"),
    "16-bit blue, green, red": (lambda i: (i[::-1] * 8).astype(np.uint16), "red and blue look swapped"),
    "16 bit cut to 8": (lambda i: (i * 8).astype(np.uint16).view(np.uint8)[:, :, 1::2].copy(), "much darker"),
    "16 bit clipped at 255": (lambda i: np.clip(i * 8, 0, 255).astype(np.uint8), "much brighter"),
    "half black": (lambda i: np.where(np.arange(150) < 75, 0, i * 8).astype(np.uint16), "50% of the pixels are 0"),
    "half black, 8 bit": (lambda i: np.where(np.arange(150) < 75, 0, i).astype(np.uint8), "50% of the pixels are 0"),
    "undeclared -9999": (lambda i: np.where(np.arange(150) < 9, -9999, i).astype(np.float32), "6% of the pixels are"),
    "no contrast": (lambda i: (100 + i / 40).astype(np.uint8), "next to no contrast"),
    "one flat band": (lambda i: np.stack([i[0], i[1], i[2] * 0 + 80]).astype(np.uint8), "blue: one value"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPOILED)
def test_what_would_spoil_a_map_is_caught_with_a_remedy(geotiff: GeoTiff, kind: str) -> None:
    spoil, words = SPOILED[kind]
    rows = checks(geotiff(spoil(Land().image), photometric="RGB"))
    found = [row for row in rows if row.status == "warning" and words in row.text]
    assert found, troubles(rows)
    assert all(row.remedy for row in found)


def _black_corner(dtype: str, share: float) -> npt.NDArray[Any]:
    """A landscape with a ragged black corner, in 8 bits; about `share` of it."""
    image = Land(rows=320, cols=320).image
    rows, cols = np.mgrid[:320, :320]
    ragged = rows + cols + np.random.default_rng(3).integers(0, 9, (320, 320)) < 320 * (2 * share) ** 0.5
    return np.where(ragged, 0, np.maximum(image, 25)).astype(dtype)


EMPTY: dict[str, tuple[npt.NDArray[Any], dict[str, Any]]] = {
    "smeared by JPEG": (_black_corner("uint8", 0.08), {"nodata": 0, "compress": "jpeg", "photometric": "ycbcr"}),
    "not declared": (_black_corner("uint8", 0.2), {"photometric": "RGB"}),
    "not declared, a fraction": (
        np.where(_black_corner("float32", 0.08) == 0, np.float32(-12345.678), _black_corner("float32", 0.08) / 255),
        {"photometric": "RGB"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", EMPTY)
def test_the_remedy_for_nodata_that_marks_nothing_works(geotiff: GeoTiff, kind: str) -> None:
    values, written = EMPTY[kind]
    path = geotiff(values, **written)
    told = [row for row in checks(path) if row.status == "warning"]
    (remedy,) = (row.remedy for row in told if "--nodata" in row.remedy)
    given = re.search(r"--nodata (\S+?),?(?:$|\s)", remedy)
    assert given is not None
    nodata = tuple(float(part) for part in given[1].split(","))
    assert troubles(checks(path, nodata=nodata)) == []
    with open_scene(path, ("red", "green", "blue"), nodata=nodata) as scene:
        valid = scene.read(Window(0, 0, 320, 320)).valid
    np.testing.assert_array_equal(valid[:20, :20], np.zeros((20, 20), np.bool_))
    assert valid[200:, 200:].all()


def test_a_nodata_value_beyond_the_counts_is_told_with_the_value_it_should_be(
    geotiff: GeoTiff, declare_nodata: Callable[[Path, str], None]
) -> None:
    path = geotiff(_black_corner("uint8", 0.05), nodata=77, photometric="RGB")
    declare_nodata(path, "-9999")
    told = [row for row in checks(path) if row.topic == "nodata"]
    assert [row.status for row in told] == ["warning", "warning"]
    assert "nodata value -9999" in told[0].text
    assert told[1].remedy == "if they are empty: --nodata 0"
    assert not [row for row in checks(path, nodata=(0.0,)) if row.topic == "nodata"]


def test_an_added_thousand_is_told(geotiff: GeoTiff) -> None:
    path = geotiff(CLEAN["with 1000 added"](Land().image), photometric="RGB")
    assert any(row.status == "adjusted" and "an offset was added" in row.text for row in checks(path))
    rows = checks(path, stretch="0,4000")
    assert any(row.status == "warning" and "an offset was added" in row.text for row in rows)
    assert troubles(checks(path, stretch="1200,4500")) == []


def test_an_empty_scene_is_a_warning_not_an_error(geotiff: GeoTiff) -> None:
    rows = checks(geotiff(np.zeros((3, 20, 20), np.uint16), nodata=0, photometric="RGB"))
    assert [row.text for row in rows if row.status == "warning"] == [
        "none was found (nodata value 0): the map will be empty"
    ]


def utm(metres: float) -> Affine:
    return Affine(metres, 0, 3e5, 0, -metres, 4.3e6)


def test_too_coarse_is_refused_with_the_model_that_would_fit(geotiff: GeoTiff, monkeypatch: pytest.MonkeyPatch) -> None:
    path = geotiff(CLEAN["8 bit"](Land().image), transform=utm(10), photometric="RGB")
    installed = {"meadow": model(), "sentinel": model(name="sentinel", gsd_m=(5, 20))}
    monkeypatch.setattr(preflight_module, "shipped_bundles", lambda: tuple(installed))
    monkeypatch.setattr(preflight_module, "ModelBundle", SimpleNamespace(load=installed.__getitem__))
    bundle = installed["meadow"]
    with open_scene(path, bundle.bands, gsd_range=bundle.card.gsd_m) as scene:
        with pytest.raises(MismatchError) as caught:
            preflight(scene, bundle, Options())
        text = str(caught.value)
        assert all(part in text for part in (str(path), "10 m", "0.3-1.2 m", "--model sentinel", "--force"))
        forced = preflight(scene, bundle, Options(force=True))
    assert forced.refused == ()
    assert any(row.status == "warning" and row.text.endswith("(forced)") for row in forced.rows)


def test_a_little_too_coarse_is_a_warning_and_too_fine_is_adjusted(geotiff: GeoTiff) -> None:
    image = CLEAN["8 bit"](Land().image)
    for metres, status in ((0.1, "adjusted"), (0.6, "ok"), (1.21, "ok"), (2.0, "warning"), (3.0, "refused")):
        rows = checks(geotiff(image, transform=utm(metres), photometric="RGB"))
        assert [row.status for row in rows if row.topic == "resolution"] == [status]


def test_squeezed_pixels_are_warned_of(geotiff: GeoTiff) -> None:
    path = geotiff(
        CLEAN["8 bit"](Land().image), crs="EPSG:4326", transform=Affine(1e-5, 0, 10, 0, -1e-5, 65), photometric="RGB"
    )
    assert any("squeezed" in row.text for row in checks(path))


def test_a_pole_does_not_fit_into_geojson_and_that_is_told_before_the_work(geotiff: GeoTiff) -> None:
    image = CLEAN["8 bit"](Land().image)
    path = geotiff(image, crs="EPSG:3031", transform=Affine(0.6, 0, -30, 0, -0.6, 30), photometric="RGB")
    bundle = model()
    with open_scene(path, bundle.bands) as scene:
        for force in (False, True):
            with pytest.raises(MismatchError, match="holds a pole"):
                preflight(scene, bundle, Options(force=force))
        assert preflight(scene, bundle, Options(formats=("gpkg",))).refused == ()


def test_costs_are_told_where_they_are_known(geotiff: GeoTiff) -> None:
    bundle = model()
    path = geotiff(CLEAN["8 bit"](Land().image), photometric="RGB")
    with open_scene(path, bundle.bands) as scene:
        rows = examine(scene, bundle, Options(), Cost(1_500_000_000, 40_000_000, 400.0)).rows
    assert rows[-1].text == "about 7 min, 1.5 GB of memory, 0.04 GB of disk"


def test_a_record_is_plain_and_the_stretch_is_the_one_that_is_used(geotiff: GeoTiff) -> None:
    bundle = model()
    with open_scene(geotiff(CLEAN["11 bit in 16"](Land().image), photometric="RGB"), bundle.bands) as scene:
        found = preflight(scene, bundle, Options(stretch="0,2047"))
    assert found.stretch.bands[0].high == 2047
    assert found.rows[0].as_record() == {
        "topic": "bands",
        "status": "ok",
        "text": "red = band 1, green = band 2, blue = band 3 (by name)",
        "remedy": "",
    }
    assert isinstance(found, Preflight)
    assert found.clean


def test_inspecting_a_file_whose_bands_do_not_match_still_tells_what_is_in_it(geotiff: GeoTiff) -> None:
    path = geotiff(np.full((8, 30, 30), 5, np.uint16))
    found = inspect_scene(path, model(), Options())
    assert found.refused
    assert found.rows[0].topic == "bands"
    assert "--bands red=5,green=3,blue=2" in found.rows[0].remedy
    record = found.as_record()
    assert record["fits"] is False
    assert len(cast("list[Any]", record["file"]["bands"])) == 8
    assert not inspect_scene(path, model(), Options(bands={"red": 5, "green": 3, "blue": 2})).refused


def test_inspecting_a_file_without_a_place_is_refused(geotiff: GeoTiff) -> None:
    path = geotiff(np.full((3, 30, 30), 5, np.uint8), crs=None, photometric="RGB")
    with pytest.raises(SceneError, match="--assume-crs"):
        inspect_scene(path, model(), Options())
    assert inspect_scene(path, model(), Options(assume_crs="EPSG:32617")).rows[1].status == "adjusted"
