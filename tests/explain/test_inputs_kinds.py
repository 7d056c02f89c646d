"""Inputs and outputs that ordinary exports have: optional, sequences, maps, defaults, strings, pictures of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import explain

FLOAT = TensorProto.FLOAT
W = np.array([[1.0], [-2.0], [0.5]], dtype=np.float32)
X = helper.make_tensor_value_info("x", FLOAT, ["N", 3])
Y = helper.make_tensor_value_info("y", FLOAT, ["N", 1])
ROWS = np.array([[1, 2, 3], [-1, 0.5, 2]], dtype=np.float32)
ML = helper.make_opsetid("ai.onnx.ml", 3)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], **arrays: Any) -> onnx.ModelProto:
    """A model at opset 18 with these constants."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), ML], ir_version=9)


def run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(program.serialize(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def optional(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    """An input or output that may be absent."""
    return helper.make_value_info(name, helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, shape)))


def squares() -> onnx.ModelProto:
    """y = (x + o)^2 @ W where o is given, x^2 @ W where it is not; the optional is asked for inside of a branch."""
    end = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("a", "b")]
    get, add = helper.make_node("OptionalGetElement", ["o"], ["e"]), helper.make_node("Add", ["x", "e"], ["a"])
    there = helper.make_graph([get, add], "there", [], end[:1])
    absent = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "absent", [], end[1:])
    nodes = [
        helper.make_node("OptionalHasElement", ["o"], ["has"]),
        helper.make_node("If", ["has"], ["s"], then_branch=there, else_branch=absent),
        helper.make_node("Mul", ["s", "s"], ["t"]),
        helper.make_node("MatMul", ["t", "w"], ["y"]),
    ]
    return model(nodes, [X, optional("o", ["N", 3])], [Y], w=W)


def test_an_optional_input_is_taken_as_given() -> None:
    """Both inputs are features, with the gradient of the branch that takes it; or it is held."""
    o = np.array([[0.5, 1, -1], [2, 0, 1]], dtype=np.float32)
    found = explain.attribute(squares(), {"x": ROWS, "o": o}, method="input_x_gradient", run=run)
    slope = 2 * (ROWS + o) * W[:, 0]
    np.testing.assert_allclose(found.values["x"], slope * ROWS, rtol=1e-5)
    np.testing.assert_allclose(found.values["o"], slope * o, rtol=1e-5)
    handle = explain.Model(squares(), held=["o"])
    zeros = {"x": ROWS[:1] * 0}
    found = explain.attribute(handle, {"x": ROWS, "o": o}, method="exact_shap", background=zeros, run=run)
    np.testing.assert_allclose(found.values["x"], ((ROWS + o) ** 2 - o**2) * W[:, 0], rtol=1e-4, atol=1e-5)


def test_an_optional_or_sequence_output_stands_beside() -> None:
    """What is explained is the tensor."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Optional", ["y"], ["o"]),
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
    ]
    ends = [optional("o", ["N", 1]), helper.make_tensor_sequence_value_info("s", FLOAT, ["N", 3]), Y]
    found = explain.attribute(model(nodes, [X], ends, w=W), {"x": ROWS}, method="input_x_gradient", run=run)
    np.testing.assert_allclose(found.values["x"], ROWS * W[:, 0], rtol=1e-6)


def test_sequences_and_maps_are_refused_by_name() -> None:
    """As inputs, and as the only outputs."""
    nodes = [
        helper.make_node("SequenceAt", ["s", "zero"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["y"]),
    ]
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, ["N", 3])
    with pytest.raises(explain.InvalidModel, match="input 's' is a sequence, and only tensors are explained"):
        explain.coverage(model(nodes, [sequence], [Y], w=W, zero=np.array(0)))
    mapped = onnx.ValueInfoProto(name="m")
    mapped.type.map_type.key_type = TensorProto.INT64
    mapped.type.map_type.value_type.tensor_type.elem_type = FLOAT
    vectorized = helper.make_node("DictVectorizer", ["m"], ["e"], domain="ai.onnx.ml", int64_vocabulary=[0, 1, 2])
    with pytest.raises(explain.InvalidModel, match="input 'm' is a map"):
        explain.coverage(model([vectorized, nodes[1]], [mapped], [Y], w=W))
    made = helper.make_node("SequenceConstruct", ["x", "x"], ["s"])
    with pytest.raises(explain.InvalidModel, match="output 's' is a sequence, and only tensors"):
        explain.coverage(model([made], [X], [sequence]))


def test_zip_maps_are_named() -> None:
    """What scikit-learn's converter writes unless it is told not to."""
    zipped = onnx.ValueInfoProto(name="p")
    element = zipped.type.sequence_type.elem_type.map_type
    element.key_type, element.value_type.tensor_type.elem_type = TensorProto.INT64, FLOAT
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"]),
        helper.make_node("ZipMap", ["s"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]),
        helper.make_node("ArgMax", ["s"], ["label"], axis=1, keepdims=0),
    ]
    label = helper.make_tensor_value_info("label", TensorProto.INT64, ["N"])
    with pytest.raises(explain.InvalidModel, match=r"made by ZipMap: export without it \(zipmap=False\)"):
        explain.coverage(model(nodes, [X], [label, zipped]))


