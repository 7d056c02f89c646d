"""Background sets by name: asked for, made fewer, weighed, quoted and recorded; and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from flask.testing import FlaskClient

import explain
from model_store import BackgroundSet, Store, pack_background

RECENT = np.array([[0.5, 0.5, 0.5], [-1.0, 1.0, 2.0], [2.0, 0.0, 1.0], [0.0, 3.0, -1.0], [1.0, 1.0, 1.0]], np.float32)
WEIGHT = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
METHODS = ["exact_shap", "deep_shap", "feature_ablation", "integrated_gradients", "saliency"]
ROW = [3.0, -2.0, 0.5]


@pytest.fixture
def client(models: ModuleType, own_store: Any, config: Any, open_client: Any) -> FlaskClient:
    """``sets``: a linear price with a default set and two with names, one of them weighted."""
    manifest = models.price()
    told = msgspec.structs.replace(manifest.explanation, method="exact_shap", methods=METHODS)
    sets = {
        "recent": BackgroundSet(rows=5, kind="kmeans", weights=True, note="this year"),
        "other": BackgroundSet(rows=2, kind="rows"),
    }
    manifest = msgspec.structs.replace(manifest, name="sets", explanation=told, backgrounds=sets)
    files = {
        "model": models.tabular_price(),
        "background": models.npz(x=np.zeros((2, 3), dtype=np.float32)),
        "background/recent": pack_background({"x": RECENT}, WEIGHT),
        "background/other": pack_background({"x": RECENT[:2]}),
    }
    Store(own_store).publish(manifest, files)
    opened: FlaskClient = open_client(dataclasses.replace(config, store=own_store))
    return opened


def explained(client: FlaskClient, **asked: Any) -> tuple[np.ndarray, dict[str, Any]]:
    response = client.post("/v1/models/sets:explain", json={"instances": [ROW], **asked})
    assert response.status_code == 200, response.get_data()
    answer = response.get_json()
    return np.array([entry["attribution"] for entry in answer["explanations"][0]["attributions"]]), answer


def by_hand(models: ModuleType, mean: np.ndarray) -> np.ndarray:
    """Shapley values of a linear model."""
    return models.PRICE_W[:, 0] * (np.array(ROW) - mean)


def test_a_set_is_asked_for_by_its_name(client: FlaskClient, models: ModuleType) -> None:
    for method in ("exact_shap", "deep_shap", "feature_ablation"):
        values, answer = explained(client, method=method)
        np.testing.assert_allclose(values, by_hand(models, np.zeros(3)), atol=1e-5)
        assert (answer["background"]["name"], answer["background"]["rows"]) == ("default", 2)
        values, answer = explained(client, method=method, background="other")
        np.testing.assert_allclose(values, by_hand(models, RECENT[:2].mean(axis=0)), atol=1e-5)
        values, answer = explained(client, method=method, background="recent")
        np.testing.assert_allclose(values, by_hand(models, WEIGHT @ RECENT), atol=1e-5)
        with pytest.raises(AssertionError):
            np.testing.assert_allclose(values, by_hand(models, RECENT.mean(axis=0)), atol=1e-5)
        digest = hashlib.sha256(pack_background({"x": RECENT}, WEIGHT)).hexdigest()
        assert answer["background"] == {"name": "recent", "digest": digest, "rows": 5, "summary": None}


def test_a_set_is_made_fewer_on_request_and_always_the_same(client: FlaskClient, models: ModuleType) -> None:
    for kind in ("kmeans", "sample"):
        rows, weight = explain.summarise({"x": RECENT}, 2, kind=kind, weights=WEIGHT)
        asked = {"name": "recent", "size": 2, "kind": kind}
        values, answer = explained(client, background=asked)
        np.testing.assert_allclose(values, by_hand(models, weight @ rows["x"]), atol=1e-5)
        assert (answer["background"]["rows"], answer["background"]["summary"]) == (2, {"size": 2, "kind": kind})
        assert explained(client, background=asked)[1]["background_digest"] == answer["background_digest"]
    whole = explained(client, background={"name": "recent", "size": 9})[1]
    assert whole["background"]["summary"] is None
    (first,) = [explained(client, background={"size": 1})[1]["background"]]
    assert (first["name"], first["rows"]) == ("default", 1)


def test_rows_that_are_sent_are_quoted_without_a_name(client: FlaskClient) -> None:
    _, answer = explained(client, background=RECENT[:3].tolist())
    assert answer["background"] == {
        "name": None,
        "digest": answer["background_digest"],
        "rows": 3,
        "summary": None,
    }
    assert explained(client, method="saliency")[1]["background"] is None
    assert explained(client, method="exact_shap", removal={"constant": 0})[1]["background"] is None


def test_a_removal_of_the_background_takes_a_set(client: FlaskClient, models: ModuleType) -> None:
    values, answer = explained(client, removal="background", background="recent")
    np.testing.assert_allclose(values, by_hand(models, WEIGHT @ RECENT), atol=1e-5)
    assert answer["explanations"][0]["removal"]["spec"] == "background"


def test_the_decision_quotes_the_set(client: FlaskClient) -> None:
    _, answer = explained(client, background={"name": "recent", "size": 2})
    record = client.get(f"/v1/decisions/{answer['decisions'][0]}").get_json()
    assert record["explanation"]["background"] == answer["background"]
    assert not [name for name in record["explanation_tensors"] if name.startswith("background.")]
    _, answer = explained(client, background=RECENT[:2].tolist())
    record = client.get(f"/v1/decisions/{answer['decisions'][0]}").get_json()
    assert record["explanation_tensors"]["background.x"]["data"] == RECENT[:2].tolist()


def test_v2_takes_and_quotes_a_set(client: FlaskClient) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": ROW}
    asked = {"inputs": [tensor], "explain": {"method": "exact_shap", "background": "recent"}}
    found = client.post("/v2/models/sets/explain", json=asked).get_json()["explanation"]
    values, answer = explained(client, background="recent")
    np.testing.assert_allclose(found["attributions"][0]["data"], values, rtol=1e-6)
    assert found["background"] == answer["background"]


def test_a_picture_as_the_body_names_the_set_in_the_query(
    models: ModuleType, own_store: Any, config: Any, open_client: Any
) -> None:
    told = msgspec.structs.replace(models.patch().explanation, method="occlusion", methods=["occlusion", "lime"])
    sets = {"dark": BackgroundSet(rows=2)}
    manifest = msgspec.structs.replace(models.patch(), name="seen", explanation=told, backgrounds=sets)
    rows = pack_background({"x": np.zeros((2, 1, 4, 4), dtype=np.float32)})
    Store(own_store).publish(manifest, {"model": models.patch_model(), "background/dark": rows})
    client = open_client(dataclasses.replace(config, store=own_store))
    for name, status in (("dark", 200), (json.dumps({"name": "dark", "size": 1}), 200), ("light", 400), ("[[1]]", 400)):
        query = {"method": "occlusion", "background": name}
        body, headers = models.png(models.PIXELS), {"Content-Type": "image/png"}
        response = client.post("/v1/models/seen:explain", data=body, query_string=query, headers=headers)
        assert response.status_code == status, response.get_data()


def test_sets_are_listed_beside_the_explainers(client: FlaskClient) -> None:
    told = client.get("/v2/models/sets/explainers").get_json()
    assert [(entry["name"], entry["rows"]) for entry in told["backgrounds"]] == [
        ("default", None),
        ("other", 2),
        ("recent", 5),
    ]
    assert (told["backgrounds"][2]["kind"], told["backgrounds"][2]["weights"]) == ("kmeans", True)
    assert told["backgrounds"][2]["note"] == "this year"


@pytest.mark.parametrize(
    ("background", "said"),
    [
        ("older", "background: got 'older', expected the name of one of its sets (default, other, recent)"),
        ({"name": "older"}, "background: got 'older', expected the name of one of its sets"),
        ({"name": 3}, "background: got 3, expected the name of one of its sets"),
        ({"name": "recent", "rows": 2}, "background: got an object with 'rows', expected only name, size, kind"),
        ({"name": "recent", "size": 0}, "background.size: got 0, expected a whole number of at least 1"),
        ({"name": "recent", "size": 2, "kind": "mean"}, "background.kind: got 'mean', expected kmeans or sample"),
        ({"name": "recent", "kind": "sample"}, "background.kind: got it without a size"),
        (7, "background: got the number 7, expected a list of instances, the name of a background set, or an object"),
        ([], "background: got a list of 0, expected a list of 1 to"),
    ],
)
def test_sets_that_make_no_sense_are_refused(client: FlaskClient, error_of: Any, background: Any, said: str) -> None:
    response = client.post("/v1/models/sets:explain", json={"instances": [ROW], "background": background})
    assert response.status_code == 400, response.get_data()
    assert said in error_of(response)
