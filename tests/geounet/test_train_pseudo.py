import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from typer.testing import CliRunner

from geounet.cli.app import app
from geounet.datasets.config import SplitConfig
from geounet.datasets.labels import LabelCodes
from geounet.datasets.load import load_data
from geounet.errors import TrainingError
from geounet.model.bundle import ModelBundle
from geounet.train.config import TrainConfig, check_config
from geounet.train.pseudo import pseudo_label, write_pseudo_labels

CODES = LabelCodes.of(("building", "tree", "water")).with_sets(["building|water", "!tree"])


@given(
    p=hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(0.0625, 1, width=32)),
    known=hnp.arrays(np.uint8, (4, 5), elements=st.integers(0, len(CODES.sets) - 1)),
    confidence=st.floats(0.4, 0.95),
)
def test_pseudo_labels_stay_within_the_labels_that_were_there(
    p: np.ndarray, known: np.ndarray, confidence: float
) -> None:
    p = p / p.sum(axis=0)
    found = pseudo_label(p, known, CODES, confidence)
    for old, new, scores in zip(known.ravel(), found.ravel(), p.reshape(3, -1).T, strict=True):
        assert CODES.sets[new] <= CODES.sets[old]
        left = scores[sorted(CODES.sets[old])].sum()
        best = max(scores[i] / left for i in CODES.sets[old])
        if len(CODES.sets[new]) > 1:
            assert new == old
            assert best < confidence + 1e-5 or left < 0.5 + 1e-5
        elif new != old:
            assert scores[min(CODES.sets[new])] / left == best >= confidence - 1e-5
            assert left >= 0.5 - 1e-5


