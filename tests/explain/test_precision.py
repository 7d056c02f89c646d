"""Half precision: a program of a float16 or bfloat16 file computes in float32, whatever mixture the file has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch.nn import functional as F  # noqa: N812 - the name everybody gives it

import explain
from tests.explain.architectures.harness import Exporter, token_batch
from tests.explain.architectures.test_tokens import exported
from tests.explain.graphs import attribute, made, numbers, run, session

X = numbers(3, 2, 6, 6, seed=2000)
W, B = numbers(4, 2, 3, 3, seed=2001), numbers(4, seed=2002)
HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def kinds(graph: onnx.GraphProto) -> Iterator[int]:
    """Element types of everything a graph says the type of, graphs inside of nodes too."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type
        yield (kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind).tensor_type.elem_type
    yield from (tensor.data_type for tensor in graph.initializer)
    for found in (own for node in graph.node for own in node.attribute):
        if found.name in ("to", "dtype"):
            yield found.i
        if found.HasField("t"):
            yield found.t.data_type
        for body in (found.g, *found.graphs) if found.type in (5, 10) else ():
            yield from kinds(body)


def halves(model: onnx.ModelProto) -> int:
    return sum(kind in HALVES for kind in kinds(model.graph))


def served(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    (y,) = session(model.SerializeToString()).run(None, feeds)
    return y


def convolution(extreme: str, dtype: str) -> onnx.ModelProto:
    """The largest of every channel of a convolution; `extreme` is how it is taken."""
    taken: dict[str, list[Any]] = {
        "ReduceMax": [("ReduceMax", ["c", "axes"], ["y"], {"keepdims": 0})],
        "GlobalMaxPool": [("GlobalMaxPool", ["c"], ["m"]), ("Flatten", ["m"], ["y"])],
    }
    nodes = [("Conv", ["x", "w", "b"], ["c"]), *taken[extreme]]
    weights = {"w": W.astype(dtype), "b": B.astype(dtype), "axes": np.array([2, 3])}
    return made(nodes, {"x": (dtype, ["n", 2, 6, 6])}, {"y": (dtype, ["n", 4])}, weights)


def by_torch(x: np.ndarray, target: int) -> np.ndarray:
    """The gradient of the largest, in float64 with the weights that the float16 file holds."""
    at = torch.tensor(x.astype(np.float16).astype(float), requires_grad=True)
    w, b = (torch.tensor(array.astype(np.float16).astype(float)) for array in (W, B))
    F.conv2d(at, w, b).amax((2, 3))[:, target].sum().backward()
    assert at.grad is not None
    return at.grad.numpy()


@pytest.mark.parametrize("extreme", ["ReduceMax", "GlobalMaxPool"])
def test_the_largest_element_is_found_again(extreme: str) -> None:
    """In float16 what is computed twice differs, and no element equals the maximum: the gradient is 0."""
    model = convolution(extreme, "float16")
    x, y = X.astype(np.float16), served(model, {"x": X.astype(np.float16)})
    found = attribute(model, {"x": x}, "saliency", absolute=False, target=1, outputs={"y": y})
    np.testing.assert_allclose(found.values["x"], by_torch(X, 1), rtol=1e-6)
    gaps = [figures["forward_gap"] for figures in found.quality]
    np.testing.assert_allclose(gaps, np.abs(found.explained_value - y[:, 1].astype(float)), atol=1e-7)
    assert 0 < max(gaps) < 1e-2


MIXTURE: list[Any] = [
    ("Cast", ["x"], ["h"], {"to": TensorProto.FLOAT16}),
    ("Constant", [], ["two"], {"value": numpy_helper.from_array(np.array(2, np.float16))}),
    ("Mul", ["h", "two"], ["doubled"]),
    ("Clip", ["doubled", "low", "high"], ["clipped"]),
    ("Shape", ["clipped"], ["sizes"]),
    ("ConstantOfShape", ["sizes"], ["ones"], {"value": numpy_helper.from_array(np.array([1], np.float16))}),
    ("Add", ["clipped", "ones"], ["raised"]),
    ("Cast", ["raised"], ["there"], {"to": TensorProto.FLOAT}),
    ("Tanh", ["there"], ["bent"]),
    ("Cast", ["bent"], ["back"], {"to": TensorProto.FLOAT16}),
    ("Cast", ["back"], ["y"], {"to": TensorProto.FLOAT}),
]


def test_casts_constants_and_bounds_of_any_mixture() -> None:
    bounds = {"low": np.array(-3, np.float16), "high": np.array(3, np.float16)}
    model = made(MIXTURE, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 4])}, bounds)
    x = numbers(5, 4, seed=2003)
    program = explain.compile(model, "vjp")
    assert (halves(model), halves(program.model), halves(explain.Model(model).prepared)) == (6, 0, 0)
    found = run(program, {"x": x, "y.cotangent": np.ones_like(x)})
    bent = np.tanh(np.clip(2 * x, -3, 3) + 1)
    np.testing.assert_allclose(found["y"], bent, rtol=1e-6)
    np.testing.assert_allclose(found["x.gradient"], np.where(abs(2 * x) < 3, 2 * (1 - bent**2), 0), rtol=1e-4)
    np.testing.assert_allclose(found["y"], served(model, {"x": x}), atol=2e-3)


