"""`tree_shap` on models of XGBoost and LightGBM as onnxmltools converts them, with missing values and categories."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import pytest

import explain
from tests.explain.forests import rows, smooth
from tests.explain.graphs import attribute
from tests.explain.test_methods_trees import close, judged

xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
convert = pytest.importorskip("onnxmltools.convert", reason="onnxmltools is not installed")

X = rows(400, 6)
X[::7, 1] = np.nan
Y = smooth(np.nan_to_num(X, nan=1.5))
BACKGROUND = X[100:150]
TARGETS = {"value": Y, "sides": (Y > 0).astype(int), "thirds": np.digitize(Y, [-0.7, 0.7])}
CLASS = {"value": None, "sides": 1, "thirds": 2}


def boosted(library: str, kind: str) -> Any:
    if library == "xgboost":
        make = xgboost.XGBRegressor if kind == "value" else xgboost.XGBClassifier
        return make(n_estimators=12, max_depth=4, n_jobs=1)
    make = lightgbm.LGBMRegressor if kind == "value" else lightgbm.LGBMClassifier
    return make(n_estimators=12, verbose=-1, n_jobs=1)


def exported(estimator: Any, library: str) -> onnx.ModelProto:
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("X", FloatTensorType([None, 6]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "xgboost":
            proto = convert.convert_xgboost(estimator, initial_types=types)
        else:
            proto = convert.convert_lightgbm(estimator, initial_types=types, zipmap=False)
    assert isinstance(proto, onnx.ModelProto)
    return proto


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_boosted_trees_with_missing_values(library: str, kind: str) -> None:
    estimator = boosted(library, kind).fit(X, TARGETS[kind])
    model = explain.Model(exported(estimator, library))
    found = attribute(model, {"X": X[:15]}, "tree_shap", background=BACKGROUND, target=CLASS[kind])
    exact = attribute(model, {"X": X[:15]}, "exact_shap", background=BACKGROUND, target=CLASS[kind])
    close(found.values["X"], exact.values["X"])
    expected, _ = judged(estimator, X[:15], BACKGROUND)
    close(found.values["X"], expected[:, -1])
    assert found.units == ("output units" if kind == "value" else "logit")
    assert max(figures["forward_gap"] for figures in found.quality) <= 1e-6


@pytest.mark.filterwarnings("ignore")
def test_categories_of_lightgbm_are_branches_on_equal_numbers() -> None:
    x = X.copy()
    x[:, 5] = np.random.default_rng(3).integers(0, 6, len(x))
    estimator = lightgbm.LGBMRegressor(n_estimators=8, verbose=-1, n_jobs=1, min_child_samples=5)
    estimator.fit(x, Y + np.isin(x[:, 5], [1, 4]), categorical_feature=[5])
    proto = exported(estimator, "lightgbm")
    modes = next(item.strings for item in proto.graph.node[0].attribute if item.name == "nodes_modes")
    assert b"BRANCH_EQ" in modes
    found = attribute(proto, {"X": x[:10]}, "tree_shap", background=x[100:130])
    exact = attribute(proto, {"X": x[:10]}, "exact_shap", background=x[100:130])
    close(found.values["X"], exact.values["X"])
