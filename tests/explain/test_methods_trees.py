"""`tree_shap`: against shap on fitted models, and against all coalitions through ONNX Runtime."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import explain
from tests.explain.forests import exported, interactions, rows, shapley, smooth, worths
from tests.explain.graphs import attribute, run, serve

X, BACKGROUND = rows(300, 5), rows(120, 5, seed=1)
Y = smooth(X)
SIDES, THIRDS = (Y > 0).astype(int), np.digitize(Y, [-0.7, 0.7])
FITTED: dict[str, tuple[Any, np.ndarray]] = {
    "forest": (RandomForestRegressor(12, max_depth=6, random_state=0), Y),
    "forest of 2": (RandomForestClassifier(12, max_depth=6, random_state=0), SIDES),
    "forest of 3": (RandomForestClassifier(12, random_state=0), THIRDS),
    "two targets": (RandomForestRegressor(6, max_depth=5, random_state=0), np.stack([Y, X[:, 0] ** 2], axis=1)),
    "extra": (ExtraTreesRegressor(8, random_state=0), Y),
    "extra of 3": (ExtraTreesClassifier(8, max_depth=7, random_state=0), THIRDS),
    "boosting": (GradientBoostingRegressor(n_estimators=25, random_state=0), Y),
    "boosting of 2": (GradientBoostingClassifier(n_estimators=25, random_state=0), SIDES),
    "tree": (DecisionTreeRegressor(random_state=0), Y),
    "tree of 3": (DecisionTreeClassifier(random_state=0), THIRDS),
}


def judged(estimator: Any, x: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """shap's values [N, C, F] of the margin, against the whole background, and its expected values [C]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns when it is imported
        import shap
    masker = shap.maskers.Independent(background, max_samples=len(background))
    explainer = shap.TreeExplainer(estimator, data=masker, feature_perturbation="interventional", model_output="raw")
    values = np.asarray(explainer.shap_values(x, check_additivity=False))
    whole = values.transpose(0, 2, 1) if values.ndim == 3 else values[:, None]
    return whole, np.atleast_1d(explainer.expected_value)


def compiled(model: Any, x: np.ndarray, background: np.ndarray, **options: Any) -> dict[str, np.ndarray]:
    name = "X" if isinstance(model, onnx.ModelProto) else next(iter(explain.Model.of(model).graph.inputs))
    return run(explain.compile(model, "tree_shap", background={name: background}, **options), {name: x})


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Within a share of the largest."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_close_is_not_satisfied_by_what_is_off() -> None:
    with pytest.raises(AssertionError):
        close(np.array([1.0, 2.0001]), np.array([1.0, 2.0]))
    with pytest.raises(AssertionError):
        close(np.ones(2), np.ones((2, 1)))


@pytest.mark.parametrize("kind", FITTED)
def test_tree_shap_is_shaps_on_every_row_and_class(kind: str) -> None:
    estimator, y = FITTED[kind]
    estimator.fit(X, y)
    found = compiled(exported(estimator, X), X[:40], BACKGROUND)
    expected, base = judged(estimator, X[:40], BACKGROUND)
    phi = found["X.attribution"]
    if phi.shape[1] == 2 and expected.shape[1] == 1:  # shap gives the second class of two alone
        close(phi[:, 0], -phi[:, 1], 1e-7)
        phi, found["base_value"] = phi[:, 1:], found["base_value"][1:]
    close(phi, expected)
    close(found["base_value"], base)


def test_boosting_of_three_classes_is_what_all_coalitions_say() -> None:
    estimator = GradientBoostingClassifier(n_estimators=8, random_state=0).fit(X, THIRDS)
    model = explain.Model(exported(estimator, X))
    found = compiled(model, X[:3], BACKGROUND[:20])
    for item in range(3):
        close(found["X.attribution"][item], shapley(worths(estimator.decision_function, X[item], BACKGROUND[:20])))
    close(found["value"], estimator.decision_function(X[:3]))


@pytest.mark.parametrize("kind", ["forest of 3", "boosting of 2"])
def test_the_method_is_exact_shap_and_holds_itself_against_the_served_model(kind: str) -> None:
    estimator, y = FITTED[kind]
    estimator.fit(X, y)
    model = explain.Model(exported(estimator, X))
    share = np.random.default_rng(5).uniform(0, 1, 30)
    options = {"background": BACKGROUND[:30], "background_weight": share, "target": 1}
    found = attribute(model, {"X": X[:6]}, "tree_shap", **options)
    exact = attribute(model, {"X": X[:6]}, "exact_shap", **options)
    close(found.values["X"], exact.values["X"])
    close(found.explained_value, exact.explained_value)
    close(found.base_values, exact.base_values)
    assert found.units == exact.units == ("logit" if kind == "boosting of 2" else "output units")
    for figures in found.quality:
        assert figures["forward_gap"] <= 1e-6
        assert figures["completeness_gap_relative"] <= 1e-6


