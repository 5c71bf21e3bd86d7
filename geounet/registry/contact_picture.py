"""One chip of a real scene beside what a model says of it: the first look at a model that somebody brought."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geounet.engines.choose import open_engine, resolve
from geounet.mapping.preflight import preflight
from geounet.model.bundle import ModelBundle
from geounet.model.reflectance import picture_of
from geounet.options import Options
from geounet.outputs.preview import write_preview
from geounet.outputs.thumbnail import as_rgb
from tiles.chips.cut import Chip
from tiles.scene.scene import open_scene
from tiles.window import Window

PICTURE = "contact.png"


@dataclass(frozen=True)
class Contact:
    """The picture, the share of each class, by name, in the chip, and the warnings of the pre-flight."""

    path: Path
    shares: Mapping[str, float]
    warnings: tuple[str, ...]


def contact_picture(bundle: ModelBundle, scene_path: str, target: Path, options: Options) -> Contact:
    """Score the chip in the middle of a scene and draw it, classes and legend beside it.

    Raises what `predict` would raise for the same scene and options.
    """
    spec = resolve(options.engine, options.device, options.precision, onnx=bundle.card.onnx is not None)
    with open_scene(
        scene_path,
        bundle.bands,
        bands=options.bands,
        assume_crs=options.assume_crs,
        gsd_range=bundle.card.gsd_m,
        force=options.force,
    ) as scene:
        told = preflight(scene, bundle, options)
        fixed = bundle.card.onnx.size if bundle.card.onnx else None
        side = round(fixed / scene.upsample) if fixed else bundle.card.chip_size
        rows, cols = (min(side, size) for size in scene.georef.shape)
        window = Window((scene.georef.shape[0] - rows) // 2, (scene.georef.shape[1] - cols) // 2, rows, cols)
        pixels = scene.read(window)
        upsample = scene.upsample
    edges = ((0, side - rows), (0, side - cols))
    valid = np.pad(pixels.valid, edges)
    chip = Chip(0, 0, window, np.pad(pixels.values, ((0, 0), *edges), mode="symmetric"), valid)
    engine = open_engine(bundle, spec, side, upsample)
    (score,) = engine.predict([chip], told.stretch)
    if score.probabilities is None:
        channels = np.zeros((rows, cols), dtype=np.intp)
    else:
        channels = np.asarray(score.probabilities)[:, :rows, :cols].argmax(0)
    classes = np.where(pixels.valid, bundle.legend.values[channels], np.uint8(255)).astype(np.uint8)
    counted = np.bincount(channels[pixels.valid], minlength=len(bundle.legend)) / max(1, int(pixels.valid.sum()))
    shares = {name: float(share) for name, share in zip(bundle.legend.names, counted, strict=True)}
    prepare = picture_of(told.stretch, bundle.card.reflectance_one)
    picture = np.rint(prepare(chip.counts, valid)).astype(np.uint8).transpose(1, 2, 0)[:rows, :cols]
    write_preview(target, as_rgb(picture, bundle.bands), pixels.valid, classes, bundle.legend, shares)
    warnings = tuple(f"{row.text}; {row.remedy}".rstrip("; ") for row in told.rows if row.status == "warning")
    return Contact(target, shares, warnings)
