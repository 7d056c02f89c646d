"""diabetes: how far the disease has progressed a year after ten baseline measurements.

Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani (2004), Least Angle Regression; carried by scikit-learn,
read unscaled so that clients send what a laboratory reports. The source gives no unit for the serum values;
the units here are the usual clinical ones that the ranges match. It codes sex as 1 and 2 without saying which is which.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model_store import Baseline, Feature, InputSpec

from ..data import Array, Dataset, digest_of
from ..recipe import Recipe, Schedule

if TYPE_CHECKING:
    from torch import nn

_COLUMNS = (
    ("age", "age", "years"),
    ("sex", "sex (1 or 2; the source does not say which is which)", None),
    ("bmi", "body mass index", "kg/m²"),
    ("blood_pressure", "average blood pressure", "mmHg"),
    ("total_cholesterol", "total serum cholesterol", "mg/dL"),
    ("ldl", "low-density lipoproteins", "mg/dL"),
    ("hdl", "high-density lipoproteins", "mg/dL"),
    ("cholesterol_ratio", "total cholesterol / HDL", "dimensionless"),
    ("log_triglycerides", "serum triglycerides, logarithm", "ln(mg/dL)"),
    ("glucose", "blood sugar", "mg/dL"),
)
FEATURES = tuple(
    Feature(name=name, label=label, unit=unit, kind="number", input="features", index=place)
    for place, (name, label, unit) in enumerate(_COLUMNS)
)


def load(data: Path | None) -> Dataset:  # noqa: ARG001 - the data is inside scikit-learn; all loaders look alike
    """442 rows of 10 measurements; label = disease progression score, 25 to 346."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    raw = np.asarray(bunch.data, dtype=np.float64)
    labels = np.asarray(bunch.target, dtype=np.float32)

    def instance(row: int) -> Any:
        return {feature.name: float(value) for feature, value in zip(FEATURES, raw[row], strict=True)}

    return Dataset(
        name="Diabetes (Efron et al. 2004)",
        origin="scikit-learn load_diabetes, unscaled",
        sha256=digest_of(raw, labels),
        inputs={"features": raw.astype(np.float32)},
        labels=labels,
        instance=instance,
    )


def network(inputs: Mapping[str, Array], labels: Array) -> nn.Module:
    """Standardisation, two small hidden layers, one value in the units of the labels."""
    from ..nets import TabularNet

    return TabularNet(inputs["features"], outputs=1, hidden=(32, 16), dropout=0.3, values=labels)


RECIPE = Recipe(
    name="diabetes",
    description="Estimates diabetes progression one year ahead from ten baseline measurements.",
    task="regression",
    load=load,
    network=network,
    schedule=Schedule(epochs=200, batch_size=32, learning_rate=2e-3, weight_decay=3e-1, patience=40),
    inputs=(InputSpec(name="features", kind="tabular", dtype="float32", shape=["N", 10], batch_axis=0),),
    features=FEATURES,
    method="exact_shap",
    baseline=Baseline(kind="background_mean"),
    output_label="disease progression one year after baseline",
    unit="progression score",
)
