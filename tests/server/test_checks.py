"""Checks of an explanation: asked for beside the parameters, answered and recorded in its quality."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import explain

Answer = Callable[[TestResponse], Any]
Refusal = Callable[[TestResponse], str]
ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}


def test_checks_are_answered_and_recorded(client: FlaskClient, answer_of: Answer, models: ModuleType) -> None:
    checks = {"deletion_insertion": {"steps": 3}, "infidelity": None}
    sent = {"instances": [ROW, [0.25, 2, "b"]], "method": "exact_shap", "target": "lily", "checks": checks}
    answer = answer_of(client.post("/v1/models/flowers:explain", json=sent))
    array = np.array([[1.5, -0.5, 1], [0.25, 2, 2]], dtype=np.float32)
    for row, explained in enumerate(answer["explanations"]):
        quality = explained["quality"]
        curves = quality["checks"]["deletion_insertion"]
        assert curves["deletion"][0] == pytest.approx(models.tabular_logits(array)[row, 1], rel=1e-4)
        assert curves["deletion"][-1] == pytest.approx(explained["base_value"], rel=1e-4)
        assert curves["parameters"]["steps"] == 3
        assert quality["infidelity"] is not None
        decision = answer_of(client.get(f"/v1/decisions/{answer['decisions'][row]}"))
        assert decision["entry"]["explanation"]["quality"]["checks"]["deletion_insertion"] == curves
    without = answer_of(client.post("/v1/models/flowers:explain", json={"instances": [ROW]}))
    assert "checks" not in without["explanations"][0]["quality"]


def test_a_method_that_compares_with_nothing_is_checked_against_a_baseline(
    client: FlaskClient, answer_of: Answer, models: ModuleType
) -> None:
    png = models.png(models.PIXELS)
    url = "/v1/models/patch:explain?method=saliency&checks=deletion_insertion,max_sensitivity"
    (explained,) = answer_of(client.post(url, data=png, content_type="image/png"))["explanations"]
    assert set(explained["quality"]["checks"]) == {"deletion_insertion", "max_sensitivity"}
    assert explained["quality"]["checks"]["deletion_insertion"]["reference"] == "baseline"
    assert explained["quality"]["max_sensitivity"] is not None


def test_v2_takes_them_too(client: FlaskClient, answer_of: Answer) -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.5, -0.5, 1]}
    sent = {"inputs": [tensor], "explain": {"method": "exact_shap", "checks": ["infidelity"]}}
    name = answer_of(client.get("/v2/models/flowers"))["inputs"][0]["name"]
    tensor["name"] = name
    answer = answer_of(client.post("/v2/models/flowers/explain", json=sent))
    assert answer["explanation"]["quality"][0]["checks"]["infidelity"]["perturbation"] == "removal"


def test_explainers_describe_the_checks(client: FlaskClient, answer_of: Answer) -> None:
    listed = answer_of(client.get("/v2/models/flowers/explainers"))["checks"]
    assert [entry["name"] for entry in listed] == list(explain.CHECKS)
    assert listed[0]["parameters"]["properties"]["steps"]["default"] == 16


@pytest.mark.parametrize(
    ("checks", "status", "sentence"),
    [
        ("infidelity", 400, "checks: got 'infidelity', expected a list of names, or an object of parameters by name"),
        (["road"], 400, "checks: got 'road', expected names among deletion_insertion, infidelity"),
        ([3], 400, "checks: got 3, expected names among"),
        ({"infidelity": 3}, 400, "checks.infidelity: got 3, expected an object of the check's parameters"),
        ({"infidelity": {"n_samples": 10**9}}, 400, "checks.infidelity.n_samples: got 1e+09, expected at most"),
        ({"infidelity": {"steps": 3}}, 400, "parameter 'steps' of check infidelity is unknown"),
        ({"infidelity": {"perturbation": "noise"}}, 422, "exact_shap does not state slopes"),
    ],
)
def test_what_is_refused(client: FlaskClient, error_of: Refusal, checks: Any, status: int, sentence: str) -> None:
    sent = {"instances": [ROW], "method": "exact_shap", "checks": checks}
    response = client.post("/v1/models/flowers:explain", json=sent)
    assert response.status_code == status
    assert sentence in error_of(response)
