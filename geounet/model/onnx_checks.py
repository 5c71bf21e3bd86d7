"""Read an ONNX file that a stranger may have made: nothing in it is trusted, nothing outside it is opened.

Every refusal is one line. What is looked at: the file's size, graphs within graphs, functions that unfold without
bound, operators that are not the standard's own, loops, tensors that are not in the file or not of the length that
they declare, numbers that are not numbers, names that no terminal should print. What a graph takes to run is another
matter: `geounet.registry.probe` finds out, in a process of its own.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from geounet.errors import BundleError

MOST_BYTES = 1_000_000_000
"""Protocol Buffers end at 2 GB, and a message takes a few times its file's size when it is read."""
MOST_NODES = 20_000
"""After functions are unfolded. Large segmentation networks have some thousands."""
MOST_TENSOR_BYTES = 2_000_000_000
MOST_NAME = 512
FIRST_OPSET, LAST_OPSET = 11, 23

_STANDARD = ("", "ai.onnx")
_UNBOUNDED = frozenset({"Loop", "Scan", "SequenceMap"})
_PACKED: Mapping[int, int] = {TensorProto.INT4: 2, TensorProto.UINT4: 2, TensorProto.FLOAT4E2M1: 2}
_TYPED_FIELDS: Mapping[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}
"""Fields that hold one number an element; all other types lie in `int32_data`."""


Outside = Callable[[TensorProto], None]
"""What brings in a tensor that lies in another file: it fills the tensor, or raises BundleError."""


@dataclass(frozen=True)
class Side:
    """One input or output: its name, its element type as ONNX numbers it, its shape (None: not fixed)."""

    name: str
    kind: int
    shape: tuple[int | None, ...] | None


def read_model(path: Path, most_bytes: int = MOST_BYTES) -> ModelProto:
    """The model in a file that holds all of it, checked, its functions unfolded.

    Raises BundleError, in one line, for what cannot be read or must not be used.
    """
    return checked_model(read_bytes(path, most_bytes), str(path), partial(_refuse_outside, str(path)))


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """A file's content. Raises BundleError where it is larger, or cannot be read."""
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise BundleError(f"{path} has {size / 1e6:,.0f} MB; models of up to {most_bytes / 1e6:,.0f} MB are read")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error


def checked_model(data: bytes, name: str, outside: Outside) -> ModelProto:
    """The model in `data`; `outside` sees each tensor that lies in another file."""
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise BundleError(f"{name} is no ONNX model (or cut short): export it again") from error
    if not model.HasField("graph") or not model.graph.node:
        raise BundleError(f"{name} is no ONNX model: it holds no graph")
    _check_opset(model, name)
    _check_operators(model, name)
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            outside(tensor)
        _check_tensor(tensor, name)
    _check_names(model, name)
    return _unfolded(model, name)


def only_input(model: ModelProto, name: str) -> Side:
    """The one input that is no constant. Raises BundleError where there are more, or none."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [_side(value) for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise BundleError(f"{name} has {len(inputs)} inputs; a segmentation network has one, the image")
    return inputs[0]


def outputs(model: ModelProto) -> list[Side]:
    """The outputs in order."""
    return [_side(value) for value in model.graph.output]


def metadata(model: ModelProto) -> dict[str, str]:
    """The model's own key-value texts."""
    return {entry.key: entry.value for entry in model.metadata_props}


def opset(model: ModelProto) -> int:
    """Version of the standard operators."""
    return max((o.version for o in model.opset_import if o.domain in _STANDARD), default=0)


def shown(text: str, most: int = 60) -> str:
    """A stranger's text for a message: printable, and not long. What is not UTF-8 comes from the parser as bytes."""
    text = text if isinstance(text, str) else repr(text)
    plain = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return plain if len(plain) <= most else f"{plain[:most]}..."


def printable(text: str, most: int = MOST_NAME) -> bool:
    """Whether a text can stand in a line: UTF-8, no control characters, not longer than `most`."""
    return isinstance(text, str) and len(text) <= most and all(c.isprintable() for c in text)


def _refuse_outside(path: str, tensor: TensorProto) -> None:
    raise BundleError(
        f"{path} keeps the tensor '{shown(tensor.name)}' in another file: add the model with `geounet models add`, "
        "which brings both together"
    )


def _side(value: onnx.ValueInfoProto) -> Side:
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)
    return Side(value.name, tensor.elem_type, shape)


def _check_opset(model: ModelProto, name: str) -> None:
    version = opset(model)
    if not FIRST_OPSET <= version <= LAST_OPSET:
        raise BundleError(
            f"{name} uses version {version} of ONNX's operators; {FIRST_OPSET} to {LAST_OPSET} are read: export it "
            "again, or convert it with onnx.version_converter"
        )


