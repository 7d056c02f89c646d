"""The handle on a model: reading, spaces of the explained value, and models that take one item at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import explain
from tests.explain.graphs import (
    CNN_NODES,
    CNN_WEIGHTS,
    MLP_NODES,
    MLP_WEIGHTS,
    Nodes,
    agree,
    attribute,
    cnn,
    made,
    mlp,
    mlp_twin,
    numbers,
    run,
    serve,
    tensor,
)

X = numbers(5, 4, seed=120)
BACKGROUND = numbers(3, 4, seed=121)


def test_a_model_is_read_from_a_proto_bytes_or_a_path(tmp_path: Path) -> None:
    proto = mlp()
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    digests = {explain.compile(source, "forward").digest for source in (proto, path.read_bytes(), path, str(path))}
    assert len(digests) == 1
    assert explain.Model(path.read_bytes()).digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("source", [b"no model", b"", b"\x00" * 100, onnx.ModelProto().SerializeToString()])
def test_bytes_that_are_no_model_are_refused(source: bytes) -> None:
    with pytest.raises(explain.InvalidModel, match=r"is this an ONNX model|are no ONNX model"):
        explain.coverage(source)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(explain.InvalidModel, match=r"could not be read.*missing\.onnx"):
        explain.Model(tmp_path / "missing.onnx")


@pytest.mark.parametrize(
    ("link", "space", "expected"),
    [
        ("Softmax", None, ("z", "logit", "softmax")),
        ("Softmax", "logit", ("z", "logit", "softmax")),
        ("Softmax", "probability", ("y", "probability", "identity")),
        ("Softmax", "output", ("y", "output", "identity")),
        ("Sigmoid", None, ("z", "logit", "sigmoid")),
        (None, None, ("z", "output", "identity")),
        (None, "logit", ("z", "output", "identity")),
    ],
)
def test_spaces(link: str | None, space: str | None, expected: tuple[str, str, str]) -> None:
    found = explain.Model(mlp(link)).explained(space=space)
    assert (found.value, found.space, found.link) == expected
    assert (found.rank, found.dtype) == (2, "float32")


def test_a_probability_that_is_none_is_refused() -> None:
    with pytest.raises(explain.InvalidParameter, match="output 'z' does not end in a Softmax or Sigmoid"):
        explain.Model(mlp()).explained(space="probability")


def test_a_link_is_seen_through_casts_and_identities() -> None:
    nodes: Nodes = [
        *MLP_NODES,
        ("Softmax", ["z"], ["s"]),
        ("Identity", ["s"], ["t"]),
        ("Cast", ["t"], ["y"], {"to": 11}),
    ]
    model = explain.Model(made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float64", ["n", 3])}, MLP_WEIGHTS))
    assert (model.explained().value, model.explained().space) == ("z", "logit")
    found = attribute(model, {"x": X}, "saliency", target=1)
    np.testing.assert_allclose(found.explained_value, mlp_twin(tensor(X))[:, 1], rtol=1e-5)
    assert max(figures["forward_gap"] for figures in found.quality) < 1e-6


def test_a_softmax_over_another_axis_is_not_stepped_around() -> None:
    nodes: Nodes = [("Softmax", ["x"], ["y"], {"axis": 1})]
    model = made(nodes, {"x": ("float32", ["n", 3, 2])}, {"y": ("float32", ["n", 3, 2])})
    assert explain.Model(model).explained().space == "output"
    over_items: Nodes = [("Softmax", ["x"], ["y"], {"axis": 0})]
    model = made(over_items, {"x": ("float32", ["n"])}, {"y": ("float32", ["n"])})
    assert explain.Model(model).explained().space == "output"


@pytest.mark.parametrize("opset", [13, 15, 18, 21, 23])
def test_opsets(opset: int) -> None:
    found = attribute(mlp("Softmax", opset=opset), {"x": X}, "saliency", target=2, absolute=False)
    expected = attribute(mlp("Softmax"), {"x": X}, "saliency", target=2, absolute=False)
    agree(found.values, expected.values, 1e-6)
    assert found.units == "logit"
    assert explain.Model(mlp(opset=opset)).opset == opset


def test_a_model_without_a_float_output_is_refused() -> None:
    model = made([("ArgMax", ["x"], ["y"])], {"x": ("float32", ["n", 4])}, {"y": ("int64", [1, 4])})
    with pytest.raises(explain.InvalidModel, match="no floating-point output to explain"):
        explain.coverage(model)


TRANSPOSED: Nodes = [
    ("Transpose", ["xt"], ["x"], {"perm": [1, 0]}),
    *MLP_NODES,
    ("Transpose", ["z"], ["zt"], {"perm": [1, 0]}),
]
AXES = {"axes": np.array([0])}


def batch_of_one(link: str) -> explain.Model:
    return explain.Model(mlp(link, batch=1), row_by_row=True)


def batch_axis_one(link: str, row_by_row: bool = True) -> explain.Model:
    nodes: Nodes = [*TRANSPOSED, (link, ["zt"], ["y"], {"axis": 0} if link == "Softmax" else {})]
    model = made(nodes, {"xt": ("float32", [4, "n"])}, {"y": ("float32", [3, "n"])}, MLP_WEIGHTS)
    return explain.Model(model, batch_axes={"xt": 1, "y": 1}, row_by_row=row_by_row)


def no_batch_axis(link: str) -> explain.Model:
    nodes: Nodes = [("Unsqueeze", ["x1", "axes"], ["x"]), *MLP_NODES, ("Squeeze", ["z", "axes"], ["z1"])]
    nodes = [*nodes, (link, ["z1"], ["y"])]
    model = made(nodes, {"x1": ("float32", [4])}, {"y": ("float32", [3])}, MLP_WEIGHTS | AXES)
    return explain.Model(model, batch_axes={"x1": None, "y": None}, row_by_row=True)


ROW_BY_ROW: list[Callable[[str], explain.Model]] = [
    batch_of_one,
    batch_axis_one,
    lambda link: batch_axis_one(link, row_by_row=False),
    no_batch_axis,
]


@pytest.mark.parametrize("link", ["Softmax", "Sigmoid"])
@pytest.mark.parametrize("twin", ROW_BY_ROW, ids=["fixed", "axis 1 by row", "axis 1", "none"])
def test_methods_on_models_that_take_one_item_or_another_layout(
    twin: Callable[[str], explain.Model], link: str
) -> None:
    model, batched = twin(link), explain.Model(mlp(link))
    name = next(iter(model.graph.inputs))
    everything: list[tuple[str, dict[str, Any]]] = [
        ("saliency", {}),
        ("input_x_gradient", {}),
        ("integrated_gradients", {"baseline": 0.0, "n_steps": 6}),
        ("integrated_gradients", {"baseline": 0.0, "rule": "adaptive", "tolerance": 1e-4, "max_evals": 80}),
        ("expected_gradients", {"background": BACKGROUND, "n_samples": 40, "tolerance": 0.3}),
        ("gradient_shap", {"background": BACKGROUND, "n_samples": 20}),
        ("smooth_grad", {"n_samples": 20}),
        ("smooth_grad_squared", {"background": BACKGROUND, "n_samples": 20}),
        ("var_grad", {"stdev": 0.5, "n_samples": 20}),
        ("integrated_gradients", {"baseline": 0.0, "rule": "secant", "n_steps": 6}),
        ("guided_backprop", {}),
        ("deeplift", {"baseline": 0.0}),
        ("deep_shap", {"background": BACKGROUND}),
        ("exact_shap", {"background": BACKGROUND}),
        ("kernel_shap", {"background": BACKGROUND}),
        ("permutation_shap", {"background": BACKGROUND, "n_permutations": 3}),
        ("sampling_shap", {"background": BACKGROUND, "n_permutations": 20}),
        ("partition_shap", {"background": BACKGROUND, "max_evals": 6}),
        ("lime", {"background": BACKGROUND, "n_samples": 40}),
        ("lime", {"baseline": X[::-1], "n_samples": 40}),
        ("feature_ablation", {"background": BACKGROUND}),
        ("occlusion", {"baseline": 0.5, "window": 2}),
        ("rise", {"background": BACKGROUND, "n_masks": 40}),
    ]
    assert set(explain.coverage(model).methods) == {method for method, _ in everything}
    for method, options in everything:
        found, expected = (
            attribute(model, {name: X}, method, **options),
            attribute(batched, {"x": X}, method, **options),
        )
        assert explain.attribution_error(found.values[name], expected.values["x"]) <= 2e-6, method
        np.testing.assert_allclose(found.explained_value, expected.explained_value, rtol=1e-5)
        assert (found.units, found.target.index.tolist()) == ("logit", expected.target.index.tolist())
        assert max(figures["forward_gap"] for figures in found.quality) < 1e-6
        # One row at a time, stretches share no points, and equal masks of different runs are evaluated again.
        if options.get("rule") != "secant" and method != "rise":
            assert [f["evaluations"] for f in found.quality] == [f["evaluations"] for f in expected.quality]


@pytest.mark.parametrize("twin", ROW_BY_ROW, ids=["fixed", "axis 1 by row", "axis 1", "none"])
def test_forward_and_vjp_of_such_models(twin: Callable[[str], explain.Model]) -> None:
    model, batched = twin("Softmax"), mlp("Softmax")
    name, cotangent = next(iter(model.graph.inputs)), numbers(1, 3, seed=122)
    rows = X[:1]
    found = run(explain.compile(model, "forward"), {name: rows})
    agree(found, serve(batched, {"x": rows}), 1e-6)
    vjp = explain.compile(model, "vjp")
    assert vjp.max_items == (1 if model.row_by_row else None)
    found = run(vjp, {name: rows, "y.cotangent": cotangent})
    expected = run(explain.compile(batched, "vjp"), {"x": rows, "y.cotangent": cotangent})
    agree(found, {f"{name}.gradient": expected["x.gradient"], "y": expected["y"]}, 2e-6)


def image_by_image() -> explain.Model:
    nodes: Nodes = [("Unsqueeze", ["pixels", "axes"], ["image"]), *CNN_NODES, ("Squeeze", ["logits", "axes"], ["y"])]
    inputs, outputs = {"pixels": ("float32", [1, 8, 8])}, {"y": ("float32", [2])}
    model = made(nodes, inputs, outputs, CNN_WEIGHTS | AXES)  # type: ignore[arg-type]  # lists of ints are lists
    return explain.Model(model, batch_axes={"pixels": None, "y": None}, row_by_row=True)


@pytest.mark.parametrize("method", ["grad_cam", "hires_cam", "layer_cam"])
def test_maps_image_by_image(method: str) -> None:
    images, model = numbers(3, 1, 8, 8, seed=123), image_by_image()
    found = attribute(model, {"pixels": images}, method, relu=False).values["pixels"]
    expected = attribute(cnn(), {"image": images}, method, relu=False).values["image"]
    assert explain.attribution_error(found, expected) <= 1e-6
    assert explain.coverage(model).batching.startswith("row by row")


def test_outputs_that_are_no_tensors_are_left_out() -> None:
    nodes: Nodes = [*MLP_NODES, ("Softmax", ["z"], ["p"]), ("SequenceConstruct", ["p"], ["list"])]
    model = made(nodes, {"x": ("float32", ["n", 4])}, {"p": ("float32", ["n", 3])}, MLP_WEIGHTS)
    sequence = onnx.helper.make_tensor_sequence_value_info("list", onnx.TensorProto.FLOAT, None)
    model.graph.output.append(sequence)
    assert list(explain.compile(model, "forward").outputs) == ["p"]
    assert attribute(model, {"x": X}, "saliency").explained_name == "logit of p"


def test_the_cache_of_programs_is_bounded() -> None:
    model = explain.Model(mlp())
    kept = [model.remember(str(number), lambda number=number: number) for number in range(100)]  # type: ignore[misc]  # bound now
    assert kept == list(range(100))
    assert model.remember("99", lambda: -1) == 99
    assert model.remember("0", lambda: -1) == -1


def test_float64_models_are_explained_in_float64() -> None:
    found = attribute(
        mlp(dtype="float64"), {"x": X.astype(float)}, "exact_shap", background=BACKGROUND.astype(float), target=0
    )
    np.testing.assert_allclose(found.explained_value, mlp_twin(tensor(X.astype(float)))[:, 0], rtol=1e-13)


def test_float16_models_are_explained() -> None:
    model, x = mlp("Softmax", "float16"), X.astype(np.float16)
    for method, options in {"saliency": {}, "exact_shap": {"background": BACKGROUND}}.items():
        found = attribute(model, {"x": x}, method, target=1, **options)
        expected = attribute(mlp("Softmax"), {"x": X}, method, target=1, **options)
        assert explain.attribution_error(found.values["x"], expected.values["x"]) <= 2e-2


def test_inputs_and_outputs_without_axes_are_run_one_row_at_a_time() -> None:
    """A rate beside the samples, and a single number as the answer."""
    nodes: Nodes = [("Mul", ["x", "rate"], ["m"]), ("Tanh", ["m"], ["t"]), ("ReduceSum", ["t"], ["y"], {"keepdims": 0})]
    inputs: Any = {"x": ("float32", ["n", 3]), "rate": ("float32", [])}
    model = explain.Model(made(nodes, inputs, {"y": ("float32", [])}))
    assert model.row_by_row
    assert model.batch_axes == {"rate": None, "y": None}
    x, rate = numbers(4, 3, seed=1), np.array([0.5, 1, 2, -1], np.float32)
    found = attribute(model, {"x": x, "rate": rate}, "saliency", absolute=False, target=0)
    slope = (1 - np.tanh(x * rate[:, None]) ** 2) * rate[:, None]
    np.testing.assert_allclose(found.values["x"], slope, rtol=1e-5)


def test_an_input_of_unknown_rank_is_named() -> None:
    model = made([("Tanh", ["x"], ["y"])], {"x": ("float32", ["n", 3])}, {"y": ("float32", ["n", 3])})
    model.graph.input[0].type.tensor_type.ClearField("shape")
    handle = explain.Model(model)
    explained = handle.explained()
    with pytest.raises(explain.MethodUnavailable, match="the shape of input 'x' is unknown"):
        handle.leaves(explained)
