"""Trees read from the graph: modes, missing values, classes and links, against ONNX Runtime and by enumeration."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import explain
from explain.trees import Forest, read_forest
from explain.trees.paths import reached
from explain.trees.steps import Step, branch
from tests.explain.forests import classes, ensemble, shapley, stump, targets, worths
from tests.explain.graphs import attribute, run, serve

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE", "BRANCH_EQ", "BRANCH_NEQ"]
NEXT = np.float32(0.5) + np.float32(2**-24) * 2
GRID = np.array([-np.inf, -1.0, 0.0, np.nextafter(np.float32(0.5), np.float32(0)), 0.5, NEXT, 2.0, np.nan], np.float32)
POINTS = np.array(list(itertools.product(GRID, GRID)), dtype=np.float32)
FINITE = POINTS[~np.isinf(POINTS).any(axis=1)]
BACKGROUND = FINITE[::5]


def forest(model: onnx.ModelProto) -> Forest:
    handle = explain.Model(model)
    return read_forest(handle.graph, handle.explained().value)


def values(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """What the trees read from the graph add up to."""
    return reached(forest(model), x)


@pytest.mark.parametrize("missing", [(0, 0, 0), (1, 1, 1), (0, 1, 0), (1, 0, 1)], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_sends_every_number_where_the_runtime_sends_it(mode: str, missing: tuple[int, ...]) -> None:
    attributes = stump([mode] * 3, [0.5, 0.0, 0.5], missing, **targets())
    model = ensemble("TreeEnsembleRegressor", attributes, 1)
    served = serve(model, {"x": POINTS})["y"]
    np.testing.assert_array_equal(values(model, POINTS), served)
    program = explain.compile(model, "tree_shap", background={"x": BACKGROUND})
    found = run(program, {"x": FINITE})
    np.testing.assert_allclose(found["value"], serve(model, {"x": FINITE})["y"], atol=1e-6)
    f = lambda x: serve(model, {"x": x})["y"]  # noqa: E731
    for item in range(0, len(FINITE), 6):
        expected = shapley(worths(f, FINITE[item], BACKGROUND))
        np.testing.assert_allclose(found["x.attribution"][item], expected, atol=2e-6)


@pytest.mark.parametrize("deepest", [12, 0])
def test_missing_values_through_the_methods(deepest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tables, and for leaves that have none."""
    monkeypatch.setattr("explain.trees.blocks.DEEP", deepest)
    attributes = stump(["BRANCH_LEQ"] * 3, [0.5, 0.0, -0.5], (0, 1, 1), **targets())
    model = explain.Model(ensemble("TreeEnsembleRegressor", attributes, 1))
    rows = FINITE[-9:]
    assert np.isnan(rows).any()
    trees = attribute(model, {"x": rows}, "tree_shap", background=BACKGROUND)
    exact = attribute(model, {"x": rows}, "exact_shap", background=BACKGROUND)
    np.testing.assert_allclose(trees.values["x"], exact.values["x"], atol=2e-6)
    np.testing.assert_allclose(trees.base_values, exact.base_values, atol=2e-6)
    assert max(figures["forward_gap"] for figures in trees.quality) <= 1e-6
    with pytest.raises(explain.InvalidInputs, match="infinity"):
        attribute(model, {"x": POINTS}, "tree_shap", background=BACKGROUND)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_and_means_over_trees_in_both_precisions(dtype: str, aggregate: str) -> None:
    attributes = stump(["BRANCH_LEQ"] * 3, [0.5, 0.0, 0.25], (0, 0, 0), **targets())
    count = attributes.pop("n_targets") + 1
    twice = {name: [*value, *value] for name, value in attributes.items()}
    for name in ("nodes_treeids", "target_treeids"):
        twice[name] = [*attributes[name], *(1 for _ in attributes[name])]
    twice |= {"target_ids": [0, 0, 1, 1, 1, 1, 0, 0], "aggregate_function": aggregate, "base_values": [0.5, -0.25]}
    if dtype == "float64":
        for name in ("nodes_values", "target_weights", "base_values"):
            tensor = numpy_helper.from_array(np.array(twice.pop(name)) + 1e-12, name)
            twice[f"{name}_as_tensor"] = tensor
    model = ensemble("TreeEnsembleRegressor", twice | {"n_targets": count}, count, dtype)
    x = np.concatenate([FINITE.astype(dtype), np.array([[0.5 + 5e-13, 0.0]], dtype)])
    served = serve(model, {"x": x})["y"]
    np.testing.assert_allclose(values(model, x), served, rtol=1e-6)
    found = run(explain.compile(model, "tree_shap", background={"x": x[::7]}, dtype=dtype), {"x": x})
    np.testing.assert_allclose(found["value"], served, rtol=1e-6)
    whole = found["x.attribution"].sum(axis=2) + found["base_value"]
    np.testing.assert_allclose(whole, served, rtol=1e-5)