def test_attributes_that_name_a_type() -> None:
    nodes: list[Any] = [
        ("EyeLike", ["square"], ["eye"], {"dtype": TensorProto.FLOAT16}),
        ("MatMul", ["x", "eye"], ["y"]),
    ]
    ends: Any = [{name: ("float16", ["n", 4])} for name in "xy"]
    program = explain.compile(made(nodes, *ends, {"square": np.zeros((4, 4))}), "forward")
    x = numbers(2, 4, seed=2011)
    np.testing.assert_array_equal(run(program, {"x": x})["y"], x)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_either_kind_are_cast_when_the_copy_is_made(dtype: str) -> None:
    elem = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[dtype]
    w = numbers(64, 32, seed=2004)
    kept = numpy_helper.from_array(w.astype(helper.tensor_dtype_to_np_dtype(elem)), "w")
    ends = [helper.make_tensor_value_info(name, elem, ["n", size]) for name, size in (("x", 64), ("y", 32))]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [kept])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    before = model.SerializeToString()
    program = explain.compile(model, "vjp")
    assert model.SerializeToString() == before
    assert halves(program.model) == 0
    assert "Cast" not in {node.op_type for node in program.model.graph.node}
    x = numbers(2, 64, seed=2005)
    rounded = numpy_helper.to_array(kept).astype(np.float64)
    found = run(program, {"x": x, "y.cotangent": np.ones((2, 32), np.float32)})
    np.testing.assert_allclose(found["y"], x @ rounded, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["x.gradient"], np.tile(rounded.sum(1), (2, 1)), rtol=1e-5, atol=1e-5)


def test_a_weight_in_a_file_of_its_own_stays_there(tmp_path: Path) -> None:
    w = numbers(64, 32, seed=2006).astype(np.float16)
    model = made(
        [("MatMul", ["x", "w"], ["y"])], {"x": ("float16", ["n", 64])}, {"y": ("float16", ["n", 32])}, {"w": w}
    )
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    (tmp_path / "weights.bin").write_bytes(w.tobytes())
    handle = explain.Model(model, data_files={"weights.bin": tmp_path / "weights.bin"})
    program = explain.compile(handle, "vjp")
    (held,) = [tensor for tensor in program.model.graph.initializer if tensor.name == "w"]
    assert (held.data_type, held.external_data[0].value) == (TensorProto.FLOAT16, "weights.bin")
    held.CopyFrom(numpy_helper.from_array(w, "w"))
    feeds = {"x": numbers(2, 64, seed=2007), "y.cotangent": np.ones((2, 32), np.float32)}
    found = session(program.serialize()).run(["x.gradient"], feeds)[0]
    np.testing.assert_allclose(found, np.tile(w.astype(float).sum(1), (2, 1)), rtol=1e-5)


def test_graphs_inside_of_nodes_functions_and_sequences() -> None:
    half = TensorProto.FLOAT16
    bodies = {
        f"{side}_branch": helper.make_graph(
            [helper.make_node("Mul", ["h", f"{side}/by"], [f"{side}/out"])],
            side,
            [],
            [helper.make_tensor_value_info(f"{side}/out", half, ["n", 4])],
            [numpy_helper.from_array(np.array(factor, np.float16), f"{side}/by")],
        )
        for side, factor in (("then", 3), ("else", 5))
    }
    nodes = [
        helper.make_node("Halved", ["x"], ["h"], domain="own"),
        helper.make_node("If", ["yes"], ["m"], **bodies),
        helper.make_node("SplitToSequence", ["m"], ["s"], axis=1),
        helper.make_node("ConcatFromSequence", ["s"], ["c"], axis=1),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    cast = helper.make_node("Cast", ["a"], ["b"], to=half)
    imports = [helper.make_opsetid("", 18)]
    function = helper.make_function("own", "Halved", ["a"], ["b"], [cast], imports)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    yes = numpy_helper.from_array(np.array(True), "yes")
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [yes])
    graph.value_info.append(helper.make_tensor_sequence_value_info("s", half, None))
    model = helper.make_model(
        graph, opset_imports=[*imports, helper.make_opsetid("own", 1)], functions=[function], ir_version=8
    )
    x = numbers(2, 4, seed=2008)
    program = explain.compile(model, "forward")
    assert halves(program.model) == 0
    np.testing.assert_allclose(run(program, {"x": x})["y"], 3 * x, rtol=1e-6)


