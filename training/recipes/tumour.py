"""tumour: is a breast mass malignant, from 30 measurements of its cell nuclei (Wisconsin diagnostic data).

Ten measurements are each given as the mean over the nuclei of an image, its standard error, and the mean of the
three largest. The three columns of a measurement are one group for explanations: they rise and fall together.
Lengths are in pixels of the digitised image.
Source: W. N. Street, W. H. Wolberg, O. L. Mangasarian (1993), doi 10.1117/12.148698; carried by scikit-learn.
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

_MEASUREMENTS = (
    ("radius", "radius", "pixels"),
    ("texture", "texture (spread of grey values)", "grey levels"),
    ("perimeter", "perimeter", "pixels"),
    ("area", "area", "pixels²"),
    ("smoothness", "smoothness (local variation of the radius)", "dimensionless"),
    ("compactness", "compactness (perimeter² / area − 1)", "dimensionless"),
    ("concavity", "concavity (depth of the dents in the outline)", "dimensionless"),
    ("concave_points", "concave points (share of the outline in dents)", "dimensionless"),
    ("symmetry", "symmetry", "dimensionless"),
    ("fractal_dimension", "fractal dimension (roughness of the outline)", "dimensionless"),
)
_STATISTICS = (("mean", "mean"), ("error", "standard error of"), ("worst", "worst (largest)"))


def _features() -> tuple[Feature, ...]:
    features = []
    for block, (statistic, words) in enumerate(_STATISTICS):
        for place, (name, label, unit) in enumerate(_MEASUREMENTS):
            features.append(
                Feature(
                    name=f"{statistic}_{name}",
                    label=f"{words} {label}",
                    unit=unit,
                    kind="number",
                    input="features",
                    index=block * len(_MEASUREMENTS) + place,
                    group=name.replace("_", " "),
                )
            )
    return tuple(features)


FEATURES = _features()


def load(data: Path | None) -> Dataset:  # noqa: ARG001 - the data is inside scikit-learn; all loaders look alike
    """569 rows of 30 measurements; label 0 = malignant, 1 = benign, as in the source."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    raw = np.asarray(bunch.data, dtype=np.float64)
    labels = np.asarray(bunch.target, dtype=np.int64)

    def instance(row: int) -> Any:
        return {feature.name: float(value) for feature, value in zip(FEATURES, raw[row], strict=True)}

    return Dataset(
        name="Breast Cancer Wisconsin (diagnostic)",
        origin="scikit-learn load_breast_cancer",
        sha256=digest_of(raw, labels),
        inputs={"features": raw.astype(np.float32)},
        labels=labels,
        instance=instance,
    )


def network(inputs: Mapping[str, Array], labels: Array) -> nn.Module:  # noqa: ARG001 - regression recipes need them
    """Standardisation, two small hidden layers, two logits."""
    from ..nets import TabularNet

    return TabularNet(inputs["features"], outputs=2, hidden=(32, 16), dropout=0.2)


RECIPE = Recipe(
    name="tumour",
    description="Tells malignant from benign breast masses by 30 measurements of cell nuclei.",
    task="classification",
    load=load,
    network=network,
    schedule=Schedule(epochs=150, batch_size=32, learning_rate=3e-3, weight_decay=1e-2, patience=25),
    inputs=(InputSpec(name="features", kind="tabular", dtype="float32", shape=["N", 30], batch_axis=0),),
    features=FEATURES,
    method="exact_shap",
    baseline=Baseline(kind="background_mean"),
    output_label="diagnosis",
    class_names=("malignant", "benign"),
    groups=True,
)
