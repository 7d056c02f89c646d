"""`coverage` says what can be explained, and what stands in the way of the rest."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import onnx
import pytest

import explain
from tests.explain.graphs import CNN_NODES, CNN_WEIGHTS, Nodes, attribute, cnn, made, mlp, numbers, serve

SPECIAL = {name for name, method in explain.METHODS.items() if {"trees", "affine"} & method.needs}
ALL = set(explain.METHODS) - SPECIAL
MAPS = {"grad_cam", "hires_cam", "layer_cam"}
COALITIONS = ALL & {
    "kernel_shap",
    "exact_shap",
    "permutation_shap",
    "sampling_shap",
    "partition_shap",
    "lime",
    "feature_ablation",
    "occlusion",
    "rise",
}
GRADIENTS = ALL - COALITIONS
X = numbers(40, 5, seed=160)


def test_a_network_with_everything() -> None:
    found = explain.coverage(cnn())
    assert found.differentiable
    assert set(found.methods) == ALL
    assert set(found.refused) == SPECIAL
    assert found.blocking == ()
    expected = {"Conv": 2, "Relu": 2, "MaxPool": 1, "GlobalAveragePool": 1, "Flatten": 1, "MatMul": 1}
    assert found.operators == expected
    assert (found.explained.space, found.explained.output) == ("logit", "p")
    assert explain.coverage(cnn(), space="probability").operators == expected | {"Softmax": 1}


def test_a_network_without_convolutions_has_no_map() -> None:
    found = explain.coverage(mlp())
    assert set(found.methods) == ALL - MAPS
    reason = "the model has no convolution between its inputs and the explained output"
    assert {name: why for name, why in found.refused.items() if name not in SPECIAL} == dict.fromkeys(MAPS, reason)


def test_an_operator_without_a_rule_is_named_with_node_and_opset() -> None:
    node = ("MelWeightMatrix", ["bins", "length", "rate", "low", "high"], ["m"])
    weights = {
        "bins": np.array(3),
        "length": np.array(8),
        "rate": np.array(16),
        "low": np.float32(0),
        "high": np.float32(4),
        "regions": np.zeros((1, 5), np.float32),
    }
    pool = ("MaxRoiPool", ["h", "regions"], ["y"], {"name": "pool", "pooled_shape": [1, 1]})
    nodes: Nodes = [node, ("MatMul", ["x", "m"], ["h"]), pool]
    model = made(nodes, {"x": ("float32", ["n", 1, 3, 5])}, {"y": ("float32", ["n", 1, 1, 1])}, weights)
    found = explain.coverage(model)
    assert not found.differentiable
    (blocker,) = found.blocking
    assert (blocker.op, blocker.node, blocker.opset) == ("MaxRoiPool", "pool", 18)
    assert "no gradient rule for MaxRoiPool" in blocker.reason
    assert found.operators == {"MatMul": 1}
    assert set(found.refused) == GRADIENTS | SPECIAL
    assert found.refused["saliency"].startswith(
        "operator MaxRoiPool (node 'pool', opset 18): no gradient rule for MaxRoiPool"
    )
    with pytest.raises(
        explain.MethodUnavailable, match="method saliency is not offered for this model: operator MaxRoiPool"
    ):
        attribute(model, {"x": numbers(1, 1, 3, 5)}, "saliency")
    with pytest.raises(explain.UnsupportedOperator, match="operator MaxRoiPool"):
        explain.compile(model, "vjp")


def test_operators_off_the_path_do_not_count() -> None:
    """What makes a shape, or feeds another output, is not in the way."""
    pool = ("MaxRoiPool", ["x", "regions"], ["pooled"], {"pooled_shape": [1, 1]})
    specs: Any = {"y": ("float32", ["n", 1, 3, 3]), "pooled": ("float32", ["n", 1, 1, 1])}
    constants = {"regions": np.zeros((1, 5), np.float32)}
    model = made([pool, ("Tanh", ["x"], ["y"])], {"x": ("float32", ["n", 1, 3, 3])}, specs, constants)
    assert explain.coverage(model).differentiable
    assert not explain.coverage(model, output="pooled").differentiable


def test_a_model_whose_output_is_flat_everywhere() -> None:
    model = made([("Floor", ["x"], ["y"])], {"x": ("float32", ["n", 3])}, {"y": ("float32", ["n", 3])})
    found = explain.coverage(model)
    assert found.refused["saliency"] == "no input reaches output 'y' through a gradient"
    assert set(found.methods) == COALITIONS | {"linear_shap"}


def test_a_model_with_an_input_of_our_name_keeps_the_methods_that_do_not_need_it() -> None:
    model = made([("Tanh", ["target"], ["y"])], {"target": ("float32", ["n", 3])}, {"y": ("float32", ["n", 3])})
    found = explain.coverage(model)
    assert set(found.methods) == COALITIONS | {"linear_shap"}
    assert found.refused["saliency"].startswith("the model's input 'target' has the name of an input of this program")
    x = numbers(1, 3, seed=166)
    shap = attribute(model, {"target": x}, "exact_shap", background=np.zeros((1, 3)), target=1)
    np.testing.assert_allclose(shap.values["target"], [[0, np.tanh(x[0, 1]), 0]], atol=1e-7)


def test_it_is_written_as_json_and_kept() -> None:
    model = explain.Model(cnn())
    found = explain.coverage(model)
    assert json.loads(json.dumps(found.to_dict()))["methods"] == list(found.methods)
    assert explain.coverage(model) is found
    assert explain.coverage(model, space="probability") is not found


def test_how_items_are_joined_is_said() -> None:
    assert explain.coverage(mlp()).batching == "items are joined along axis 0"
    assert explain.coverage(explain.Model(mlp(batch=1), row_by_row=True)).batching.startswith("row by row")


def with_side_input(first: str) -> onnx.ModelProto:
    """A CNN with a vector beside the image, which is declared first or second and joins after the convolutions."""
    nodes: Nodes = [*CNN_NODES, ("MatMul", ["side", "u"], ["s"]), ("Add", ["logits", "s"], ["y"])]
    inputs: Any = {"side": ("float32", ["n", 3]), "image": ("float32", ["n", 1, 8, 8])}
    order = [first, *(name for name in inputs if name != first)]
    weights = CNN_WEIGHTS | {"u": numbers(3, 2)}
    return made(nodes, {name: inputs[name] for name in order}, {"y": ("float32", ["n", 2])}, weights)


@pytest.mark.parametrize("first", ["side", "image"])
def test_a_map_is_about_the_image_wherever_it_stands(first: str) -> None:
    image, side = numbers(2, 1, 8, 8, seed=161), numbers(2, 3, seed=162)
    found = attribute(with_side_input(first), {"image": image, "side": side}, "grad_cam", target=0)
    expected = attribute(cnn(), {"image": image}, "grad_cam", target=0)
    assert list(found.values) == ["image"]
    np.testing.assert_allclose(found.values["image"], expected.values["image"], rtol=1e-6)


def test_a_map_over_tokens() -> None:
    """An embedding, then a convolution along the text: one number for each position that is left."""
    table, k = numbers(9, 4, seed=163), numbers(2, 4, 3, seed=164)
    nodes: Nodes = [
        ("Gather", ["table", "ids"], ["e"]),
        ("Transpose", ["e"], ["t"], {"perm": [0, 2, 1]}),
        ("Conv", ["t", "k"], ["c"]),
        ("ReduceMean", ["c", "axes"], ["y"], {"keepdims": 0}),
    ]
    weights = {"table": table, "k": k, "axes": np.array([2])}
    model = made(nodes, {"ids": ("int64", ["n", "t"])}, {"y": ("float32", ["n", 2])}, weights)
    ids = np.array([[1, 5, 2, 2, 8]])
    found = attribute(model, {"ids": ids}, "grad_cam", target=1, relu=False).values["ids"]
    e = table[ids[0]].T.astype(float)
    c = np.array([(e[:, i : i + 3] * k[1]).sum() for i in range(3)])
    np.testing.assert_allclose(found, [c / 3], rtol=1e-5)


def test_a_layer_that_holds_other_items_than_the_request_is_refused() -> None:
    """Frames of a video folded into the batch: the layer's axis 0 are not the items."""
    nodes: Nodes = [
        ("Reshape", ["video", "frames"], ["image"]),
        *CNN_NODES,
        ("Reshape", ["logits", "back"], ["l"]),
        ("ReduceMean", ["l", "axes"], ["y"], {"keepdims": 0}),
    ]
    weights = CNN_WEIGHTS | {"frames": np.array([-1, 1, 8, 8]), "back": np.array([-1, 2, 2]), "axes": np.array([1])}
    model = made(nodes, {"video": ("float32", ["n", 2, 1, 8, 8])}, {"y": ("float32", ["n", 2])}, weights)
    video = numbers(3, 2, 1, 8, 8, seed=165)
    with pytest.raises(explain.MethodUnavailable, match="layer 'conv2' does not hold one map for each item"):
        attribute(model, {"video": video}, "grad_cam", target=0)


