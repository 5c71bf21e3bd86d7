from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geounet.datasets.config import SplitConfig
from geounet.datasets.load import load_data, reduced, without_border
from geounet.datasets.split import Place, split_by_block
from geounet.errors import TrainingError
from geounet.train.config import TrainConfig, check_config, load_config
from geounet.train.sampler import CropSampler

LEGEND = [
    {"value": 1, "name": "built", "color": [200, 0, 0]},
    {"value": 2, "name": "plants", "color": [0, 200, 0]},
    {"value": 3, "name": "water", "color": [0, 0, 200]},
]
SOURCE: dict[str, Any] = {
    "name": "town",
    "images": "images",
    "labels": "labels",
    "classes": {"0": "ignore", "1": "built", "2": "plants", "3": "water"},
    "gsd_m": [0.5, 0.5],
    "split": {"val": ["d.*"]},
}


def config_of(**source: Any) -> TrainConfig:
    record = {"name": "t", "gsd_m": [0.5, 1.0], "legend": LEGEND, "source": [{**SOURCE, **source}]}
    return check_config(record, "test.toml")


def write_tiff(path: Path, values: np.ndarray[Any, Any], left: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=bands.shape[0],
        height=bands.shape[1],
        width=bands.shape[2],
        dtype=bands.dtype,
        crs="EPSG:32640",
        transform=Affine(0.5, 0, 400_000 + left, 0, -0.5, 2_700_000),
    ) as file:
        file.write(bands)


def label_image(seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    label = np.zeros((40, 48), dtype=np.uint8)
    label[:20, :24], label[:20, 24:], label[20:, :24] = 1, 2, 3
    return np.roll(label, seed, axis=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for index, name in enumerate("abcd"):
        write_tiff(tmp_path / f"images/{name}.tif", rng.integers(1, 255, (3, 40, 48), dtype=np.uint8), index * 100.0)
        write_tiff(tmp_path / f"labels/{name}.tif", label_image(index), index * 100.0)
    return tmp_path


def test_a_source_is_read_and_split_by_file(folder: Path) -> None:
    data = load_data(config_of(), folder)
    (source,) = data.sources
    assert [s.name for s in source.train] == ["a.tif", "b.tif", "c.tif"]
    assert [s.name for s in source.val] == ["d.tif"]
    np.testing.assert_array_equal(source.train[0].codes.numpy(), label_image())
    assert data.train_pixels().tolist() == pytest.approx([1e8 / 4] * 3)


Spoil = Callable[[Path], None]


def missing_label(folder: Path) -> None:
    (folder / "labels/b.tif").unlink()


def other_size(folder: Path) -> None:
    write_tiff(folder / "labels/b.tif", label_image()[:30], 100.0)


def strange_value(folder: Path) -> None:
    write_tiff(folder / "labels/b.tif", label_image() + np.uint8(4), 100.0)


def damaged(folder: Path) -> None:
    (folder / "images/b.tif").write_bytes(b"II*\0nothing of the kind")


def same_ground(folder: Path) -> None:
    write_tiff(folder / "images/d.tif", np.full((3, 40, 48), 9, dtype=np.uint8), 110.0)


def no_water(folder: Path) -> None:
    for name in "abcd":
        label = label_image()
        label[label == 3] = 0
        write_tiff(folder / f"labels/{name}.tif", label)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (missing_label, r"b\.tif has no label: .*labels.b\.tif does not exist"),
        (other_size, r"labels.b\.tif is 48 x 30 px, but .*images.b\.tif is 48 x 40 px"),
        (strange_value, r"labels.b\.tif: label value 4 has no class"),
        (damaged, r"images.b\.tif cannot be read as an image"),
        (same_ground, r"d\.tif \(val\) and b\.tif \(train\) show the same ground"),
        (no_water, r"class 'water' has no pixel in any training label"),
    ],
)
def test_mistakes_are_told_before_the_first_step(folder: Path, spoil: Spoil, told: str) -> None:
    spoil(folder)
    with pytest.raises(TrainingError, match=told) as caught:
        load_data(config_of(), folder)
    assert "\n" not in str(caught.value)


