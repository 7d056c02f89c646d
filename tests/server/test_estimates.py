"""What a method is said to cost is what it then costs, for every method: none is left out without a reason."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from flask.testing import FlaskClient

import explain
from model_store import ExplanationDefaults, Store
from server import estimates
from server.estimates import Size

UNCOUNTED = {"tree_shap", "tree_shap_interactions", "linear_shap"}
# These stop early where nothing is left to learn, or draw the same coalition twice.
AT_MOST = {"lime", "rise", "permutation_shap", "sampling_shap"}
TURNS = {("columns", "permutation_shap"), ("columns", "sampling_shap")}
MAPS = {"grad_cam", "hires_cam", "layer_cam"}


@pytest.fixture
def client(models: ModuleType, own_store: Any, config: Any, open_client: Any) -> FlaskClient:
    """``flowers`` and ``patch`` with everything that they can be explained by."""
    store = Store(own_store)
    columns = [name for name in explain.METHODS if name not in MAPS | UNCOUNTED]
    old = store.resolve("flowers")
    told = ExplanationDefaults(method="saliency", methods=columns, baseline=old.manifest.explanation.baseline)
    files = {"model": old.file("model"), "background": old.file("background")}
    store.publish(msgspec.structs.replace(models.flowers(), name="columns", explanation=told), files)
    pictures = [name for name in explain.METHODS if name not in UNCOUNTED and name not in ("exact_shap", "deep_shap")]
    pictures = [name for name in pictures if name not in ("expected_gradients", "gradient_shap")]
    told = ExplanationDefaults(
        method="saliency",
        methods=pictures,
        baseline=models.patch().explanation.baseline,
        groups={"patches": {"count": 4}},
        removal="mean",
    )
    store.publish(
        msgspec.structs.replace(models.patch(), name="pixels", explanation=told), {"model": models.patch_model()}
    )
    client: FlaskClient = open_client(dataclasses.replace(config, store=own_store))
    return client


@pytest.mark.parametrize("model", ["columns", "pixels"])
def test_estimates_are_what_answers_count(client: FlaskClient, model: str) -> None:
    instance = [1.5, -0.5, "w"] if model == "columns" else np.linspace(0, 1, 16).reshape(1, 4, 4).tolist()
    entries = client.get(f"/v2/models/{model}/explainers").get_json()["explainers"]
    assert len(entries) > 12
    for entry in entries:
        asked = {"instances": [instance], "method": entry["name"]}
        answer = client.post(f"/v1/models/{model}:explain", json=asked).get_json()
        spent = answer["explanations"][0]["quality"]["evaluations"]
        if entry["name"] in AT_MOST and (model, entry["name"]) not in TURNS:
            assert 0 < spent <= entry["evaluations"], entry["name"]
        else:
            assert spent == entry["evaluations"], entry["name"]


def test_every_method_is_counted_or_said_not_to_be() -> None:
    assert set(estimates.COUNTS) | UNCOUNTED == set(explain.METHODS)
    assert {name: estimates.evaluations(name, Size(4, 3, (8, 8))) for name in UNCOUNTED} == dict.fromkeys(UNCOUNTED)


def test_what_is_not_known_is_not_guessed() -> None:
    unknown = Size(None, None, None)
    told = {name: estimates.evaluations(name, unknown) for name in estimates.COUNTS}
    assert told["saliency"] == 1
    for name in ("kernel_shap", "exact_shap", "feature_ablation", "occlusion", "rise", "deep_shap"):
        assert told[name] is None
    assert estimates.evaluations("occlusion", Size(None, 1, (224, 224))) == 28 * 28 + 1 + 0
    assert estimates.evaluations("exact_shap", Size(3000, 2, None)) == (2**62 - 2) * 2 + 3