def _check_operators(model: ModelProto, name: str) -> None:
    local = {(f.domain, f.name) for f in model.functions}
    seen = 0
    for node in _all_nodes(model):
        seen += 1
        if seen > MOST_NODES:
            raise BundleError(f"{name} has more than {MOST_NODES:,} nodes: too many for a segmentation network")
        if (node.domain, node.op_type) in local:
            continue
        if node.domain not in _STANDARD:
            raise BundleError(
                f"{name} uses the operator '{shown(node.op_type)}' of '{shown(node.domain)}', which is not ONNX's own: "
                "export it with standard operators only"
            )
        if node.op_type in _UNBOUNDED:
            raise BundleError(f"{name} uses {node.op_type}, which may run without end: export it without loops")


def _all_nodes(model: ModelProto) -> Iterator[NodeProto]:
    yield from _nodes(model.graph.node)
    for function in model.functions:
        yield from _nodes(function.node)


def _nodes(nodes: "Iterator[NodeProto]") -> Iterator[NodeProto]:
    # The parser refuses more than 100 levels, so this ends well before Python's own limit.
    for node in nodes:
        yield node
        for graph in _graphs(node):
            yield from _nodes(graph.node)


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from _initializers(model.graph)
    for node in _all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (
                *attribute.sparse_tensors,
                *([attribute.sparse_tensor] * attribute.HasField("sparse_tensor")),
            ):
                yield sparse.values
                yield sparse.indices


def _initializers(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for inner in _graphs(node):
            yield from _initializers(inner)


def _check_tensor(tensor: TensorProto, name: str) -> None:
    """As long as its dimensions say, and finite where the network multiplies with it."""
    named = f"{name}: the tensor '{shown(tensor.name)}'"
    if any(d < 0 for d in tensor.dims):
        raise BundleError(f"{named} has a negative dimension: the file is damaged")
    count = math.prod(tensor.dims)
    if tensor.data_type == TensorProto.STRING:
        raise BundleError(f"{named} holds texts: a segmentation network needs none")
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError:
        raise BundleError(f"{named} is of the unknown type {tensor.data_type}: export the model again") from None
    if count * dtype.itemsize > MOST_TENSOR_BYTES:
        raise BundleError(f"{named} says it has {count:,} numbers: more than fits one tensor")
    packed = _PACKED.get(tensor.data_type, 1)
    if tensor.HasField("raw_data"):
        held, wanted = len(tensor.raw_data), -(-count * dtype.itemsize // packed)
    else:
        held, wanted = len(getattr(tensor, _TYPED_FIELDS.get(tensor.data_type, "int32_data"))), -(-count // packed)
    if held != wanted:
        raise BundleError(f"{named} says it has {count:,} numbers, the file holds others: it is damaged or cut short")
    if dtype.kind == "f" and count and np.isnan(onnx.numpy_helper.to_array(tensor).astype(np.float32)).any():
        raise BundleError(f"{named} holds values that are not numbers (NaN): its training went wrong")


def _check_names(model: ModelProto, name: str) -> None:
    if any(not isinstance(e.value, str) for e in model.metadata_props):
        raise BundleError(f"{name} holds metadata that is no text (UTF-8): refused")
    texts = [e.key for e in model.metadata_props]
    texts += [v.name for v in (*model.graph.input, *model.graph.output)]
    texts += [t for n in _all_nodes(model) for t in (n.name, n.op_type, n.domain, *n.input, *n.output)]
    texts += [t.name for t in _initializers(model.graph)]
    texts += [t for f in model.functions for t in (f.name, f.domain, *f.input, *f.output)]
    bad = next((text for text in texts if not printable(text)), None)
    if bad is not None:
        raise BundleError(f"{name} holds the name '{shown(bad)}', which is too long or cannot be printed: refused")


def _unfolded(model: ModelProto, name: str) -> ModelProto:
    if not model.functions:
        return model
    sizes = _function_sizes(model, name)
    total = sum(sizes.get((n.domain, n.op_type), 1) for n in _nodes(model.graph.node))
    if total > MOST_NODES:
        raise BundleError(f"{name} unfolds to {shown(f'{total:,}')} nodes; up to {MOST_NODES:,} are run")
    from onnx import inliner

    return inliner.inline_local_functions(model)


def _function_sizes(model: ModelProto, name: str) -> Mapping[tuple[str, str], int]:
    """Nodes that each function unfolds to. Raises BundleError where one calls itself."""
    functions = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    open_: set[tuple[str, str]] = set()

    def size(key: tuple[str, str]) -> int:
        if key not in sizes:
            if key in open_ or len(open_) > 64:
                raise BundleError(f"{name}: the function '{shown(key[1])}' calls itself, or others without end")
            open_.add(key)
            inner = (n for n in _nodes(functions[key].node))
            sizes[key] = sum(size((n.domain, n.op_type)) if (n.domain, n.op_type) in functions else 1 for n in inner)
            open_.discard(key)
        return sizes[key]

    for key in functions:
        size(key)
    return sizes