def test_a_wrong_leaf_shows_in_the_figures() -> None:
    """The gaps are no formality: with one leaf of the program's trees changed both of them say so."""
    estimator, y = FITTED["boosting"]
    model = exported(estimator.fit(X, y), X)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    weights = next(item for item in changed.graph.node[0].attribute if item.name == "target_weights")
    weights.floats[:] = [value + (i % 9 == 0) for i, value in enumerate(weights.floats)]
    served = serve(model, {"X": X[:6]})
    found = attribute(changed, {"X": X[:6]}, "tree_shap", background=BACKGROUND, outputs=served)
    assert min(figures["forward_gap"] for figures in found.quality) > 1e-2


def test_a_row_costs_the_same_whatever_the_background() -> None:
    estimator, y = FITTED["forest"]
    model = explain.Model(exported(estimator.fit(X, y), X))
    small = explain.compile(model, "tree_shap", background={"X": BACKGROUND[:5]})
    large = explain.compile(model, "tree_shap", background={"X": rows(3000, 5, seed=3)})
    assert [node.op_type for node in small.model.graph.node] == [node.op_type for node in large.model.graph.node]
    assert abs(small.model.ByteSize() - large.model.ByteSize()) <= 0.02 * small.model.ByteSize()
    again = explain.compile(model, "tree_shap", background={"X": BACKGROUND[:5].copy()})
    assert again is small
    assert large.digest != small.digest
    for count in (6, 7, 8, 9):  # programs that hold a background may be large: few of them are kept
        explain.compile(model, "tree_shap", background={"X": BACKGROUND[:count]})
    assert explain.compile(model, "tree_shap", background={"X": BACKGROUND[:5]}) is not small


def test_weights_count_rows_as_often() -> None:
    estimator, y = FITTED["forest of 2"]
    model = exported(estimator.fit(X, y), X)
    share = np.array([0.5, 0.25, 0.25])
    found = compiled(model, X[:5], BACKGROUND[:3], weights=share)
    twice = compiled(model, X[:5], BACKGROUND[[0, 0, 1, 2]])
    close(found["X.attribution"], twice["X.attribution"], 1e-6)
    with pytest.raises(explain.InvalidParameter, match="weights"):
        compiled(model, X[:5], BACKGROUND[:3], weights=np.ones(3))


def test_groups_are_players() -> None:
    estimator, y = FITTED["forest of 3"]
    model = exported(estimator.fit(X, y), X)
    options = {"background": BACKGROUND[:20], "groups": {"X": [0, 1, 0, 2, 1]}, "group_names": ["a", "b", "c"]}
    found = attribute(model, {"X": X[:4]}, "tree_shap", target=2, **options)
    exact = attribute(model, {"X": X[:4]}, "exact_shap", target=2, **options)
    close(found.values["groups"], exact.values["groups"])
    with pytest.raises(explain.MethodUnavailable, match="never masked"):
        attribute(model, {"X": X[:4]}, "tree_shap", background=BACKGROUND, groups={"X": [0, 1, 0, -1, 1]})
    each = np.tile([0, 1, 0, 2, 1], (4, 1))
    with pytest.raises(explain.MethodUnavailable, match="same groups for all items"):
        attribute(model, {"X": X[:4]}, "tree_shap", background=BACKGROUND, groups={"X": each})


def mixed(count: int, seed: int = 0) -> np.ndarray:
    """Two numbers and two codes, of 4 and 3 levels."""
    random = np.random.default_rng(seed)
    codes = [random.integers(0, levels, (count, 1)) for levels in (4, 3)]
    return np.hstack([random.standard_normal((count, 2)), *codes]).astype(np.float32)


@pytest.mark.parametrize("forest", [RandomForestRegressor(10, random_state=0), GradientBoostingRegressor()])
def test_one_hot_blocks_and_scaled_columns_belong_to_what_was_sent(forest: Any) -> None:
    """Several columns are one player: its value is not the sum of what shap gives the columns."""
    x, background = mixed(300), mixed(25, seed=1)
    y = x[:, 0] * (x[:, 2] == 1) + (x[:, 2] == 3) * (x[:, 3] == 2) + x[:, 1]
    encoded = make_column_transformer((StandardScaler(), [0, 1]), (OneHotEncoder(), [2, 3]))
    pipeline = make_pipeline(encoded, forest).fit(x, y)
    model = explain.Model(exported(pipeline, x))
    found = attribute(model, {"X": x[:5]}, "tree_shap", background=background)
    f: Callable[[np.ndarray], np.ndarray] = lambda rows: pipeline.predict(rows)[:, None]  # noqa: E731
    for item in range(5):
        close(found.values["X"][item][None], shapley(worths(f, x[item], background)), 2e-5)
    assert max(figures["forward_gap"] for figures in found.quality) <= 1e-5