sklearn_only = pytest.importorskip("sklearn", reason="scikit-learn is not installed")
skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")


def fitted(kind: str) -> tuple[Any, onnx.ModelProto]:
    """A fitted scikit-learn model and its ONNX export."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    estimator = {
        "forest": RandomForestClassifier(n_estimators=8, max_depth=4, random_state=0),
        "regressor": RandomForestRegressor(n_estimators=8, max_depth=4, random_state=0),
        "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
    }[kind]
    y = X @ np.array([1.0, -2, 0, 1, 0.5])
    estimator.fit(X, y if kind == "regressor" else (y > 0).astype(int) + (y > 2))
    options = {} if kind == "regressor" else {id(estimator): {"zipmap": False}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = skl2onnx.to_onnx(estimator, X[:1], options=options, target_opset={"": 18, "ai.onnx.ml": 3})
    return estimator, proto


@pytest.mark.parametrize("kind", ["forest", "regressor", "pipeline"])
def test_shapley_values_of_scikit_learn_models(kind: str) -> None:
    """By the definition, on the estimator itself: the mean over all orders of what each feature adds."""
    from itertools import permutations

    estimator, model = fitted(kind)
    rows, background = X[:2], X[10:14]
    target = None if kind == "regressor" else 1
    found = attribute(model, {"X": rows}, "exact_shap", background=background, target=target, space="output")
    kernel = attribute(model, {"X": rows}, "kernel_shap", background=background, target=target, space="output")

    def worth(item: int, kept: tuple[int, ...]) -> float:
        blend = background.copy()
        blend[:, list(kept)] = rows[item, list(kept)]
        answer = estimator.predict(blend) if kind == "regressor" else estimator.predict_proba(blend)[:, 1]
        return float(answer.mean())

    for item in range(2):
        worths = {frozenset(kept): worth(item, kept) for size in range(6) for kept in _subsets(5, size)}
        phi = np.zeros(5)
        for order in permutations(range(5)):
            for place, player in enumerate(order):
                phi[player] += worths[frozenset(order[: place + 1])] - worths[frozenset(order[:place])]
        assert explain.attribution_error(found.values["X"][item], phi / 120) <= 1e-4
        assert explain.attribution_error(kernel.values["X"][item], phi / 120) <= 1e-4
    if kind == "pipeline":
        assert explain.coverage(model).explained.output == "probabilities"


def _subsets(players: int, size: int) -> list[tuple[int, ...]]:
    from itertools import combinations

    return list(combinations(range(players), size))


@pytest.mark.parametrize(("kind", "op"), [("forest", "TreeEnsembleClassifier"), ("regressor", "TreeEnsembleRegressor")])
def test_gradients_of_trees_are_refused_by_name(kind: str, op: str) -> None:
    _, model = fitted(kind)
    found = explain.coverage(model)
    assert not found.differentiable
    assert [blocker.op for blocker in found.blocking] == [op]
    assert f"no gradient rule for ai.onnx.ml::{op}" in found.refused["integrated_gradients"]
    assert set(found.methods) == COALITIONS | {"tree_shap", "tree_shap_interactions"}
    with pytest.raises(explain.MethodUnavailable, match=op):
        attribute(model, {"X": X[:1]}, "saliency")


def test_the_first_output_of_a_classifier_is_no_number_and_stays_in_forward() -> None:
    _, model = fitted("forest")
    program = explain.compile(model, "forward")
    assert list(program.outputs) == ["label", "probabilities"]
    found = attribute(model, {"X": X[:3]}, "exact_shap", background=X[:2], target=[0, 1, 2])
    served = serve(model, {"X": X[:3]})["probabilities"]
    np.testing.assert_allclose(found.explained_value, served[[0, 1, 2], [0, 1, 2]], rtol=1e-6)
