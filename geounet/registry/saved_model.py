"""A TensorFlow SavedModel as an ONNX file, by tf2onnx, in a process of its own; Dynamic World known by its signature.

TensorFlow executes what a SavedModel holds, as any program may: a SavedModel is taken from the command line only, and
comes from somebody you trust.

Dynamic World (google/dynamicworld, Apache-2.0; Brown et al. 2022, https://doi.org/10.1038/s41597-022-01307-4) wants
Sentinel-2 counts of nine bands, squashed by a logarithm and a logistic curve with two constants a band, as its authors
publish them; that goes into the graph.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from geounet.errors import BundleError
from geounet.registry.describe import Told

PYTHON = "GEOUNET_TENSORFLOW_PYTHON"
"""Environment variable: the Python that has tensorflow and tf2onnx, where it is another one than this."""
OPSET = 17
BANDS = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "swir1", "swir2")
CLASSES = (
    ("water", (65, 155, 223)),
    ("trees", (57, 125, 73)),
    ("grass", (136, 176, 83)),
    ("flooded_vegetation", (122, 135, 198)),
    ("crops", (228, 150, 53)),
    ("shrub_and_scrub", (223, 195, 90)),
    ("built", (196, 40, 27)),
    ("bare", (165, 155, 143)),
    ("snow_and_ice", (179, 159, 225)),
)
"""Names and colours as Dynamic World's own catalogue has them."""
LOW_AND_SPREAD = (
    (1.7417268007636313, 2.023298706048351),
    (1.7261204997060209, 2.038905204308012),
    (1.6798346251414997, 2.179592821212937),
    (1.7734969472909623, 2.2890068333026603),
    (2.289154079164943, 2.6171674549378166),
    (2.382939712192371, 2.773418590375327),
    (2.3828939530384052, 2.7578332604178284),
    (2.1952484264967844, 2.789092484314204),
    (1.554812948247501, 2.4140534947492487),
)
"""By band: what is taken from log(1 + 0.005 * count), and what the rest is divided by."""


def dynamic_world(told: Told) -> Told:
    """What is known of Dynamic World, under what the user says: 10 m, nine classes, counts of reflectance * 10,000."""
    return replace(
        told,
        name=told.name or "dynamic-world",
        bands=BANDS,
        classes=CLASSES,
        gsd_m=told.gsd_m or (10.0, 10.0),
        values="reflectance*10000",
        mean=(0.0,) * len(BANDS),
        std=(1.0,) * len(BANDS),
        layout="nhwc",
        licence=told.licence or "Apache-2.0",
        description=told.description or "Dynamic World's network for Sentinel-2, nine classes at 10 m",
    )


def converted_to_onnx(folder: Path, room: Path, *, squashed: bool) -> Path:
    """The network of a SavedModel as an ONNX file in `room`; with `squashed`, behind Dynamic World's normalisation.

    Raises BundleError where tf2onnx or TensorFlow is not installed, and where they cannot read it.
    """
    target = room / "saved_model.onnx"
    command = [
        os.environ.get(PYTHON, sys.executable),
        "-m",
        "tf2onnx.convert",
        "--saved-model",
        str(folder),
        "--opset",
        str(OPSET),
    ]
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" or PYTHON not in os.environ}
    environment = {**kept, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, "--output", str(target)], env=environment, capture_output=True, text=True, check=False
    )
    if "No module named" in done.stderr and done.returncode:
        raise BundleError(
            "reading a SavedModel needs the extra `tensorflow`: pip install 'geounet[tensorflow]', here or in a Python "
            f"that {PYTHON} names"
        )
    if done.returncode or not target.exists():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BundleError(f"{folder} cannot be converted: {last[:200]}")
    if squashed:
        squash(target)
    return target


def squash(path: Path) -> None:
    """Put Dynamic World's normalisation in front of the network in an ONNX file that takes (n, rows, columns, 9).

    x = log(0.005 * count + 1); x = (x - low) / spread; x = exp(5 * x - 1); x / (x + 1). Raises BundleError where the
    file takes something else.
    """
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from geounet.model.onnx_checks import only_input, read_model

    model = read_model(path)
    side = only_input(model, str(path))
    if side.shape is None or len(side.shape) != 4 or side.shape[3] != len(BANDS):
        raise BundleError(f"{path} takes {side.shape}, not the nine bands of Dynamic World, bands last")
    table = np.array(LOW_AND_SPREAD, dtype=np.float32)
    constants = {"half_percent": 0.005, "one": 1.0, "five": 5.0, "low": table[:, 0], "spread": table[:, 1]}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v, dtype=np.float32), f"squash/{k}") for k, v in constants.items()
    )
    steps = [
        ("Mul", "half_percent"), ("Add", "one"), ("Log", None), ("Sub", "low"), ("Div", "spread"),
        ("Mul", "five"), ("Sub", "one"), ("Sigmoid", None),
    ]  # fmt: skip
    nodes, at = [], "counts"
    for number, (operator, constant) in enumerate(steps):
        made = side.name if number == len(steps) - 1 else f"squash/{number}"
        nodes.append(helper.make_node(operator, [at, *([f"squash/{constant}"] if constant else [])], [made]))
        at = made
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    shape = ["n", *(s or f"side{i}" for i, s in enumerate(side.shape[1:3])), len(BANDS)]
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("counts", TensorProto.FLOAT, shape))
    onnx.save_model(model, path)
