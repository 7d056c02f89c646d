"""The adaptive rule's reported error holds for 95 % of the features and more, on networks trained with real data."""

from __future__ import annotations

import numpy as np
import pytest

import explain
import training
from exporters import export_torch
from tests.explain.graphs import attribute


def network(name: str) -> tuple[explain.Model, str, np.ndarray, np.ndarray]:
    """A trained model, its input, test rows, and a baseline."""
    trained = training.train(name, progress=False)
    (key,) = trained.recipe.input_names
    background = trained.background[key]
    data = export_torch(trained.module, [background[:4]], [key], ["output"])
    base = np.zeros_like(background[0]) if trained.recipe.pictures else background.mean(axis=0)
    return explain.Model(data), key, trained.test_inputs[key][:40], base.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tumour", "digits"])
def test_the_reported_error_holds_on_trained_networks(name: str) -> None:
    model, key, rows, base = network(name)
    method, options = "integrated_gradients", {"baseline": base}
    right = attribute(model, {key: rows}, method, n_steps=2000, **options).values[key]
    for tolerance in (0.1, 0.01):
        adaptive = {"rule": "adaptive", "tolerance": tolerance, "max_evals": 2000, **options}
        found = attribute(model, {key: rows}, method, **adaptive)
        assert found.errors is not None
        assert (np.abs(found.values[key] - right) <= found.errors[key]).mean() >= 0.95
        assert {figures["stopped_by"] for figures in found.quality} == {"tolerance"}
        assert explain.attribution_error(found.values[key], right) <= tolerance
