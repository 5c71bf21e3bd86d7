"""Models by people who mean harm, or who were unlucky: one line each, memory bounded, nothing outside the folder."""

import re
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geounet.errors import BundleError
from geounet.model.bundle import ModelBundle
from geounet.registry.add import add_model
from geounet.registry.describe import Told, describe
from geounet.registry.probe import Beside, Fence, look_at, refuse_large_tensors, try_out

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from geounet.model.onnx_checks import checked_model, read_model  # noqa: E402

Maker = Callable[..., Any]
Bundler = Callable[..., ModelBundle]


def refuse_outside(tensor: Any) -> None:
    raise AssertionError(tensor.name)


def refused(model: Any) -> str:
    """The line that a model is refused with."""
    with pytest.raises(BundleError) as caught:
        checked_model(model.SerializeToString(), "x.onnx", refuse_outside)
    line = str(caught.value)
    assert line.startswith("x.onnx")
    assert len(line) < 500
    assert line.isprintable()
    return line


def with_node(model: Any, node: Any) -> Any:
    model.graph.node.append(node)
    return model


def test_an_honest_model_passes(make_onnx: Maker) -> None:
    model = make_onnx()
    found = checked_model(model.SerializeToString(), "x.onnx", refuse_outside)
    assert found == model


def nan_weights(model: Any) -> Any:
    model.graph.initializer[0].raw_data = b"\x00\x00\xc0\x7f" * (len(model.graph.initializer[0].raw_data) // 4)
    return model


def four_gigabytes(model: Any) -> Any:
    model.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[32768, 32768]))
    return model


def two_and_a_lie(model: Any) -> Any:
    model.graph.initializer.append(
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1000], raw_data=b"\0" * 400)
    )
    return model


def negative(model: Any) -> Any:
    model.graph.initializer[0].dims[0] = -3
    return model


def many_nodes(model: Any) -> Any:
    model.graph.node.extend([helper.make_node("Identity", ["image"], [f"i{n}"]) for n in range(20_001)])
    return model


def hidden_nodes(model: Any) -> Any:
    """Graphs in a node's attribute count like any other."""
    inner = helper.make_graph([helper.make_node("Abs", ["image"], [f"a{n}"]) for n in range(20_001)], "g", [], [])
    return with_node(model, helper.make_node("If", ["image"], ["y"], then_branch=inner, else_branch=inner))


def foreign_operator(model: Any) -> Any:
    return with_node(model, helper.make_node("Run\nrm -rf", ["image"], ["y"], domain="evil.custom"))


def a_loop(model: Any) -> Any:
    inner = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [], [])
    return with_node(model, helper.make_node("Loop", ["image"], ["y"], body=inner))


def texts(model: Any) -> Any:
    vals: Any = [b"x"]
    model.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [1], vals))
    return model


def newline_in_a_name(model: Any) -> Any:
    model.graph.output[0].name = "classes\n\x1b[31mSYSTEM: all is well"
    return model


def long_name(model: Any) -> Any:
    model.graph.node[0].name = "x" * 100_000
    return model


def old_operators(model: Any) -> Any:
    model.opset_import[0].version = 7
    return model


def unknown_type(model: Any) -> Any:
    model.graph.initializer[0].data_type = 99
    return model


def bomb(model: Any, depth: int = 30) -> Any:
    """Functions that each call the next one twice: 30 lines for a thousand million nodes."""
    for level in range(depth):
        called = [("evil", f"f{level + 1}")] * 2 if level < depth - 1 else [("", "Abs")] * 2
        nodes, at = [], "x"
        for number, (domain, operator) in enumerate(called):
            nodes.append(helper.make_node(operator, [at], [f"y{number}"], domain=domain))
            at = f"y{number}"
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
        model.functions.append(helper.make_function("evil", f"f{level}", ["x"], ["y1"], nodes, imports))
    model.opset_import.append(helper.make_opsetid("evil", 1))
    return with_node(model, helper.make_node("f0", ["image"], ["boom"], domain="evil"))


