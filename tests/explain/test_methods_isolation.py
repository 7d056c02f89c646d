"""Isolation forests: the depth that a tree's leaf stands for is computed behind it, and is a sum over trees still."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.ensemble import IsolationForest

import explain
from explain.trees import read_forest
from tests.explain.forests import exported, rows
from tests.explain.graphs import attribute
from tests.explain.test_methods_trees import close

X, BACKGROUND = rows(200, 5), rows(40, 5, seed=1)


def with_depth(estimator: IsolationForest) -> onnx.ModelProto:
    """The converted forest with an output for the mean depth in units of the expected one, of which scores are made."""
    model = exported(estimator, X)
    score = next(node for node in model.graph.node if node.op_type == "Pow")
    negated = next(node for node in model.graph.node if score.input[1] in node.output)
    model.graph.node.append(helper.make_node("Identity", [negated.input[0]], ["depth"]))
    model.graph.output.append(helper.make_tensor_value_info("depth", TensorProto.FLOAT, ["n", 1]))
    for value in model.graph.output:  # the converter declares fewer rows than it is fed
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    return model


def test_the_depth_of_an_isolation_forest() -> None:
    estimator = IsolationForest(n_estimators=8, max_samples=64, random_state=0).fit(X)
    model = explain.Model(with_depth(estimator))
    found = attribute(model, {"X": X[:12]}, "tree_shap", background=BACKGROUND, output="depth", target=0)
    exact = attribute(model, {"X": X[:12]}, "exact_shap", background=BACKGROUND, output="depth", target=0)
    close(found.values["X"], exact.values["X"], 2e-5)
    close(2.0**-found.explained_value, -estimator.score_samples(X[:12]))
    assert max(figures["forward_gap"] for figures in found.quality) <= 1e-5
    assert len(read_forest(model.graph, "depth").roots) == 8


def test_shap_explains_the_same_depth_in_other_units() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns when it is imported
        import shap
    estimator = IsolationForest(n_estimators=8, max_samples=64, random_state=0).fit(X)
    model = explain.Model(with_depth(estimator))
    found = attribute(model, {"X": X[:12]}, "tree_shap", background=BACKGROUND, output="depth", target=0).values["X"]
    masker = shap.maskers.Independent(BACKGROUND, max_samples=40)
    explainer = shap.TreeExplainer(estimator, masker, feature_perturbation="interventional")
    theirs = np.asarray(explainer.shap_values(X[:12], check_additivity=False))
    unit = (theirs * found).sum() / (found * found).sum()
    assert unit > 0
    close(unit * found, theirs, 1e-4)


def test_the_score_itself_is_no_sum_over_trees() -> None:
    model = with_depth(IsolationForest(n_estimators=3, max_samples=32, random_state=0).fit(X))
    assert "operator Pow" in explain.coverage(model, output="scores").refused["tree_shap"]