@pytest.mark.parametrize("aggregate", ["MIN", "MAX"])
def test_what_is_no_sum_is_refused_by_name(aggregate: str) -> None:
    attributes = stump(["BRANCH_LEQ"] * 3, [0.5, 0.0, 0.5], (0, 0, 0), **targets(), aggregate_function=aggregate)
    reason = explain.coverage(ensemble("TreeEnsembleRegressor", attributes, 1)).refused["tree_shap"]
    assert f"aggregate_function={aggregate!r}" in reason
    assert "TreeEnsembleRegressor" in reason


BASES: list[list[float]] = [[], [0.1], [0.1, 0.4]]
WEIGHTS: list[tuple[list[float], list[int]]] = [
    ([0.2, 0.7, 0.3, 0.9], [0] * 4),
    ([-0.2, 0.7, 0.3, -0.9], [0] * 4),
    ([0.2, 0.7, 0.3, 0.9], [1] * 4),
    ([0.2, 0.8, 0.7, 0.3, 0.4, 0.6, 0.9, 0.1], [0, 1] * 4),
]


@pytest.mark.parametrize("base", BASES, ids=str)
@pytest.mark.parametrize(("weights", "ids"), WEIGHTS, ids=str)
@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"])
def test_two_classes_are_what_the_runtime_makes_of_them_or_refused(
    post: str, weights: list[float], ids: list[int], base: list[float]
) -> None:
    """The specification leaves open what one score of two classes means."""
    attributes = stump(["BRANCH_LEQ"] * 3, [0.5, 0.0, 0.5], (0, 0, 0), **classes(weights, ids, 2), post_transform=post)
    model = ensemble("TreeEnsembleClassifier", attributes | ({"base_values": base} if base else {}), 2)
    x = FINITE[~np.isnan(FINITE).any(axis=1)]
    reason = explain.coverage(model).refused.get("tree_shap")
    if reason is not None:
        assert "post_transform" in reason or "base_values" in reason
        assert (post in ("SOFTMAX_ZERO", "PROBIT")) or (len(base) == 2 or (base and ids[0] == 1) or len(ids) == 8)
        return
    served = serve(model, {"x": x})
    found = attribute(model, {"x": x}, "tree_shap", background=x, outputs=served, target=1)
    assert max(figures["forward_gap"] for figures in found.quality) <= 1e-6
    assert max(figures["completeness_gap_relative"] for figures in found.quality) <= 1e-5


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX"])
def test_three_classes_and_their_links(post: str) -> None:
    weights, ids = [0.2, -0.8, 1.7, 0.3, 0.1, -0.5], [0, 1, 2, 0, 1, 2]
    given = classes(weights, ids, 3) | {"class_nodeids": [3, 4, 5, 6, 3, 4]}
    attributes = stump(["BRANCH_LEQ"] * 3, [0.5, 0.0, 0.5], (0, 0, 0), **given, post_transform=post)
    model = ensemble("TreeEnsembleClassifier", attributes | {"base_values": [0.1, 0.2, 0.3]}, 3)
    found = attribute(model, {"x": FINITE}, "tree_shap", background=BACKGROUND, target=2)
    assert found.units == ("output units" if post == "NONE" else "logit")
    assert max(figures["forward_gap"] for figures in found.quality) <= 1e-6
    exact = attribute(model, {"x": FINITE}, "exact_shap", background=BACKGROUND, target=2)
    np.testing.assert_allclose(found.values["x"], exact.values["x"], atol=2e-6)


def fifth(modes: list[int], transform: int = 0, **more: Any) -> dict[str, Any]:
    """A tree of ai.onnx.ml 5 with two branches and three leaves of two targets."""
    arrays = {"nodes_splits": np.array([0.5, 0.0], np.float32), "leaf_weights": np.array([1.0, 2.0, 4.0], np.float32)}
    arrays |= {"nodes_modes": np.array(modes, np.uint8)} | more
    return {
        "n_targets": 2,
        "post_transform": transform,
        "tree_roots": [0],
        "nodes_featureids": [0, 1],
        "nodes_truenodeids": [1, 1],
        "nodes_trueleafs": [0, 1],
        "nodes_falsenodeids": [0, 2],
        "nodes_falseleafs": [1, 1],
        "leaf_targetids": [0, 1, 1],
        **{name: numpy_helper.from_array(array, name) for name, array in arrays.items()},
    }