def endless(model: Any) -> Any:
    """A function that calls itself."""
    node = helper.make_node("f", ["x"], ["y"], domain="evil")
    model.functions.append(helper.make_function("evil", "f", ["x"], ["y"], [node], [helper.make_opsetid("evil", 1)]))
    return with_node(model, helper.make_node("f", ["image"], ["y"], domain="evil"))


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (nan_weights, "holds values that are not numbers"),
        (four_gigabytes, "says it has 1,073,741,824 numbers: more than fits"),
        (two_and_a_lie, "says it has 1,000 numbers, the file holds others"),
        (negative, "has a negative dimension"),
        (many_nodes, "more than 20,000 nodes"),
        (hidden_nodes, "more than 20,000 nodes"),
        (foreign_operator, r"uses the operator 'Run\?rm -rf' of 'evil.custom', which is not ONNX's own"),
        (a_loop, "uses Loop, which may run without end"),
        (texts, "holds texts"),
        (newline_in_a_name, r"the name 'classes\?\?\[31mSYSTEM: all is well', which is too long or cannot be printed"),
        (long_name, "which is too long"),
        (old_operators, "uses version 7 of ONNX's operators; 11 to 23 are read"),
        (unknown_type, "of the unknown type 99"),
        (bomb, r"unfolds to 2,147,483,\d+ nodes|unfolds to 1,073,741,\d+ nodes"),
        (endless, "calls itself"),
    ],
)
def test_every_kind_of_harm_is_one_line(make_onnx: Maker, spoil: Callable[[Any], Any], line: str) -> None:
    assert re.search(line, refused(spoil(make_onnx())))


@pytest.mark.parametrize("data", [b"", b"\x00", b"PK\x03\x04 zip", b"\x80\x04\x95pickle", b"\x0a" * 500, b"<html>" * 9])
def test_what_is_no_model_is_said(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"^x is no ONNX model"):
        checked_model(data, "x", refuse_outside)


def test_functions_that_unfold_to_little_are_unfolded(make_onnx: Maker) -> None:
    found = checked_model(bomb(make_onnx(), depth=3).SerializeToString(), "x", refuse_outside)
    assert len(found.functions) == 0
    assert sum(n.op_type == "Abs" for n in found.graph.node) == 8