def test_corrections_of_a_bundle_need_not_hold_every_class(folder: Path) -> None:
    no_water(folder)
    config = config_of().model_copy(update={"init": "overhead-rgb"})
    assert load_data(config, folder).train_pixels().tolist()[2] == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": "nowhere"}, r"is no folder; give the data folder"),
        ({"pattern": "*.png"}, r"no image matches"),
        ({"bands": [1, 2, 7]}, r"has 3 bands, band 7 does not exist"),
        ({"bands": [1, 2]}, r"names 2 bands, the model has 3"),
        ({"split": {"val": ["z*"]}}, r"pattern 'z\*' matches no image"),
        ({"classes": {"1": "lawn"}}, r"source 'town', classes: 'lawn' is no class of the legend"),
        ({"split": {"csv": "split.csv"}}, r"split\.csv cannot be read"),
    ],
)
def test_mistakes_of_the_configuration_meet_the_data(folder: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        load_data(config_of(**change), folder)


def test_a_split_needs_exactly_one_way() -> None:
    with pytest.raises(TrainingError, match=r"test\.toml: source\.0\.split: .*exactly one of"):
        config_of(split={"val": ["a*"], "none": True})


def test_a_config_that_is_no_toml_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("name = \n")
    with pytest.raises(TrainingError, match=r"x\.toml cannot be read as TOML"):
        load_config(tmp_path / "x.toml")
    with pytest.raises(TrainingError, match=r"none\.toml does not exist"):
        load_config(tmp_path / "none.toml")


def test_splits_by_a_table_leave_out_what_it_does_not_name(folder: Path) -> None:
    (folder / "split.csv").write_text("file,split\na.tif,train\nb.tif,val\n")
    (source,) = load_data(config_of(split={"csv": "split.csv"}), folder).sources
    assert [s.name for s in (*source.train, *source.val)] == ["a.tif", "b.tif"]


def test_splits_by_a_table_leave_the_test_part_out_and_ask_it_for_no_label(folder: Path) -> None:
    (folder / "split.csv").write_text("file,split\na.tif,train\nb.tif,val\nc.tif,test\n")
    for name in "cd":  # d is not named
        (folder / f"labels/{name}.tif").unlink()
    (source,) = load_data(config_of(split={"csv": "split.csv"}), folder).sources
    assert [s.name for s in source.train] == ["a.tif"]
    assert [s.name for s in source.val] == ["b.tif"]


def test_a_word_that_a_split_table_does_not_know_is_told(folder: Path) -> None:
    (folder / "split.csv").write_text("file,split\na.tif,train\nb.tif,validation\n")
    with pytest.raises(TrainingError, match=r"split\.csv puts b\.tif 'validation': column 'split' may hold train, val"):
        load_data(config_of(split={"csv": "split.csv"}), folder)


def test_files_of_one_group_are_one_place_to_draw_from(folder: Path) -> None:
    (folder / "index.csv").write_text("name,spot\na,1\nb,1\nc,2\nd,3\n")
    (source,) = load_data(config_of(group="index.csv:name:spot"), folder).sources
    assert [[s.name for s in group] for group in source.groups] == [["a.tif", "b.tif"], ["c.tif"]]


def test_a_group_in_both_parts_is_refused(folder: Path) -> None:
    (folder / "index.csv").write_text("name,spot\na,1\nb,1\nc,2\nd,2\n")
    with pytest.raises(TrainingError, match=r"town/2 is both in train and in val"):
        load_data(config_of(group="index.csv:name:spot"), folder)


def test_colour_masks_in_png(folder: Path) -> None:
    for name in "abcd":
        rgb = np.zeros((40, 48, 3), dtype=np.uint8)
        rgb[:20], rgb[20:, :24], rgb[20:, 24:] = (1, 2, 3), (4, 5, 6), (7, 8, 9)
        Image.fromarray(rgb).save(folder / f"labels/{name}.png")
    colours = {"#010203": "built", "#040506": "plants", "#070809": "water"}
    data = load_data(config_of(label_suffix=".png", classes=colours, split={"none": True}), folder)
    codes = data.sources[0].train[0].codes.numpy()
    assert [data.codes.describe(int(codes[r, c])) for r, c in ((0, 0), (30, 0), (30, 47))] == [
        "built",
        "plants",
        "water",
    ]
    del colours["#070809"]
    with pytest.raises(TrainingError, match=r"mask colour #070809 has no class"):
        load_data(config_of(label_suffix=".png", classes=colours, split={"none": True}), folder)


def test_polygons_are_drawn_on_the_image_grid(folder: Path) -> None:
    import geopandas
    from shapely.geometry import box

    x, y = 400_000.0, 2_700_000.0
    shapes = [box(x, y - 10, x + 12, y), box(x + 12, y - 10, x + 24, y), box(x, y - 20, x + 12, y - 10)]
    frame = geopandas.GeoDataFrame({"class": ["1", "2", "3"]}, geometry=shapes, crs="EPSG:32640").to_crs(4326)
    frame.to_file(folder / "labels.geojson", driver="GeoJSON")
    data = load_data(config_of(labels="labels.geojson", pattern="a.tif", split={"none": True}), folder)
    np.testing.assert_array_equal(data.sources[0].train[0].codes.numpy(), label_image())


boxes = st.builds(lambda x, y: Place("utm", x, y, x + 20, y + 20), st.integers(0, 500), st.integers(0, 500))


class Spot:
    def __init__(self, place: Place) -> None:
        self.name, self.place = "spot", place


@given(st.lists(boxes, min_size=2, max_size=30), st.floats(10, 200), st.floats(0, 60), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_blocks_keep_train_and_val_a_gap_apart(places: list[Place], size: float, gap: float, nth: int) -> None:
    split = SplitConfig(block_m=size, gap_m=gap, nth=nth)
    try:
        train, val, between = split_by_block(spots := [Spot(p) for p in places], split, "s")
    except TrainingError:
        return  # too little ground for such blocks
    assert {id(s) for s in spots} == {id(s) for s in (*train, *val, *between)}
    assert len(spots) == len(train) + len(val) + len(between)
    assert all(min(a.place.distance(b.place) for b in val) <= gap for a in between)
    assert all(a.place.distance(b.place) > gap for a in train for b in val)
    assert {s.place.block(size) for s in train}.isdisjoint({s.place.block(size) for s in val})


def test_borders_are_ignored_to_the_width_asked_for() -> None:
    import torch

    codes = torch.ones(9, 20, dtype=torch.uint8)
    codes[:, 10:] = 2
    out = without_border(codes, 3).numpy()
    assert (out[:, :7] == 1).all()
    assert (out[:, 7:13] == 0).all()
    assert (out[:, 13:] == 2).all()
    image, small = reduced(torch.full((3, 9, 20), 7, dtype=torch.uint8), codes, 4)
    assert image.shape == (3, 2, 5)
    assert small.shape == (2, 5)
    assert (image == 7).all()


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_crops_depend_on_seed_and_step_alone(step: int) -> None:
    sampler, again = _samplers()
    one, two = sampler.batch(step), again.batch(step)
    assert one.images.shape == (2, 3, 64, 64)
    assert one.codes.shape == (2, 64, 64)
    assert bool((one.images == two.images).all())
    assert bool((one.codes == two.codes).all())


def _samplers() -> tuple[CropSampler, CropSampler]:
    import torch

    from geounet.datasets.config import SourceConfig
    from geounet.datasets.labels import LabelCodes
    from geounet.datasets.load import DataSet, Sample, Source
    from geounet.train.config import AugmentConfig, SamplingConfig

    codes = LabelCodes.of(("built", "plants", "water"))
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 255, (3, 40, 48), dtype=np.uint8))
    sample = Sample("a", "a", image, torch.from_numpy(label_image()), None)
    data = DataSet(codes, (Source(SourceConfig(**SOURCE), (sample,), ()),))
    return tuple(  # type: ignore[return-value]
        CropSampler(data, SamplingConfig(crop=64, batch=2), AugmentConfig(), 1) for _ in range(2)
    )