@pytest.mark.parametrize("ir", [3, 9])
def test_inputs_with_a_value_in_the_file_are_no_features(ir: int) -> None:
    """Old exports list every weight as an input."""
    weight = helper.make_tensor_value_info("w", FLOAT, [3, 1])
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], [X, weight], [Y], w=W)
    proto.ir_version = ir
    found = explain.attribute(proto, {"x": ROWS}, method="exact_shap", background=ROWS[:1] * 0, run=run)
    np.testing.assert_allclose(found.values["x"], ROWS * W[:, 0], rtol=1e-5)
    with pytest.raises(explain.InvalidInputs, match="'w' has its value in the file"):
        explain.begin(proto, {"x": ROWS, "w": W}, method="saliency")


def words() -> onnx.ModelProto:
    """y = sum of squares of table[code of s] + x, over the columns."""
    keys = {"keys_strings": ["red", "green"], "values_int64s": [1, 2], "default_int64": 0}
    nodes = [
        helper.make_node("LabelEncoder", ["s"], ["code"], domain="ai.onnx.ml", **keys),
        helper.make_node("Gather", ["table", "code"], ["e"]),
        helper.make_node("Add", ["e", "x"], ["z"]),
        helper.make_node("Mul", ["z", "z"], ["q"]),
        helper.make_node("MatMul", ["q", "w"], ["y"]),
    ]
    s = helper.make_tensor_value_info("s", TensorProto.STRING, ["N"])
    return model(nodes, [s, X], [Y], table=np.arange(9, dtype=np.float32).reshape(3, 3), w=W)


def test_strings_are_removed_and_walked() -> None:
    """Coalitions put the background's string in the place of a string; gradients are taken at its encoding."""
    table = np.arange(9).reshape(3, 3)
    feeds = {"s": np.array(["red", "blue"], object), "x": ROWS}
    other = {"s": np.array(["green"], object), "x": np.zeros((1, 3), np.float32)}
    codes, base = np.array([1, 0]), 2

    def value(code: np.ndarray, x: np.ndarray) -> np.ndarray:
        return ((table[code] + x) ** 2 @ W)[:, 0]

    found = explain.attribute(words(), feeds, method="exact_shap", background=other, run=run)
    assert found.values["s"].shape == (2,)
    whole = value(codes, ROWS) - value(np.array([base]), ROWS * 0)
    np.testing.assert_allclose(found.values["s"] + found.values["x"].sum(axis=1), whole, rtol=1e-4)
    found = explain.attribute(words(), feeds, method="integrated_gradients", baseline=other, run=run)
    walked = (table[codes] + table[base] + ROWS) * W[:, 0] * (table[codes] - table[base])
    np.testing.assert_allclose(found.values["s"], walked.sum(axis=1), rtol=1e-3)
    handle = explain.Model(words(), held=["s"])
    found = explain.attribute(handle, feeds, method="exact_shap", background={"x": other["x"]}, run=run)
    assert set(found.values) == {"x"}
    np.testing.assert_allclose(found.values["x"].sum(axis=1), value(codes, ROWS) - value(codes, ROWS * 0), rtol=1e-4)


KERNEL = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32)
OF_PICTURES: dict[str, dict[str, Any]] = {
    "saliency": {},
    "integrated_gradients": {"baseline": 0.0},
    "grad_cam": {},
    "occlusion": {"baseline": 0.0},
    "rise": {"baseline": 0.0, "n_masks": 50},
    "partition_shap": {"groups": {"patches": {"size": 4}}, "removal": {"blur": {"sigma": 1.0}}, "max_evals": 50},
    "kernel_shap": {"groups": {"superpixels": {"count": 6}}, "removal": "mean"},
}


@pytest.mark.parametrize("method", OF_PICTURES)
def test_pictures_of_any_size(method: str) -> None:
    """One handle, and so one program, for every size; attributions are those of a model that declares the size."""

    def network(*size: int | str) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Flatten", ["p"], ["y"]),
        ]
        x = helper.make_tensor_value_info("x", FLOAT, ["N", 3, *size])
        y = helper.make_tensor_value_info("y", FLOAT, ["N", 2])
        return model(nodes, [x], [y], k=KERNEL)

    handle, digests = explain.Model(network("H", "W")), set()
    for size in ((8, 12), (17, 9)):
        x = np.random.default_rng(1).random((2, 3, *size), dtype=np.float32)
        given = {"method": method, "target": 0, "run": run, **OF_PICTURES[method]}
        found = explain.attribute(handle, {"x": x}, **given)
        fixed = explain.attribute(network(*size), {"x": x}, **given)
        digests.add(found.program_digest)
        for name, values in fixed.values.items():
            np.testing.assert_allclose(found.values[name], values, rtol=1e-3, atol=1e-5)
    assert len(digests) == 1
    with pytest.raises(explain.InvalidInputs, match="rows of different lengths"):
        explain.begin(handle, {"x": [np.zeros((3, 4, 4)), np.zeros((3, 5, 4))]}, method="saliency")
