"""A bundle as one ONNX file that other tools run as it is: QGIS with Deepness, GeoDeep, any ONNX runtime.

Normalisation, temperature and softmax are inside. The image goes in as those tools give it: float32
(1, bands, side, side) on 0-1, which is 8-bit counts divided by 255, or reflectance where the bundle wants that. Class
probabilities come out. What a tool needs to know stands in the file's metadata: Deepness's keys
(qgis-plugin-deepness, "Add metadata to model"), and the properties of the STAC Machine Learning Model extension 1.5.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from geounet.errors import BundleError, EngineError
from geounet.model.bundle import ModelBundle
from tiles.durable import replacing

INPUT, OUTPUT = "image", "probabilities"
MLM = "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"


def export_model(bundle: ModelBundle, target: Path, side: int | None = None) -> Path:
    """Write the bundle to `target`, for images of `side` pixels (by default its chip size), and give the path.

    Works in a process of its own, which takes torch and its memory along when it ends. Raises BundleError or
    EngineError, and leaves nothing behind, where it cannot be done.
    """
    side = side or bundle.card.chip_size
    fixed = bundle.card.onnx.size if bundle.card.onnx else None
    if fixed is not None and side != fixed:
        raise BundleError(f"{bundle.name} takes images of {fixed} pixels only: leave --chip-size out")
    if side % 32 and fixed is None:
        raise BundleError(f"--chip-size {side}: choose a multiple of 32")
    if not target.parent.is_dir():
        raise BundleError(f"{target.parent} does not exist: make the folder first")
    try:
        with replacing(target) as part:
            command = [sys.executable, "-m", "geounet.registry.export", str(bundle.folder), str(side), str(part)]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
                raise EngineError(f"{bundle.name} cannot be written as ONNX: {last}")
    except OSError as error:
        raise BundleError(f"{target} cannot be written: {error.strerror}") from error
    return target


def write_export(bundle: ModelBundle, side: int, target: Path) -> None:
    """Write the file in this process."""
    import onnx

    model = _from_onnx(bundle, side) if bundle.card.onnx else _from_torch(bundle, side, target)
    for key, value in {**deepness_metadata(bundle, side), **mlm_metadata(bundle, side)}.items():
        model.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    model.producer_name, model.doc_string = "geounet", f"{bundle.name} {bundle.card.version}: {bundle.card.description}"
    onnx.checker.check_model(model)
    onnx.save_model(model, target)


def deepness_metadata(bundle: ModelBundle, side: int) -> dict[str, Any]:
    """What Deepness and GeoDeep read; every class is kept where it is the likeliest, and no small piece is dropped."""
    card = bundle.card
    return {
        "model_type": "Segmentor",
        "class_names": {str(channel): c.name for channel, c in enumerate(card.legend)},
        "resolution": round(card.gsd_m[0] * 100, 4),
        "tile_size": side,
        "tiles_size": side,
        "tiles_overlap": round(100 * card.overlap / card.chip_size),
        "standardization_mean": [0.0] * len(card.bands),
        "standardization_std": [1.0] * len(card.bands),
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }


def mlm_metadata(bundle: ModelBundle, side: int) -> dict[str, Any]:
    """The properties of the Machine Learning Model extension, a key each, and the bundle's digest."""
    card = bundle.card
    bands = list(card.bands)
    architecture = "ONNX" if card.onnx else f"{card.architecture.name} ({card.architecture.encoder})"
    scaling = (
        {"type": "scale", "value": card.reflectance_one} if card.reflectance_one else {"type": "scale", "value": 255}
    )
    return {
        "stac_extensions": [MLM],
        "mlm:name": card.name,
        "mlm:architecture": architecture,
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "ONNX",
        "mlm:pretrained": True,
        "mlm:input": [
            {
                "name": INPUT,
                "bands": bands,
                "input": {
                    "shape": [1, len(bands), side, side],
                    "dim_order": ["batch", "bands", "height", "width"],
                    "data_type": "float32",
                },
                "value_scaling": [scaling],
                "description": "8-bit counts divided by 255" if card.reflectance_one is None else "surface reflectance",
            }
        ],
        "mlm:output": [
            {
                "name": OUTPUT,
                "tasks": ["semantic-segmentation"],
                "result": {
                    "shape": [1, len(card.legend), side, side],
                    "dim_order": ["batch", "classes", "height", "width"],
                    "data_type": "float32",
                },
                "classification:classes": [
                    {"value": c.value, "name": c.name, "color_hint": "{:02X}{:02X}{:02X}".format(*c.color)}
                    for c in card.legend
                ],
            }
        ],
        "geounet:bundle": {
            "name": card.name,
            "version": card.version,
            "digest": bundle.digest,
            "licence": card.licence,
            "gsd_m": list(card.gsd_m),
        },
    }


def _from_torch(bundle: ModelBundle, side: int, target: Path) -> Any:
    import onnx

    from geounet.model.onnx_export import export
    from geounet.model.scorer import Scorer

    export(Scorer(bundle, side), (len(bundle.bands), side), target)
    return _on_unit_scale(onnx.load(target), _one(bundle))


def _from_onnx(bundle: ModelBundle, side: int) -> Any:
    from geounet.model.onnx_scorer import onnx_scorer

    return _on_unit_scale(onnx_scorer(bundle, side), _one(bundle))


def _one(bundle: ModelBundle) -> float:
    """The number on the bundle's scale that goes in as 1."""
    return bundle.card.reflectance_one or 255.0


def _on_unit_scale(model: Any, one: float) -> Any:
    """The graph from counts with a multiplication in front: it takes `image` on 0-1."""
    import numpy as np
    from onnx import helper, numpy_helper

    counts = model.graph.input[0].name
    model.graph.input[0].name = INPUT
    model.graph.initializer.append(numpy_helper.from_array(np.array(one, dtype=np.float32), "one"))
    model.graph.node.insert(0, helper.make_node("Mul", [INPUT, "one"], [counts]))
    return model


if __name__ == "__main__":
    write_export(ModelBundle.load(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
