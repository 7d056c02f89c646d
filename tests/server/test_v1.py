"""The V1 protocol: rows in every form give the same numbers, and what an answer carries."""

from __future__ import annotations

import base64
from collections.abc import Callable
from itertools import permutations
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

Answer = Callable[[TestResponse], Any]
ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
ARRAY = np.array([[1.5, -0.5, 1.0]], dtype=np.float32)


def test_predictions_are_those_of_numpy(client: FlaskClient, answer_of: Answer, models: ModuleType) -> None:
    rows = [ROW, [0.25, 2, "b"], {"colour": "r", "sepal": 0, "petal": -1}]
    array = np.array([[1.5, -0.5, 1], [0.25, 2, 2], [-1, 0, 0]], dtype=np.float32)
    for member in ("instances", "inputs"):
        answer = answer_of(client.post("/v1/models/flowers:predict", json={member: rows}))
        expected = models.tabular_logits(array)
        np.testing.assert_allclose(answer["predictions"], expected, rtol=1e-5)
        assert answer["labels"] == [["rose", "lily", "iris"][index] for index in expected.argmax(axis=1)]
    assert answer["model_name"] == "flowers"
    assert answer["model_version"] == "1"
    assert [decision.split(".")[1] for decision in answer["decisions"]] == ["0", "1", "2"]


def test_an_image_in_every_form_gives_one_answer(client: FlaskClient, answer_of: Answer, models: ModuleType) -> None:
    png = models.png(models.PIXELS)
    pixels = (models.PIXELS[None] / 255).tolist()
    answers = [
        client.post("/v1/models/patch:predict", data=png, content_type="image/png"),
        client.post("/v1/models/patch:predict", json={"instances": [{"b64": base64.b64encode(png).decode()}]}),
        client.post("/v1/models/patch:predict", json={"instances": [pixels]}),
    ]
    predictions = [answer_of(answer)["predictions"] for answer in answers]
    np.testing.assert_allclose(predictions[1], predictions[0], rtol=1e-6)
    np.testing.assert_allclose(predictions[2], predictions[0], rtol=1e-5)


def test_several_outputs_are_an_object_and_rows_of_a_fixed_batch_go_one_by_one(
    client: FlaskClient, answer_of: Answer
) -> None:
    answer = answer_of(client.post("/v1/models/broken:predict", json={"instances": [[4, 9]]}))
    assert answer["predictions"] == [{"root": [2.0, 3.0], "negative": [-4.0, -9.0]}]
    assert "labels" not in answer
    single = answer_of(client.post("/v1/models/single:predict", json={"instances": [[1, 2, 3], [4, 5, 6]]}))
    assert single["predictions"] == [[3.0, 6.0, 9.0], [12.0, 15.0, 18.0]]
    assert single["runs"]["count"] == 2