def write_source(folder: Path) -> TrainConfig:
    """Three images of 80 px, two of them of the same ground; labels say "no tree" on the left half, nothing right."""
    rng = np.random.default_rng(3)
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    lines = ["file,place"]
    for name, place in (("a", "1"), ("b", "1"), ("c", "2")):
        Image.fromarray(rng.integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(folder / "images" / f"{name}.png")
        label = np.zeros((80, 80), dtype=np.uint8)
        label[:, :40] = 3
        Image.fromarray(label).save(folder / "labels" / f"{name}.png")
        lines.append(f"{name}.png,{place}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    legend = [{"value": i + 1, "name": n, "color": (i, i, i)} for i, n in enumerate(("building", "tree", "water"))]
    source = {
        "name": "s",
        "images": "images",
        "labels": "labels",
        "classes": {"0": "ignore", "3": "!tree"},
        "group": "index.csv:file:place",
        "gsd_m": (0.5, 0.5),
        "split": {"none": True},
    }
    return check_config({"name": "t", "gsd_m": (0.3, 1.0), "legend": legend, "source": [source]}, "test")


def test_a_source_is_labelled_and_can_be_trained_on(bundle: ModelBundle, tmp_path: Path) -> None:
    config = write_source(tmp_path)
    made = write_pseudo_labels(bundle, config, tmp_path, "s", tmp_path / "out", confidence=0.0, tta="flips")
    assert made.images == 3
    a, b, c = (np.asarray(Image.open(tmp_path / "out" / f"{n}.png")) for n in "abc")
    assert not np.isin(a[:, :40], [0, 2]).any()  # never the one that was ruled out
    assert np.isin(a[:, 40:], [1, 2, 3]).all()
    np.testing.assert_array_equal(a, b)  # one label for one ground
    assert (a != c).any()
    source = config.source[0].model_copy(update={"labels": "out", "classes": made.classes})
    again = load_data(config.model_copy(update={"source": (source,), "init": "toy"}), tmp_path).sources[0]
    np.testing.assert_array_equal(again.train[0].codes.numpy(), a)


def test_unsure_pixels_keep_their_labels(bundle: ModelBundle, tmp_path: Path) -> None:
    config = write_source(tmp_path)
    made = write_pseudo_labels(bundle, config, tmp_path, "s", tmp_path / "out", confidence=1.0, tta="none")
    assert made.shares == pytest.approx({"ignore": 0.5, "!tree": 0.5})


def test_what_cannot_be_labelled_is_told(bundle: ModelBundle, tmp_path: Path) -> None:
    config = write_source(tmp_path)
    with pytest.raises(TrainingError, match="no source 'other' in the configuration, but s"):
        write_pseudo_labels(bundle, config, tmp_path, "other", tmp_path / "out")
    with pytest.raises(TrainingError, match="exists: give a new folder"):
        write_pseudo_labels(bundle, config, tmp_path, "s", tmp_path / "images")
    other = config.model_copy(update={"legend": config.legend[:2]})
    with pytest.raises(TrainingError, match="has another legend"):
        write_pseudo_labels(bundle, other, tmp_path, "s", tmp_path / "out")
    coarse = config.model_copy(update={"source": (config.source[0].model_copy(update={"reduce": 2}),)})
    with pytest.raises(TrainingError, match="coarsened on reading"):
        write_pseudo_labels(bundle, coarse, tmp_path, "s", tmp_path / "out")


def test_what_is_held_out_keeps_its_labels_and_the_split_still_works(bundle: ModelBundle, tmp_path: Path) -> None:
    config = write_source(tmp_path)
    source = config.source[0].model_copy(update={"split": SplitConfig(val=("c.*",)), "group": None})
    config = config.model_copy(update={"source": (source,)})
    made = write_pseudo_labels(bundle, config, tmp_path, "s", tmp_path / "out", confidence=0.0, tta="none")
    assert made.images == 2
    again = source.model_copy(update={"labels": "out", "classes": made.classes})
    config = config.model_copy(update={"source": (again,), "init": bundle.card.name})
    data = load_data(config, tmp_path)
    (held_out,) = data.sources[0].val
    left, right = held_out.codes[:, :40].numpy(), held_out.codes[:, 40:].numpy()
    assert {data.codes.describe(int(c)) for c in np.unique(left)} == {"!tree"}
    assert {data.codes.describe(int(c)) for c in np.unique(right)} == {"ignore"}


def test_what_lies_in_the_gap_of_a_block_split_keeps_its_labels_too(bundle: ModelBundle, tmp_path: Path) -> None:
    config = write_source(tmp_path)
    for index, name in enumerate("abc"):  # three blocks of 100 m in a row, the first one is val, the second too near
        pixels = np.moveaxis(np.asarray(Image.open(tmp_path / "images" / f"{name}.png")), -1, 0)
        transform = Affine(0.5, 0, 400_010 + 100 * index, 0, -0.5, 2_700_090)
        profile = {"driver": "GTiff", "count": 3, "height": 80, "width": 80, "dtype": "uint8", "crs": "EPSG:32640"}
        with rasterio.open(tmp_path / "images" / f"{name}.tif", "w", transform=transform, **profile) as file:
            file.write(pixels)
    split = SplitConfig(block_m=100, nth=3, gap_m=80)
    change = {"split": split, "group": None, "pattern": "*.tif", "label_suffix": ".png"}
    config = config.model_copy(update={"source": (config.source[0].model_copy(update=change),)})
    made = write_pseudo_labels(bundle, config, tmp_path, "s", tmp_path / "out", confidence=0.0, tta="none")
    assert made.images == 1
    kept = next(code for code, name in made.classes.items() if name == "!tree")
    for name in "ab":
        label = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        assert (label[:, :40] == int(kept)).all()
        assert not label[:, 40:].any()
    assert np.isin(np.asarray(Image.open(tmp_path / "out" / "c.png")), [1, 3]).any()  # the one that was labelled


def test_two_images_that_would_share_a_label_are_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    config = write_source(tmp_path)
    Image.open(tmp_path / "images" / "a.png").save(tmp_path / "images" / "a.jpg")
    with (tmp_path / "index.csv").open("a") as index:
        index.write("a.jpg,1\n")
    source = config.source[0].model_copy(update={"label_suffix": ".png"})
    config = config.model_copy(update={"source": (source,)})
    with pytest.raises(TrainingError, match=r"a\.(jpg|png) and a\.(jpg|png) differ in their suffix alone"):
        write_pseudo_labels(bundle, config, tmp_path, "s", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.part").exists()


def test_the_command_says_what_to_write_next(bundle: ModelBundle, tmp_path: Path) -> None:
    import tomllib

    write_source(tmp_path)
    (tmp_path / "c.toml").write_text(
        """
name = "t"
gsd_m = [0.3, 1.0]
legend = [
  { value = 1, name = "building", color = [1, 1, 1] },
  { value = 2, name = "tree", color = [2, 2, 2] },
  { value = 3, name = "water", color = [3, 3, 3] },
]
[[source]]
name = "s"
images = "images"
labels = "labels"
gsd_m = [0.5, 0.5]
classes = { "0" = "ignore", "3" = "!tree" }
split = { none = true }
"""
    )
    call = ["pseudo-label", str(bundle.folder), str(tmp_path / "c.toml"), "--source", "s", "--tta", "none"]
    result = CliRunner().invoke(app, [*call, "-o", str(tmp_path / "one"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["classes"]["4"] == "!tree"
    result = CliRunner().invoke(app, [*call, "-o", str(tmp_path / "two")])
    assert result.exit_code == 0, result.output
    snippet = tomllib.loads(result.stdout.split("configuration:\n")[1])
    assert snippet["labels"] == "two"  # below the data folder, as a configuration gives it
    assert snippet["classes"] == {"0": "ignore", "1": "building", "2": "tree", "3": "water", "4": "!tree"}
