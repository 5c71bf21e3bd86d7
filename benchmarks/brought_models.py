"""Engines on the shipped bundle against torch, and ukis-csmask's clouds against the package itself.

Prints for each the share of pixels with the same class, and the rate as a ratio to what it is compared with, both
measured in this process in turn. The shipped bundle: six chips of 512 px of a real NAIP mosaic (`shared/data`). The
clouds: a real Sentinel-2 scene (PyPI `spyndex`, 300 x 300 px, four bands, without a cloud), as it is and with a cloud
and its shadow painted on. `pip install 'geounet[proofs]'` first; what is missing is left out.
"""

import json
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio

from benchmarks.common import arguments
from geounet.engines.choose import open_engine, resolve
from geounet.engines.engine import EngineSpec
from geounet.model.bundle import ModelBundle
from geounet.model.reflectance import Reflectance, reflectance_stretch
from geounet.model.stretch import Stretch
from geounet.registry.add import add_model
from geounet.registry.describe import Told
from tiles.chips.cut import Chip
from tiles.window import Window

Array = npt.NDArray[Any]
SIDE = 512


def show(name: str, text: str) -> None:
    """One line of the table, at once: the networks take their time."""
    print(f"{name:44} {text}", flush=True)


def chips_of(pixels: Array, side: int, count: int) -> list[Chip]:
    """`count` chips (bands, side, side), spread over the image."""
    rows, cols = pixels.shape[1] - side, pixels.shape[2] - side
    places = [(rows * i // max(1, count - 1), cols * (i * 7 % count) // max(1, count - 1)) for i in range(count)]
    full = np.ones((side, side), dtype=bool)
    return [
        Chip(0, i, Window(0, 0, side, side), pixels[:, r : r + side, c : c + side], full)
        for i, (r, c) in enumerate(places)
    ]


def timed(run: Callable[[], list[Array]], chips: int, side: int) -> tuple[list[Array], float]:
    """What `run` gives the second time it is called, and megapixels a second."""
    run()
    began = perf_counter()
    found = run()
    return found, chips * side**2 / 1e6 / (perf_counter() - began)


def scored(bundle: ModelBundle, spec: EngineSpec, chips: list[Chip], stretch: Stretch) -> tuple[list[Array], float]:
    """Class probabilities of the chips, and the rate."""
    side = chips[0].counts.shape[-1]
    engine = open_engine(bundle, spec, side)
    return timed(lambda: [np.array(s.probabilities) for s in engine.predict(chips, stretch)], len(chips), side)


def same(ours: list[Array], theirs: list[Array]) -> float:
    """Share of pixels with the same likeliest class."""
    return float(np.mean([(a.argmax(0) == b.argmax(0)).mean() for a, b in zip(ours, theirs, strict=True)]))


def shipped(data: Path) -> None:
    """The engines of this machine on the shipped bundle."""
    with rasterio.open(data / "scenes" / "naip_block0.tif") as source:
        pixels = source.read([1, 2, 3])
    chips = chips_of(pixels, SIDE, 6)
    bundle = ModelBundle.load("overhead-rgb")
    truth, base = scored(bundle, EngineSpec("torch", "cpu", "f32"), chips, Stretch("none"))
    show("overhead-rgb, torch f32", f"{base:.2f} Mpx/s")
    for engine in ("onnxruntime", "openvino"):
        if find_spec(engine) is None:
            continue
        spec = resolve(engine, "cpu", "f32")
        found, rate = scored(bundle, spec, chips, Stretch("none"))
        show(f"overhead-rgb, {spec}", f"agreement {same(found, truth):.6f}, {rate / base:.2f}x torch f32")


def clouds() -> None:
    """The four networks of ukis-csmask, each added from its file, against the package's own session on one chip."""
    from importlib.resources import files

    from ukis_csmask.mask import CSmask

    pixels = np.array(json.loads((files("spyndex") / "data" / "S2_10m.json").read_text())).astype(np.uint16)
    six = np.concatenate([pixels, pixels[2:4] // 2])  # two more bands, made up, so that the six-band networks run too
    for level in ("l1c", "l2a"):
        for bands in (4, 6):
            own = CSmask.__module__.partition(".")[0]
            folder = files(own)
            described = json.loads((folder / f"model_{bands}b_{level}.json").read_text())["data"]["dataset_statistics"]
            told = Told(
                name=f"csmask-{bands}b-{level}",
                bands=tuple(described["band_names"]),
                classes=(("clear", None), ("cloud", None), ("shadow", None)),
                gsd_m=(10.0, 30.0),
                values="reflectance",
                mean=tuple(described["img"][0]),
                std=tuple(described["img"][1]),
                licence="Apache-2.0",
            )
            with tempfile.TemporaryDirectory() as store:
                bundle = add_model(str(folder / f"model_{bands}b_{level}.onnx"), told, into=Path(store)).bundle
                compare(bundle, painted(six[:bands]), str(folder / f"model_{bands}b_{level}.onnx"))


def painted(pixels: Array) -> Array:
    """A white cloud and a dark shadow on the scene, by Gaussian weights; the rest is as it was."""
    y, x = np.mgrid[: pixels.shape[1], : pixels.shape[2]]
    cloud = np.exp(-2 * (((y - 120) / 40) ** 2 + ((x - 150) / 50) ** 2))
    shadow = np.exp(-2 * (((y - 170) / 40) ** 2 + ((x - 210) / 50) ** 2))
    return np.asarray(pixels * (1 - 0.75 * shadow) * (1 - cloud) + 7500 * cloud).astype(np.uint16)


def compare(bundle: ModelBundle, pixels: Array, own_file: str) -> None:
    """Our engines and the package's way - (reflectance - mean) / deviation, its session - on the same pixels."""
    import onnxruntime

    chips = chips_of(pixels, 256, 2)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(own_file, options, providers=["CPUExecutionProvider"])
    mean, std = (np.array(v, dtype=np.float32)[:, None, None] for v in (
        bundle.card.normalisation.mean, bundle.card.normalisation.std))  # fmt: skip

    def theirs() -> list[Array]:
        images = [((c.counts / 10_000).astype(np.float32) - mean) / std for c in chips]
        return [np.array(session.run(None, {session.get_inputs()[0].name: i[None]})[0][0]) for i in images]

    truth, base = timed(theirs, len(chips), 256)
    stretch = reflectance_stretch(Reflectance(0, 10_000, ""), pixels.dtype, 1.0, bundle.card.normalisation.mean)
    classes = [int(n) for n in np.bincount(np.concatenate([t.argmax(0).ravel() for t in truth]), minlength=3)]
    show(f"{bundle.name}, the package", f"{base:.3f} Mpx/s, pixels a class {classes}")
    for engine in ("onnxruntime", "openvino"):
        if find_spec(engine) is None:
            continue
        spec = EngineSpec(engine, "cpu", "f32")
        found, rate = scored(bundle, spec, chips, stretch)
        show(f"{bundle.name}, {spec}", f"agreement {same(found, truth):.6f}, {rate / base:.2f}x the package")


if __name__ == "__main__":
    shipped(arguments(__doc__ or "").parse_args().data)
    if find_spec("ukis_csmask") and find_spec("spyndex"):
        clouds()