def shapley(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Shapley values by the average over all orders in which features arrive; f takes rows to numbers."""
    players = len(x)
    values = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        rows = background.copy()
        before = f(rows).mean()
        for player in order:
            rows[:, player] = x[player]
            after = f(rows).mean()
            values[player] += (after - before) / len(orders)
            before = after
    return values


def test_an_explanation_carries_everything_and_adds_up(
    client: FlaskClient, answer_of: Answer, models: ModuleType
) -> None:
    answer = answer_of(client.post("/v1/models/flowers:explain", json={"instances": [ROW], "seed": 5}))
    (explained,) = answer["explanations"]
    assert explained["method"] == "exact_shap"
    assert explained["seed"] == 5
    assert explained["output"] == "logits"
    assert explained["units"] == "logit"
    assert explained["explained_name"]
    predicted = int(np.argmax(answer["predictions"][0]))
    assert explained["target"] == {"index": predicted, "name": answer["labels"][0]}
    assert [entry["feature"] for entry in explained["attributions"]] == ["petal", "sepal", "colour"]
    colour = explained["attributions"][2]
    assert (colour["label"], colour["value"], colour["shown"], colour["unit"]) == ("Colour", "w", "white", None)
    assert explained["attributions"][0]["unit"] == "cm"
    total = sum(entry["attribution"] for entry in explained["attributions"])
    assert total + explained["base_value"] == pytest.approx(explained["explained_value"], rel=1e-5)
    assert explained["explained_value"] == pytest.approx(answer["predictions"][0][predicted], rel=1e-5)
    assert {"completeness_gap", "completeness_gap_relative", "forward_gap", "evaluations"} <= set(explained["quality"])
    assert explained["runs"]["count"] >= 2
    for name in ("model_digest", "manifest_digest", "program_digest", "background_digest"):
        assert len(answer[name]) == 64
    assert answer["baseline_digest"] is None
    background = np.column_stack([models.BACKGROUND[:, :2], np.arange(12) % 3]).astype(np.float64)
    judged = shapley(lambda rows: models.tabular_logits(rows)[:, predicted], ARRAY[0].astype(np.float64), background)
    np.testing.assert_allclose([entry["attribution"] for entry in explained["attributions"]], judged, atol=1e-5)


def test_the_judge_of_shapley_values_sees_a_wrong_one() -> None:
    background = np.zeros((1, 2))
    right = shapley(lambda rows: rows[:, 0] * rows[:, 1], np.array([2.0, 3.0]), background)
    np.testing.assert_allclose(right, [3.0, 3.0])
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(right, [2.0, 4.0])


def explain(client: FlaskClient, model: str = "flowers", **options: Any) -> dict[str, Any]:
    response = client.post(f"/v1/models/{model}:explain", json={"instances": [ROW], **options})
    assert response.status_code == 200, response.get_data()
    explanation: dict[str, Any] = response.get_json()["explanations"][0]
    return explanation


def values(explanation: dict[str, Any]) -> np.ndarray:
    return np.array([entry["attribution"] for entry in explanation["attributions"]])


def test_a_target_by_name_index_and_contrast(client: FlaskClient) -> None:
    rose, iris = explain(client, target="rose"), explain(client, target=2)
    assert (rose["target"], iris["target"]) == ({"index": 0, "name": "rose"}, {"index": 2, "name": "iris"})
    contrast = explain(client, target={"class": "rose", "versus": 2})
    assert contrast["target"]["name"] == "rose versus iris"
    np.testing.assert_allclose(values(contrast), values(rose) - values(iris), atol=1e-5)
    assert values(explain(client, target={"index": [2]})) == pytest.approx(values(iris))
    both = client.post(
        "/v1/models/flowers:explain",
        json={"instances": [ROW, ROW], "target": ["rose", {"class": "rose", "versus": "iris"}]},
    ).get_json()["explanations"]
    assert [entry["target"]["name"] for entry in both] == ["rose", "rose versus iris"]
    np.testing.assert_allclose(values(both[0]), values(rose), atol=1e-5)
    np.testing.assert_allclose(values(both[1]), values(contrast), atol=1e-5)


def test_a_list_may_leave_a_row_to_the_prediction(client: FlaskClient) -> None:
    asked = {"instances": [ROW, [0, 1, "r"], ROW], "target": ["predicted", "rose", {"class": "rose", "versus": "iris"}]}
    answer = client.post("/v1/models/flowers:explain", json=asked).get_json()
    names = [entry["target"]["name"] for entry in answer["explanations"]]
    assert names == [answer["labels"][0], "rose", "rose versus iris"]
    np.testing.assert_allclose(values(answer["explanations"][0]), values(explain(client)), atol=1e-5)


def test_a_target_is_never_guessed_where_there_are_no_classes(client: FlaskClient) -> None:
    asked = {"instances": [[1, 2, 3]]}
    refused = client.post("/v1/models/single:explain", json=asked)
    assert refused.status_code == 400
    assert "target" in refused.get_json()["error"]
    (explained,) = client.post("/v1/models/single:explain", json={**asked, "target": 1}).get_json()["explanations"]
    np.testing.assert_allclose(values(explained), [0, 3, 0], atol=1e-6)
    (price,) = client.post("/v1/models/price:explain", json=asked).get_json()["explanations"]
    assert price["target"] == {"index": 0, "name": "Price"}
    assert price["units"] == "EUR"
    np.testing.assert_allclose(values(price), [2.0, -2.0, 1.5])


def test_a_baseline_from_the_request(client: FlaskClient) -> None:
    default = explain(client, method="integrated_gradients")
    zero = explain(client, method="integrated_gradients", baseline=0)
    same = explain(client, method="integrated_gradients", baseline=ROW)
    assert values(zero) == pytest.approx(values(default))
    np.testing.assert_allclose(values(same), 0, atol=1e-7)
    assert same["base_value"] == pytest.approx(same["explained_value"])


def test_the_same_seed_gives_the_same_sampled_values(client: FlaskClient) -> None:
    first = explain(client, method="kernel_shap", seed=1)
    assert values(first) == pytest.approx(values(explain(client, method="kernel_shap", seed=1)), abs=0)
    assert all("standard_error" in entry for entry in first["attributions"])


def test_an_adaptive_rule_names_its_own_error(client: FlaskClient) -> None:
    found = explain(client, method="integrated_gradients", parameters={"rule": "adaptive"})
    assert all(entry["quadrature_error"] >= 0 and "standard_error" not in entry for entry in found["attributions"])
    assert found["quality"]["stopped_by"] == "tolerance"
