"""What may be chosen about a map is the same on the command line and over HTTP: names, values, refusals."""

import json
import pickle
from dataclasses import fields
from inspect import signature
from typing import Any

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner

from api.schemas.requests import JobOptions
from geounet.cli.app import app
from geounet.cli.info import info
from geounet.cli.options import flag_of, make_options
from geounet.cli.predict import batch, predict
from geounet.engines.views import VIEWS
from geounet.errors import OptionError
from geounet.options import TTA, Options
from geounet.service.processes.map_task import MapTask, in_json_words
from tiles.vectors.formats import FORMATS

OF_THE_OPERATOR = {"chip_size", "overlap", "engine", "device", "precision", "max_memory", "max_polygons", "trust"}
"""What a client of the service has no say in: how the machine is used."""
OF_THE_SERVICE = {"area"}

TRIED: list[tuple[str, Any, str | None]] = [
    # option, its value over HTTP, the same on the command line (None: the value itself as text)
    *(("stretch", text, None) for text in ("none", "match", "auto", "0,255", "0, 2047", "-5,5.5", "1e2,2e3", "NONE")),
    *(("stretch", text, None) for text in ("", "x", "5", "5,5", "9,1", "1,2,3", "nan,1", "0,inf", "none,match", ",")),
    ("bands", {"red": 5, "green": 3, "blue": 2}, "red=5,green=3,blue=2"),
    ("bands", {"red": 0}, "red=0"),
    ("bands", {"red": 65536}, "red=65536"),
    ("bands", {"Red Band": 1}, "Red Band=1"),
    ("bands", {}, ""),
    *(("assume_crs", text, None) for text in ("EPSG:32613", "epsg:32613", "ESRI:102003", "IAU_2015:30100")),
    ("nodata", [0, 255], "0,255"),
    ("nodata", ["x"], "x"),
    *(("min_area_m2", number, None) for number in (0, 1.5, 1e12, -1, 1e13, float("nan"), float("inf"))),
    *(("simplify_px", number, None) for number in (0, 1.25, 100, -0.1, 101, float("nan"), float("inf"))),
    *(("formats", [name], name) for name in ("gpkg", "geojson", "geojsonl", "fgb", "parquet", "shp", "kml")),
    *(("tta", word, None) for word in ("none", "flips", "d4", "scales", "all", "some", "")),
    *(("force", flag, None) for flag in (True, False)),
    *(("probabilities", flag, None) for flag in (True, False)),
]


def over_http(option: str, value: Any) -> Any:
    """What the mapping gets of it, or the error."""
    try:
        asked = JobOptions.model_validate_json(json.dumps({option: value}))
    except (ValidationError, ValueError) as error:
        return error
    task = MapTask("scene.tif", "scene.tif", "model", "work/map", asked.model_dump(mode="json"), 1000)
    assert MapTask.from_record(json.loads(json.dumps(task.to_record()))) == task
    return getattr(task.map_options(), option)


def by_command(option: str, value: Any) -> Any:
    """The same, by the command line's own parser."""
    seen: list[Options] = []

    def noted(given: dict[str, Any], _: object) -> None:
        seen.append(make_options(given))
        raise typer.Exit(0)

    flag = flag_of(option)
    words = [flag] if value is True else [] if value is False else [f"{flag}={value}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geounet.cli.options.make_options", noted)
        result = CliRunner().invoke(app, ["predict", "x.tif", "--out", "y", *words])
    return getattr(seen[0], option) if seen else result


@pytest.mark.parametrize(("option", "value", "text"), TRIED)
def test_the_same_values_are_taken_and_mean_the_same(option: str, value: Any, text: str | None) -> None:
    http, command = over_http(option, value), by_command(option, value if text is None else text)
    refused = isinstance(http, Exception)
    assert hasattr(command, "exit_code") is refused, (http, command)
    if refused:
        assert command.exit_code == 2
        assert "Traceback" not in command.output
    else:
        assert _plain(http) == _plain(command)


def _plain(value: Any) -> Any:
    """`gpkg` is always made by the service, which reads it."""
    return tuple(v for v in value if v != "gpkg") if isinstance(value, tuple) else value


def test_every_polygon_file_may_be_asked_for() -> None:
    asked = JobOptions.model_validate({"formats": list(FORMATS)})
    task = MapTask("scene.tif", "scene.tif", "model", "work/map", asked.model_dump(mode="json"), 1000)
    assert task.map_options().formats == FORMATS


def test_messages_name_options_as_their_reader_does() -> None:
    assert (
        in_json_words("choose with --min-area 1, or --force")
        == "choose with the option min_area_m2 1, or the option force"
    )
    task = MapTask("/srv/scenes/1.tif", "field.tif", "model", "/srv/work/7/map", {}, 1000)
    told = task.for_owner("/srv/work/7/area.tif: give its CRS with --assume-crs EPSG:..., not /srv/work/7")
    assert told == "field.tif: give its CRS with the option assume_crs EPSG:..., not the job's folder"


def test_every_option_of_the_service_is_one_of_the_map() -> None:
    known = {field.name for field in fields(Options)}
    assert set(JobOptions.model_fields) - OF_THE_SERVICE == known - OF_THE_OPERATOR


def test_the_command_line_offers_every_option_and_info_those_that_say_whether_a_scene_fits() -> None:
    known = {field.name for field in fields(Options)}
    assert known <= {*signature(predict).parameters, "max_polygons"}
    assert known <= {*signature(batch).parameters, "max_polygons"}
    assert {"bands", "assume_crs", "nodata", "stretch", "force", "trust"} <= set(signature(info).parameters)
    assert {flag_of("min_area_m2"), flag_of("assume_crs")} == {"--min-area", "--assume-crs"}


@pytest.mark.parametrize(
    ("option", "value"), [("engine", "magic"), ("precision", "f8"), ("device", "gpu"), ("chip_size", 8)]
)
def test_what_an_option_does_not_take_is_refused_when_options_are_made(option: str, value: Any) -> None:
    with pytest.raises(OptionError) as refused:
        Options(**{option: value})
    assert refused.value.option == option
    assert str(refused.value).startswith(f"{option}: '{value}': ")
    assert pickle.loads(pickle.dumps(refused.value)).option == option


def test_the_values_of_the_table_are_of_both_kinds() -> None:
    verdicts = {
        option: {isinstance(over_http(o, v), Exception) for o, v, _ in TRIED if o == option} for option, _, _ in TRIED
    }
    assert {option for option, found in verdicts.items() if found == {True, False}} >= {
        "stretch",
        "bands",
        "tta",
        "formats",
    }


def test_views_and_formats_are_the_ones_that_there_are() -> None:
    properties = JobOptions.model_json_schema()["properties"]
    assert set(properties["tta"]["enum"]) == set(TTA) == set(VIEWS)
    assert set(properties["formats"]["items"]["enum"]) == set(FORMATS)