def outside(model: Any, location: str, length: int = 36) -> Any:
    """The weights of `build_onnx`, said to lie in another file."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "4"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return model


@pytest.mark.parametrize(
    ("location", "line"),
    [
        ("../secret", "only a file beside the model is read"),
        ("/etc/passwd", "only a file beside the model is read"),
        ("..", "only a file beside the model is read"),
        ("", "only a file beside the model is read"),
        ("a/b", "only a file beside the model is read"),
        ("link", "is no file beside the model"),
        ("gone", "is no file beside the model"),
        ("short", "cut short"),
    ],
)
def test_tensors_come_from_beside_the_model_only(make_onnx: Maker, tmp_path: Path, location: str, line: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"s" * 100)
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "short").write_bytes(b"s" * 39)
    model = outside(make_onnx(), location)
    with pytest.raises(BundleError, match=line):
        checked_model(model.SerializeToString(), "x", Beside(folder / "x.onnx", 1000))


def test_tensors_beside_the_model_are_brought_in(make_onnx: Maker, tmp_path: Path) -> None:
    whole = make_onnx()
    (tmp_path / "weights.bin").write_bytes(b"head" + whole.graph.initializer[0].raw_data)
    apart = outside(make_onnx(), "weights.bin")
    (tmp_path / "x.onnx").write_bytes(apart.SerializeToString())
    facts = look_at(tmp_path / "x.onnx", tmp_path / "whole.onnx")
    assert facts["outputs"][0]["last"] == "Conv"
    found = numpy_helper.to_array(read_model(tmp_path / "whole.onnx").graph.initializer[0])
    assert (found == numpy_helper.to_array(whole.graph.initializer[0])).all()
    with pytest.raises(BundleError, match="keeps the tensor 'weight' in another file"):
        read_model(tmp_path / "x.onnx")  # in a bundle, nothing lies outside


def facts_of(model: Any) -> dict[str, Any]:
    """What the process behind the fence tells, made in this one."""
    from geounet.model import onnx_checks
    from geounet.registry.probe import _told, last_operator

    return {
        "input": _told(onnx_checks.only_input(model, "x")),
        "outputs": [{**_told(o), "last": last_operator(model, o.name)} for o in onnx_checks.outputs(model)],
        "metadata": onnx_checks.metadata(model),
    }


TOLD = Told(bands=("red", "green", "blue"), classes=(("a", None), ("b", None), ("c", None)), gsd_m=(1, 1), values="0-1",
            mean=(0, 0, 0), std=(1, 1, 1))  # fmt: skip


@pytest.mark.parametrize(
    ("model", "told", "line"),
    [
        (
            {"channels": 10_000},
            {"classes": tuple((f"c{n}", None) for n in range(10_000))},
            "10,000 classes; a map holds",
        ),
        ({"channels": 5}, {}, "scores 5 classes, 3 are named"),
        ({"bands": 7}, {}, "has no place for 3 bands"),
        ({"size": 8}, {}, "takes images of 8 pixels; 32 to 4,096"),
        ({}, {"classes": (("a", None), ("b\nc", None), ("d", None))}, r"the class name 'b\?c' is empty, too long or"),
        ({}, {"classes": (("a", None), ("a", None), ("d", None))}, "two classes have the same name"),
        ({"kind": "int64"}, {}, "takes numbers of type int64"),
        ({"metadata": {"model_type": '"Detector"'}}, {}, "is a detector model; only segmentation"),
        ({"metadata": {"model_type": '"Regressor"'}}, {}, "is a regressor model; only segmentation"),
        ({"metadata": {"class_names": "__import__('os').system('id')"}}, {"classes": None}, "cannot be read"),
        ({"metadata": {"class_names": "[" * 5000}}, {"classes": None}, "cannot be read"),
        ({"metadata": {"class_names": '{"0": "a", "7": "b"}'}}, {"classes": None}, "are not 0, 1, 2"),
        ({"metadata": {"resolution": '"fine"'}}, {}, "'resolution' is no number"),
    ],
)
def test_what_does_not_fit_a_map_is_one_line(
    make_onnx: Maker, model: dict[str, Any], told: dict[str, Any], line: str
) -> None:
    with pytest.raises(BundleError, match=line) as caught:
        describe(facts_of(make_onnx(**model)), replace(TOLD, **told), "x.onnx")
    assert str(caught.value).isprintable()


def test_a_tensor_that_grows_on_the_way_is_found_without_running_it(
    make_onnx: Maker, make_onnx_bundle: Bundler, tmp_path: Path
) -> None:
    model = make_onnx()
    node = model.graph.node[0]
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 20, 1 << 14]), "shape"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["huge"]))
    model.graph.node.insert(1, helper.make_node("ReduceSum", ["huge"], ["zero"], keepdims=0))
    model.graph.node.insert(2, helper.make_node("Add", ["image", "zero"], ["grown"]))
    node = model.graph.node[3]
    node.input[0] = "grown"
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    with pytest.raises(BundleError, match="computes a tensor of 69 GB on the way"):
        refuse_large_tensors(inferred, "x")
    # Behind the fence the same graph costs a line as well, and the parent no memory.
    bundle = make_onnx_bundle(tmp_path / "m", model)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with pytest.raises(BundleError, match=r"computes a tensor of 69 GB|does not run|could not be looked at"):
        try_out(bundle.folder, Fence(memory=3_000_000_000, seconds=30))
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before < 3_000_000


def test_a_file_that_swells_in_the_parser_ends_the_child_only(tmp_path: Path) -> None:
    """Empty nodes are two bytes in a file and a hundred in memory."""
    graph = b"\x0a\x00" * 20_000_000
    size = len(graph)
    varint = bytearray()
    while size:
        varint.append((size & 127) | (128 if size > 127 else 0))
        size >>= 7
    (tmp_path / "x.onnx").write_bytes(b"\x3a" + bytes(varint) + graph)
    with pytest.raises(BundleError, match=r"could not be looked at within 1.5 GB|more than 20,000 nodes"):
        look_at(tmp_path / "x.onnx", tmp_path / "whole.onnx", Fence(memory=1_500_000_000, seconds=30))
    assert [p.name for p in tmp_path.iterdir()] == ["x.onnx"]


def test_nan_that_only_shows_in_the_answer_is_refused(
    make_onnx: Maker, make_onnx_bundle: Bundler, tmp_path: Path
) -> None:
    bundle = make_onnx_bundle(tmp_path / "m", make_onnx(last="Log"), onnx={"activation": "softmax"})
    with pytest.raises(BundleError, match=r"answers with numbers that are none \(NaN or infinite\)"):
        try_out(bundle.folder)


def test_shapes_that_do_not_fit_together_are_one_line(
    make_onnx: Maker, make_onnx_bundle: Bundler, tmp_path: Path
) -> None:
    """Found by mutation, a node without an output: the inference of shapes raises errors of its own."""
    model = make_onnx(shrink=4, size=64)
    pool = next(n for n in model.graph.node if n.op_type == "AveragePool")
    del pool.output[:]
    bundle = make_onnx_bundle(tmp_path / "m", model, onnx={"shrink": 4, "size": 64})
    with pytest.raises(BundleError, match="its tensors do not fit together"):
        try_out(bundle.folder)


def test_nothing_is_left_of_a_model_that_was_refused(make_onnx: Maker, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (tmp_path / "x.onnx").write_bytes(nan_weights(make_onnx()).SerializeToString())
    with pytest.raises(BundleError, match="not numbers"):
        add_model(str(tmp_path / "x.onnx"), TOLD, into=store)
    assert list(store.iterdir()) == []
