"""Trees of scikit-learn with missing values and categories, converted and explained by what a client sends."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import explain
import exporters
from exporters.from_sklearn import Column, export_sklearn
from tests.explain.graphs import attribute, serve

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((300, 5)).astype(np.float32)
X[::6, 1] = np.nan
Y = np.nan_to_num(X[:, 0] * X[:, 1], nan=1.5) + X[:, 3]
JOBS = ["cook", "judge", "nurse"]
DATA = pd.DataFrame(
    {
        "age": X[:, 0],
        "job": RANDOM.choice(JOBS, 300),
        "pay": X[:, 3],
        "rooms": RANDOM.integers(0, 4, 300),
    }
)
SIDES = (DATA.age * (DATA.job == "judge") + DATA.pay + (DATA.rooms == 2) > 0.2).astype(int)
COLUMNS = [
    Column("age"),
    Column("job", levels={name: name for name in JOBS}),
    Column("pay"),
    Column("rooms", levels={i: str(i) for i in range(4)}),
]
SENT = {
    "numeric": DATA[["age", "pay"]].to_numpy(np.float32),
    "codes": np.stack([DATA.job.map(JOBS.index), DATA.rooms], axis=1).astype(np.int64),
}


@pytest.mark.parametrize("classes", [None, 2, 3])
def test_histogram_boosting_with_missing_values(classes: int | None) -> None:
    if classes is None:
        estimator, y = HistGradientBoostingRegressor(max_iter=12), Y
    else:
        estimator, y = HistGradientBoostingClassifier(max_iter=12), np.digitize(Y, [0.0, 1.0][: classes - 1])
    estimator.fit(X, y)
    model = explain.Model(export_sklearn(estimator, [Column(f"f{i}") for i in range(5)]).model)
    served = next(value for value in serve(model.proto, {"features": X[:30]}).values() if value.dtype.kind == "f")
    expected = estimator.predict(X[:30])[:, None] if classes is None else estimator.predict_proba(X[:30])
    np.testing.assert_allclose(served, expected, atol=1e-5)
    options = {"background": X[100:140], "target": None if classes is None else classes - 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns when it is imported
        import shap
    masker = shap.maskers.Independent(X[100:140], max_samples=40)
    explainer = shap.TreeExplainer(estimator, masker, feature_perturbation="interventional", model_output="raw")
    judged = np.asarray(explainer.shap_values(X[:30], check_additivity=False))
    judged = judged[:, :, -1] if judged.ndim == 3 else judged
    found = attribute(model, {"features": X[:30]}, "tree_shap", **options)
    assert explain.attribution_error(found.values["features"], judged) <= 1e-5
    assert max(figures["forward_gap"] for figures in found.quality) <= 1e-5


def test_categories_of_histogram_boosting_are_refused_by_name() -> None:
    codes = RANDOM.integers(0, 4, (300, 2)).astype(float)
    estimator = HistGradientBoostingRegressor(max_iter=3, categorical_features=[0]).fit(codes, codes[:, 0] == 2)
    with pytest.raises(exporters.UnsupportedModel, match="categorical_features"):
        export_sklearn(estimator, [Column("a"), Column("b")])


def test_a_logistic_regression_on_coded_categories_has_its_closed_form() -> None:
    columns = make_column_transformer((StandardScaler(), ["age", "pay"]), (OneHotEncoder(), ["job", "rooms"]))
    fitted = make_pipeline(columns, LogisticRegression()).fit(DATA, SIDES)
    model = explain.Model(export_sklearn(fitted, COLUMNS).model)
    rows = {name: array[:6] for name, array in SENT.items()}
    background = {name: array[50:80] for name, array in SENT.items()}
    found = attribute(model, rows, "linear_shap", background=background, target=1)
    exact = attribute(model, rows, "exact_shap", background=background, target=1)
    for name in SENT:
        np.testing.assert_allclose(found.values[name], exact.values[name], atol=1e-5)
    assert found.units == "logit"
    assert max(figures["forward_gap"] for figures in found.quality) <= 1e-5


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    "forest",
    [
        RandomForestClassifier(8, random_state=0),
        GradientBoostingClassifier(n_estimators=15, random_state=0),
        HistGradientBoostingClassifier(max_iter=8),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_category_has_one_number_whatever_it_is_encoded_as(encoder, forest) -> None:
    columns = make_column_transformer(
        (StandardScaler(), ["age", "pay"]), (encoder, ["job", "rooms"]), sparse_threshold=0
    )
    fitted = make_pipeline(columns, forest).fit(DATA, SIDES)
    model = explain.Model(export_sklearn(fitted, COLUMNS).model)
    rows = {name: array[:6] for name, array in SENT.items()}
    background = {name: array[50:80] for name, array in SENT.items()}
    found = attribute(model, rows, "tree_shap", background=background, target=1)
    exact = attribute(model, rows, "exact_shap", background=background, target=1)
    for name in SENT:
        np.testing.assert_allclose(found.values[name], exact.values[name], atol=5e-6)
    assert max(figures["forward_gap"] for figures in found.quality) <= 1e-5