@pytest.mark.parametrize("fill", [-np.inf, -65504.0])
@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "deeplift"])
def test_attention_masks_leave_finite_sums(fill: float, method: str) -> None:
    """-65504 twice is more than float16 holds; in float32 it is a number, and a masked place counts nothing."""
    nodes: list[Any] = [
        ("Where", ["keep", "zero", "fill"], ["bias"]),
        ("Add", ["x", "bias"], ["once"]),
        ("Add", ["once", "bias"], ["twice"]),
        ("Softmax", ["twice"], ["p"]),
        ("MatMul", ["p", "v"], ["y"]),
    ]
    weights = {"v": numbers(5, 2, seed=2009).astype(np.float16), "zero": np.array(0, np.float16)}
    weights |= {"fill": np.array(fill, np.float16), "keep": np.array([True, True, False, True, False])}
    model = made(nodes, {"x": ("float16", ["n", 5])}, {"y": ("float16", ["n", 2])}, weights)
    x = numbers(3, 5, seed=2010).astype(np.float16)
    options = {} if method == "saliency" else {"baseline": 0.0}
    found = attribute(model, {"x": x}, method, target=0, **options).values["x"]
    assert np.isfinite(found).all()
    assert (found[:, [2, 4]] == 0).all()
    assert (found[:, [0, 1, 3]] != 0).all()


def lowered(exported: onnx.ModelProto, how: str) -> onnx.ModelProto:
    """A file in float16 as ONNX Runtime's tool writes it."""
    blocked = ["Softmax", "LayerNormalization"] if how == "blocked" else None
    copy = onnx.ModelProto()
    copy.CopyFrom(exported)
    return convert_float_to_float16(copy, keep_io_types=how == "kept", op_block_list=blocked)


@pytest.mark.filterwarnings("ignore")  # PyTorch and transformers speak of their own future
@pytest.mark.parametrize("how", ["kept", "pure", "blocked"])
def test_bert_in_float16_is_explained_as_in_float32(how: str) -> None:
    """Within 2 % of the largest attribution, of an embedded token sequence, whatever the converter left in float32."""
    _, proto = exported("bert", "eager", Exporter(False, 17))
    half = lowered(proto, how)
    assert halves(half) > 50
    inputs = token_batch(4, 9)
    baseline = {name: np.zeros_like(array) if name == "input_ids" else array for name, array in inputs.items()}
    for method, options in {"integrated_gradients": {"baseline": baseline}, "saliency": {"absolute": False}}.items():
        outputs = {"y": served(half, inputs)}
        found = attribute(half, inputs, method, target=1, outputs=outputs, **options)
        expected = attribute(proto, inputs, method, target=1, **options)
        for name in expected.values:
            assert explain.attribution_error(found.values[name], expected.values[name]) <= 2e-2
        assert 0 < max(figures["forward_gap"] for figures in found.quality) < 2e-2


@pytest.mark.filterwarnings("ignore")
def test_a_network_that_was_exported_in_half_precision() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(64, 3)
    ).eval()
    wide = Exporter(True, 18)(network, {"x": torch.tensor(X)}, [{0: "n"}])
    narrow = Exporter(True, 18)(network.half(), {"x": torch.tensor(X).half()}, [{0: "n"}])
    assert halves(narrow) > 4
    for method, options in {
        "integrated_gradients": {"baseline": 0.0},
        "smooth_grad": {},
        "deeplift": {"baseline": 0.0},
    }.items():
        found, expected = (attribute(model, {"x": X}, method, target=2, **options) for model in (narrow, wide))
        assert explain.attribution_error(found.values["x"], expected.values["x"]) <= 1e-2


def test_halves_that_are_left_are_seen() -> None:
    assert halves(convolution("ReduceMax", "float16")) == 4
    assert halves(convolution("ReduceMax", "float32")) == 0