def test_what_is_no_sum_over_trees_of_single_elements_is_refused_by_name() -> None:
    turned = make_pipeline(PCA(3), RandomForestRegressor(3, random_state=0)).fit(X, Y)
    straight = LinearRegression().fit(X, Y)
    for estimator, reason in ((turned, "several elements"), (straight, "not made by a tree ensemble")):
        model = exported(estimator, X)
        assert reason in explain.coverage(model).refused["tree_shap"]
        with pytest.raises(explain.MethodUnavailable, match=reason):
            attribute(model, {"X": X[:2]}, "tree_shap", background=BACKGROUND)
    boosted = exported(FITTED["boosting of 2"][0].fit(X, SIDES), X)
    assert "tree_shap" in explain.coverage(boosted).methods
    assert "Sigmoid" in explain.coverage(boosted, space="probability").refused["tree_shap"]


def test_a_program_asks_for_no_more_rows_than_fit_and_any_split_is_the_same() -> None:
    estimator, y = FITTED["forest"]
    model = explain.Model(exported(estimator.fit(X, y), X))
    program = explain.compile(model, "tree_shap", background={"X": BACKGROUND})
    assert program.options["rows"] >= 16
    whole = run(program, {"X": X})["X.attribution"]
    parts = [run(program, {"X": X[i : i + 7]})["X.attribution"] for i in range(0, len(X), 7)]
    close(np.concatenate(parts), whole, 1e-6)


def test_in_double_precision_the_tables_are_exact() -> None:
    estimator, y = FITTED["forest"]
    model = exported(estimator.fit(X, y), X)
    found = compiled(model, X[:20], BACKGROUND, dtype="float64")
    expected, _ = judged(estimator, X[:20], BACKGROUND)
    close(found["X.attribution"], expected, 3e-7)  # the weights of the file itself are float32
    with pytest.raises(explain.InvalidParameter, match="float16"):
        compiled(model, X[:20], BACKGROUND, dtype="float16")


@pytest.mark.parametrize("kind", ["extra", "forest of 3"])
def test_leaves_without_tables_say_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, y = FITTED[kind]
    model = exported(estimator.fit(X, y), X)
    expected, _ = judged(estimator, X[:25], BACKGROUND)
    for deep, floats in ((0, 1 << 26), (3, 1 << 26), (12, 2000)):
        monkeypatch.setattr("explain.trees.blocks.DEEP", deep)
        monkeypatch.setattr("explain.trees.blocks.FLOATS", floats)
        found = compiled(model, X[:25], BACKGROUND)
        close(found["X.attribution"], expected)
        close(found["value"].sum(axis=1), serve(model, {"X": X[:25]})[served_name(kind)].sum(axis=1))
    monkeypatch.setattr("explain.trees.deep.BYTES", 1000)
    with pytest.raises(explain.MethodUnavailable, match="too deep for tables"):
        compiled(model, X[:25], BACKGROUND)


def served_name(kind: str) -> str:
    return "probabilities" if "of" in kind else "variable"


@pytest.mark.parametrize("kind", ["forest of 3", "boosting", "tree"])
def test_interactions_are_the_index_over_all_coalitions(kind: str) -> None:
    estimator, y = FITTED[kind]
    model = explain.Model(exported(estimator.fit(X, y), X))
    name = next(name for name, kind in model.graph.outputs.items() if kind.is_float)
    program = explain.compile(model, "tree_shap", background={"X": BACKGROUND[:15]}, interactions=True)
    found = run(program, {"X": X[:3]})["X.interaction"]
    values = run(explain.compile(model, "tree_shap", background={"X": BACKGROUND[:15]}), {"X": X[:3]})
    for item in range(3):
        worth = worths(lambda rows: serve(model.proto, {"X": rows})[name], X[item], BACKGROUND[:15])
        close(found[item], interactions(worth))
    close(found.sum(axis=3), values["X.attribution"], 2e-6)


def test_interactions_of_groups_and_of_leaves_too_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, y = FITTED["forest of 2"]
    model = exported(estimator.fit(X, y), X)
    options = {"background": BACKGROUND[:20], "groups": {"X": [0, 1, 0, 2, 1]}, "target": 1}
    found = attribute(model, {"X": X[:3]}, "tree_shap_interactions", **options)
    close(found.values["groups"].sum(axis=2), attribute(model, {"X": X[:3]}, "tree_shap", **options).values["groups"])
    monkeypatch.setattr("explain.trees.blocks.FLOATS", 1000)
    with pytest.raises(explain.MethodUnavailable, match="too deep for tables of interactions"):
        attribute(model, {"X": X[:3]}, "tree_shap_interactions", background=BACKGROUND)