@pytest.mark.parametrize("mode", range(6))
@pytest.mark.parametrize("transform", [0, 1, 2])
def test_the_tree_ensemble_of_version_5(mode: int, transform: int) -> None:
    model = ensemble("TreeEnsemble", fifth([mode, 0], transform), 2, version=5)
    x = FINITE[~np.isnan(FINITE).any(axis=1)]
    found = attribute(model, {"x": x}, "tree_shap", background=BACKGROUND, target=1)
    assert max(figures["forward_gap"] for figures in found.quality) <= 1e-6
    exact = attribute(model, {"x": x}, "exact_shap", background=BACKGROUND, target=1)
    np.testing.assert_allclose(found.values["x"], exact.values["x"], atol=2e-6)


def test_a_set_of_members_is_a_condition_like_others() -> None:
    members = np.array([2.0, 1.0, np.nan], np.float32)
    model = ensemble("TreeEnsemble", fifth([6, 0], membership_values=members), 2, version=5)
    x = FINITE[~np.isnan(FINITE).any(axis=1)]
    np.testing.assert_array_equal(values(model, x), serve(model, {"x": x})["y"])
    found = run(explain.compile(model, "tree_shap", background={"x": BACKGROUND}), {"x": x})
    expected = shapley(worths(lambda rows: serve(model, {"x": rows})["y"], x[3], BACKGROUND))
    np.testing.assert_allclose(found["x.attribution"][3], expected, atol=2e-6)


def test_conditions_are_step_functions() -> None:
    one, other = branch("BRANCH_LEQ", np.float32(1), (), False), branch("BRANCH_GT", np.float32(-1), (), True)
    assert one is not None
    assert other is not None
    column = np.array([-2, -1, 0, 1, 2, np.nan], np.float32)
    np.testing.assert_array_equal((one & other)(column), [False, False, True, True, False, False])
    np.testing.assert_array_equal((~one)(column), [False, False, False, False, True, True])
    assert (one & ~one) == Step((), (False,), False)
    assert branch("BRANCH_ODD", np.float32(1), (), False) is None


def test_arithmetic_behind_several_ensembles_is_one_sum_over_trees() -> None:
    """A vote of two forests: 0.25 a - b / 2 + 3."""
    attributes = stump(["BRANCH_LEQ"] * 3, [0.5, 0.0, 0.5], (0, 0, 0), **targets())
    one, nodes = ensemble("TreeEnsembleRegressor", attributes, 1), []
    for name in ("a", "b"):
        nodes.append(helper.make_node("TreeEnsembleRegressor", ["x"], [name], domain="ai.onnx.ml", **attributes))
    nodes += [
        helper.make_node("Mul", ["a", "quarter"], ["c"]),
        helper.make_node("Div", ["b", "two"], ["d"]),
        helper.make_node("Sub", ["c", "d"], ["e"]),
        helper.make_node("Add", ["e", "three"], ["y"]),
    ]
    constants = {"quarter": 0.25, "two": 2.0, "three": 3.0}
    weights = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "vote", one.graph.input, one.graph.output, weights)
    model = helper.make_model(graph, opset_imports=one.opset_import, ir_version=9)
    found = attribute(model, {"x": FINITE}, "tree_shap", background=BACKGROUND)
    exact = attribute(model, {"x": FINITE}, "exact_shap", background=BACKGROUND)
    np.testing.assert_allclose(found.values["x"], exact.values["x"], atol=2e-6)
    assert max(figures["forward_gap"] for figures in found.quality) <= 1e-6
    nodes[-1] = helper.make_node("Mul", ["c", "d"], ["y"])
    del graph.node[:]
    graph.node.extend(nodes)
    product = helper.make_model(graph, opset_imports=one.opset_import, ir_version=9)
    assert "operator Mul" in explain.coverage(product).refused["tree_shap"]


def test_two_branches_may_lead_to_one_leaf() -> None:
    """As converters write a split on several categories."""
    attributes = stump(["BRANCH_EQ", "BRANCH_EQ", "BRANCH_LEQ"], [0.5, 0.0, -1.0], (0, 0, 0), **targets())
    attributes |= {"nodes_truenodeids": [1, 3, 3, 0, 0, 0, 0], "nodes_falsenodeids": [2, 4, 5, 0, 0, 0, 0]}
    attributes |= {name: attributes[name][:6] for name in attributes if name.startswith("nodes_")}
    places = [0, 1, 2]
    own = ("target_treeids", "target_nodeids", "target_ids", "target_weights")
    attributes |= {name: [attributes[name][i] for i in places] for name in own}
    model = ensemble("TreeEnsembleRegressor", attributes, 1)
    x = FINITE[~np.isnan(FINITE).any(axis=1)]
    np.testing.assert_array_equal(values(model, x), serve(model, {"x": x})["y"])
    found = attribute(model, {"x": x}, "tree_shap", background=BACKGROUND)
    exact = attribute(model, {"x": x}, "exact_shap", background=BACKGROUND)
    np.testing.assert_allclose(found.values["x"], exact.values["x"], atol=2e-6)
