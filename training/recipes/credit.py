"""credit: is a loan applicant a good or a bad credit risk (Statlog German credit, Hamburg, 1994).

Seven attributes are numbers and thirteen are coded. Clients send the codes of the source (``A11``), the manifest
carries what each means, and the level's place in its attribute's list is what the graph looks up in its embedding.
Source: H. Hofmann (1994), Statlog (German Credit Data), UCI, doi 10.24432/C5NC77, CC BY 4.0.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model_store import Baseline, Feature, InputSpec, Level

from ..data import Array, DataFile, Dataset, find
from ..errors import BadData
from ..recipe import Recipe, Schedule
from .credit_attributes import ATTRIBUTES, Attribute

if TYPE_CHECKING:
    from torch import nn

FILE = DataFile(
    name="german_credit.csv",
    url="https://raw.githubusercontent.com/jbrownlee/Datasets/f430307f22e1127f25765343df5d097fc16f113e/german.csv",
    checksum="ec12a88b9fc14d74ba646ea0410cf7ff4533bec2eb61652f8ad76796bbfec017",
)
NUMBERS = tuple(attribute for attribute in ATTRIBUTES if not attribute.levels)
CODED = tuple(attribute for attribute in ATTRIBUTES if attribute.levels)


def _feature(attribute: Attribute) -> Feature:
    if not attribute.levels:
        return Feature(
            name=attribute.name,
            label=attribute.label,
            unit=attribute.unit,
            kind="number",
            input="numeric",
            index=NUMBERS.index(attribute),
        )
    return Feature(
        name=attribute.name,
        label=attribute.label,
        kind="category",
        input="codes",
        index=CODED.index(attribute),
        levels=[Level(value=value, label=label) for value, label in attribute.levels.items()],
    )


FEATURES = tuple(_feature(attribute) for attribute in ATTRIBUTES)


def load(data: Path | None) -> Dataset:
    """1,000 applicants; label 0 = good, 1 = bad. Raises MissingData, BadData."""
    path = find(FILE, data)
    with path.open(newline="", encoding="utf-8") as stream:
        lines = [line for line in csv.reader(stream) if line]
    rows = [_row(line, f"{path.name}, line {number}") for number, line in enumerate(lines, start=1)]
    if not rows:
        raise BadData(f"{path.name}: no rows, expected 1,000")
    return Dataset(
        name="Statlog German credit",
        origin=FILE.url,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        inputs={
            "numeric": np.array([[row[a.name] for a in NUMBERS] for row in rows], dtype=np.float32),
            "codes": np.array([[list(a.levels).index(row[a.name]) for a in CODED] for row in rows], dtype=np.int64),
        },
        labels=np.array([{"1": 0, "2": 1}[line[-1]] for line in lines], dtype=np.int64),
        instance=lambda row: dict(rows[row]),
    )


def _row(line: list[str], where: str) -> dict[str, Any]:
    """One applicant in a client's words: attribute -> number or code."""
    if len(line) != len(ATTRIBUTES) + 1 or line[-1] not in ("1", "2"):
        raise BadData(f"{where}: expected {len(ATTRIBUTES)} attributes and a class 1 or 2, found {len(line)} columns")
    row: dict[str, Any] = {}
    for attribute, text in zip(ATTRIBUTES, line, strict=False):
        if attribute.levels and text not in attribute.levels:
            raise BadData(f"{where}: {attribute.name} is {text!r}, expected one of {', '.join(attribute.levels)}")
        try:
            row[attribute.name] = text if attribute.levels else float(text)
        except ValueError as error:
            raise BadData(f"{where}: {attribute.name} is {text!r}, expected a number") from error
    return row


def network(inputs: Mapping[str, Array], labels: Array) -> nn.Module:  # noqa: ARG001 - regression recipes need them
    """Seven standardised numbers and thirteen short embeddings into one hidden layer."""
    from ..nets import MixedNet

    levels = [len(attribute.levels) for attribute in CODED]
    return MixedNet(inputs["numeric"], levels, outputs=2, width=4, hidden=(24,), dropout=0.4)


RECIPE = Recipe(
    name="credit",
    description="Tells good from bad credit risks by twenty attributes of a loan applicant.",
    task="classification",
    load=load,
    network=network,
    schedule=Schedule(epochs=120, batch_size=32, learning_rate=2e-3, weight_decay=5e-2, patience=20),
    inputs=(
        InputSpec(name="numeric", kind="tabular", dtype="float32", shape=["N", len(NUMBERS)], batch_axis=0),
        InputSpec(name="codes", kind="tabular", dtype="int64", shape=["N", len(CODED)], batch_axis=0),
    ),
    features=FEATURES,
    method="kernel_shap",
    baseline=Baseline(kind="background_mean"),
    output_label="credit risk",
    class_names=("good", "bad"),
    needs_data=True,
)
