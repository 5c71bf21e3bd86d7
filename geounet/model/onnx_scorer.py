"""An ONNX network with everything around it that belongs in its graph: counts in, probabilities out.

The counterpart of `geounet.model.scorer` for a bundle whose network is a file `model.onnx`.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper

from geounet.errors import BundleError
from geounet.model.onnx_checks import only_input, opset, outputs, read_model, shown

if TYPE_CHECKING:
    from geounet.model.bundle import ModelBundle

COUNTS, PROBABILITIES = "counts", "probabilities"
INPUT_KINDS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
}
"""Element types that an input may have, by NumPy's names."""
_MULTIPLE = 32
_SOFTMAX_BY_AXIS = 13
"""From this version of the operators on, Softmax works along one axis; before, it flattened the array."""


def onnx_scorer(bundle: "ModelBundle", chip_size: int, upsample: float = 1.0) -> ModelProto:
    """The graph from counts, float32 (1, bands, chip, chip), to probabilities, float32 (1, classes, chip, chip).

    Counts are on the scale of the bundle's normalisation: 0-255, or reflectance. Normalises, enlarges by `upsample` or
    to the one size that the network takes, runs it, makes probabilities of what it says (`OnnxModel.activation`), and
    brings them back to the chip's own grid. Raises BundleError where the file is refused or is not what its card says.
    """
    told = bundle.card.onnx
    assert told is not None
    path = bundle.weights_path
    model = read_model(path)
    side = only_input(model, str(path))
    names = [o.name for o in outputs(model)]
    if told.output not in names:
        raise BundleError(f"{path} has no output '{told.output}', as model.json says: add the model again")
    inner = told.size or _MULTIPLE * math.ceil(chip_size * upsample / _MULTIPLE - 1e-6)
    network = compose.add_prefix(model, "network/")
    builder = _Builder(opset(model))

    x = builder.apply("Sub", COUNTS, builder.band_values(bundle.card.normalisation.mean))
    x = builder.apply("Div", x, builder.band_values(bundle.card.normalisation.std))
    x = builder.resized(x, (len(bundle.bands), chip_size), inner)
    if told.layout == "nhwc":
        x = builder.apply("Transpose", x, perm=[0, 2, 3, 1])
    x = builder.as_input(x, side.kind)
    builder.nodes.append(helper.make_node("Identity", [x], [f"network/{side.name}"]))

    y = builder.apply("Cast", f"network/{told.output}", to=TensorProto.FLOAT)
    if told.layout == "nhwc":
        y = builder.apply("Transpose", y, perm=[0, 3, 1, 2])
    y = builder.probabilities(y, told.activation, told.channels, bundle.card.temperature)
    classes = len(bundle.legend)
    y = builder.resized(y, (classes, inner // told.shrink), chip_size)
    builder.nodes.append(helper.make_node("Identity", [y], [PROBABILITIES]))

    graph = network.graph
    inside = [*builder.nodes[: builder.entry(side.name)], *graph.node, *builder.nodes[builder.entry(side.name) :]]
    whole = helper.make_graph(
        inside,
        "scorer",
        [helper.make_tensor_value_info(COUNTS, TensorProto.FLOAT, [1, len(bundle.bands), chip_size, chip_size])],
        [helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [1, classes, chip_size, chip_size])],
        initializer=[*graph.initializer, *builder.constants],
    )
    whole.sparse_initializer.extend(graph.sparse_initializer)
    standard = [o for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return helper.make_model(whole, opset_imports=standard, ir_version=max(model.ir_version, 7))


class _Builder:
    """Nodes around a network, named one after another."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def entry(self, name: str) -> int:
        """How many nodes lie before the network."""
        return 1 + next(i for i, n in enumerate(self.nodes) if n.output[0] == f"network/{name}")

    def apply(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"around/{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> str:
        name = f"around/constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def band_values(self, values: "tuple[float, ...]") -> str:
        return self.constant(np.array(values, dtype=np.float32).reshape(1, -1, 1, 1))

    def resized(self, x: str, shape: tuple[int, int], side: int) -> str:
        """Bilinear, as torch's `interpolate(align_corners=False)`; `shape` is (channels, side) now."""
        channels, now = shape
        if now == side:
            return x
        sizes = self.constant(np.array([1, channels, side, side], dtype=np.int64))
        empty = self.constant(np.zeros(0, dtype=np.float32))
        return self.apply("Resize", x, empty, empty, sizes, mode="linear", coordinate_transformation_mode="half_pixel")

    def as_input(self, x: str, kind: int) -> str:
        if kind == TensorProto.FLOAT:
            return x
        if kind not in (TensorProto.FLOAT16, TensorProto.DOUBLE):
            # Casting cuts digits off and wraps around; a count between two whole numbers goes to the nearer one.
            dtype = np.iinfo(helper.tensor_dtype_to_np_dtype(kind))
            low, high = (self.constant(np.array(v, dtype=np.float32)) for v in (dtype.min, dtype.max))
            x = self.apply("Clip", self.apply("Round", x), low, high)
        return self.apply("Cast", x, to=kind)

    def probabilities(self, y: str, activation: str, channels: int, temperature: float) -> str:
        """(1, channels, h, w) as the network says it to (1, classes, h, w) that sum to one."""
        if activation in ("softmax", "sigmoid") and temperature != 1.0:
            y = self.apply("Div", y, self.constant(np.array(temperature, dtype=np.float32)))
        if activation == "softmax":
            return self.softmax(y)
        if activation == "sigmoid":
            y = self.apply("Sigmoid", y)
        if channels == 1:
            one = self.constant(np.array(1.0, dtype=np.float32))
            return self.apply("Concat", self.apply("Sub", one, y), y, axis=1)
        return y if activation == "none" else self.shares(y, channels)

    def softmax(self, y: str) -> str:
        if self.version >= _SOFTMAX_BY_AXIS:
            return self.apply("Softmax", y, axis=1)
        y = self.apply("Transpose", y, perm=[0, 2, 3, 1])
        return self.apply("Transpose", self.apply("Softmax", y, axis=3), perm=[0, 3, 1, 2])

    def shares(self, y: str, channels: int) -> str:
        """Each class by itself, made to sum to one; a tiny floor keeps 0 / 0 away."""
        y = self.apply("Add", y, self.constant(np.array(1e-6, dtype=np.float32)))
        ones = self.constant(np.ones((1, channels, 1, 1), dtype=np.float32))
        return self.apply("Div", y, self.apply("Conv", y, ones))


def checked_bytes(model: ModelProto) -> bytes:
    """The model as it lies in a file. Raises BundleError where the standard's own checker finds it malformed."""
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise BundleError(f"the network's graph is malformed ({shown(first, 200)}): export it again") from error
    data: bytes = model.SerializeToString()
    return data
