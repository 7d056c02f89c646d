"""The Open Inference Protocol: JSON and binary data, in and out, and the explain extension."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

Answer = Callable[[TestResponse], Any]
ErrorOf = Callable[[TestResponse], str]
ARRAY = np.array([[1.5, -0.5, 1], [0.25, 2, 2]], dtype=np.float32)
HEADER = "Inference-Header-Content-Length"


def as_json(array: np.ndarray = ARRAY, **more: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}
    return {"inputs": [tensor], **more}


def as_binary(array: np.ndarray = ARRAY, **more: Any) -> tuple[bytes, dict[str, str]]:
    parameters = {"binary_data_size": array.nbytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": list(array.shape), "parameters": parameters}
    head = json.dumps({"inputs": [tensor], **more}).encode()
    headers = {HEADER: str(len(head)), "Content-Type": "application/octet-stream"}
    return head + array.tobytes(), headers


def read_binary(response: TestResponse) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Head and tensors of a binary answer, every length checked."""
    assert response.mimetype == "application/octet-stream"
    body, length = response.get_data(), int(response.headers[HEADER])
    head, rest = json.loads(body[:length]), body[length:]
    arrays = {}
    for output in head["outputs"]:
        size = output["parameters"]["binary_data_size"]
        assert output["datatype"] == "FP32"
        arrays[output["name"]] = np.frombuffer(rest[:size], dtype="<f4").reshape(output["shape"])
        rest = rest[size:]
    assert rest == b""
    return head, arrays


def test_json_in_json_out(client: FlaskClient, answer_of: Answer, models: ModuleType) -> None:
    response = client.post("/v2/models/flowers/versions/1/infer", json=as_json(id="my-id"))
    answer = answer_of(response)
    assert answer["id"] == "my-id"
    assert (answer["model_name"], answer["model_version"]) == ("flowers", "1")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("logits", "FP32", [2, 3])
    np.testing.assert_allclose(output["data"], models.tabular_logits(ARRAY).ravel(), rtol=1e-5)
    decision = answer["parameters"]["decision_id"]
    assert response.headers["Glasshouse-Decision"] == decision
    for row in range(2):
        assert client.get(f"/v1/decisions/{decision}.{row}").status_code == 200
    assert client.get(f"/v1/decisions/{decision}.2").status_code == 404


def test_nested_data_is_flat_data(client: FlaskClient, answer_of: Answer) -> None:
    nested = as_json()
    nested["inputs"][0]["data"] = ARRAY.tolist()
    both = [answer_of(client.post("/v2/models/flowers/infer", json=body))["outputs"] for body in (nested, as_json())]
    assert both[0] == both[1]


@pytest.mark.parametrize(
    "more",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "logits", "parameters": {"binary_data": True}}]},
        {"outputs": [{"name": "logits"}], "parameters": {"binary_data_output": True}},
    ],
)
def test_binary_in_binary_out(client: FlaskClient, models: ModuleType, more: dict[str, Any]) -> None:
    body, headers = as_binary(**more)
    head, arrays = read_binary(client.post("/v2/models/flowers/infer", data=body, headers=headers))
    np.testing.assert_allclose(arrays["logits"], models.tabular_logits(ARRAY), rtol=1e-5)
    assert head["parameters"]["decision_id"]


def test_json_and_binary_may_be_mixed(client: FlaskClient, answer_of: Answer) -> None:
    body, headers = as_binary()
    json_out = answer_of(client.post("/v2/models/flowers/infer", data=body, headers=headers))
    assert json_out["outputs"][0]["data"]
    asked = as_json(np.array([[4.0, 9.0]], dtype=np.float32))
    asked["outputs"] = [{"name": "negative"}, {"name": "root", "parameters": {"binary_data": True}}]
    response = client.post("/v2/models/broken/infer", json=asked)
    length = int(response.headers[HEADER])
    head = json.loads(response.get_data()[:length])
    assert [output["name"] for output in head["outputs"]] == ["negative", "root"]
    assert head["outputs"][0]["data"] == [-4.0, -9.0]
    np.testing.assert_array_equal(np.frombuffer(response.get_data()[length:], "<f4"), [2.0, 3.0])


def test_only_the_asked_for_outputs_are_answered(client: FlaskClient, answer_of: Answer) -> None:
    asked = as_json(np.array([[4.0, 9.0]], dtype=np.float32), outputs=[{"name": "negative"}])
    assert [output["name"] for output in answer_of(client.post("/v2/models/broken/infer", json=asked))["outputs"]] == [
        "negative"
    ]


def test_a_raw_tensor_is_one_item(client: FlaskClient, error_of: ErrorOf, models: ModuleType) -> None:
    response = client.post("/v2/models/flowers/infer", data=ARRAY[:1].tobytes(), headers={HEADER: "0"})
    _, arrays = read_binary(response)
    np.testing.assert_allclose(arrays["logits"], models.tabular_logits(ARRAY[:1]), rtol=1e-5)
    for body in (b"", ARRAY.tobytes(), ARRAY.tobytes()[:11]):
        assert "bytes" in error_of(client.post("/v2/models/flowers/infer", data=body, headers={HEADER: "0"}))


@pytest.mark.parametrize("length", ["99999999999", "-1", "abc", "1", "0", "12345678901234567890123"])
def test_header_lengths_that_lie_are_refused(client: FlaskClient, error_of: ErrorOf, length: str) -> None:
    body, headers = as_binary()
    response = client.post("/v2/models/flowers/infer", data=body, headers={**headers, HEADER: length})
    assert response.status_code == 400
    error_of(response)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:-12], lambda b: b + b * 3])
def test_binary_bodies_of_another_length_are_refused(
    client: FlaskClient, error_of: ErrorOf, change: Callable[[bytes], bytes]
) -> None:
    body, headers = as_binary()
    response = client.post("/v2/models/flowers/infer", data=change(body), headers=headers)
    assert response.status_code == 400
    assert "binary" in error_of(response)


def test_nan_in_is_refused_however_it_comes(client: FlaskClient, error_of: ErrorOf) -> None:
    for number in (np.nan, np.inf, -np.inf):
        body, headers = as_binary(np.array([[number, 1, 1]], dtype=np.float32))
        response = client.post("/v2/models/flowers/infer", data=body, headers=headers)
        assert response.status_code == 400
        assert "petal" in error_of(response) or "'x'" in error_of(response)


def test_nan_out_is_422_in_json_delivered_in_binary_and_recorded_both_ways(
    client: FlaskClient, error_of: ErrorOf, answer_of: Answer
) -> None:
    array = np.array([[4.0, 9.0], [-1.0, 1.0]], dtype=np.float32)
    refused = client.post("/v2/models/broken/infer", json=as_json(array))
    assert refused.status_code == 422
    assert "output root, row 1" in error_of(refused)
    body, headers = as_binary(array, parameters={"binary_data_output": True})
    delivered = client.post("/v2/models/broken/infer", data=body, headers=headers)
    _, arrays = read_binary(delivered)
    np.testing.assert_array_equal(arrays["root"], [[2, 3], [np.nan, 1]])
    only_good = client.post("/v2/models/broken/infer", json=as_json(array, outputs=[{"name": "negative"}]))
    assert only_good.status_code == 200
    v1 = client.post("/v1/models/broken:predict", json={"instances": array.tolist()})
    explained = client.post("/v1/models/broken:explain", json={"instances": array.tolist(), "target": 0})
    for response in (refused, delivered, v1, explained):
        decision = response.headers["Glasshouse-Decision"]
        entries = [answer_of(client.get(f"/v1/decisions/{decision}.{row}"))["entry"] for row in range(2)]
        assert [entry["status"] for entry in entries] == ["ok", "invalid_output"]
        assert "root" in entries[1]["note"]
    assert (v1.status_code, explained.status_code) == (422, 422)
    assert "output root, row 1" in error_of(explained)


def test_explain_is_an_infer_answer_with_an_explanation(client: FlaskClient, answer_of: Answer) -> None:
    asked = as_json(id="e", explain={"method": "integrated_gradients", "target": "iris", "parameters": {"n_steps": 9}})
    answer = answer_of(client.post("/v2/models/flowers/explain", json=asked))
    assert answer["id"] == "e"
    assert answer["outputs"][0]["shape"] == [2, 3]
    explanation = answer["explanation"]
    (attribution,) = explanation["attributions"]
    assert (attribution["name"], attribution["shape"]) == ("x", [2, 3])
    assert len(attribution["data"]) == 6
    assert [target["name"] for target in explanation["target"]] == ["iris", "iris"]
    assert explanation["parameters"]["n_steps"] == 9
    assert len(explanation["base_value"]) == len(explanation["explained_value"]) == len(explanation["quality"]) == 2
    assert [feature["feature"] for feature in explanation["features"]] == ["petal", "sepal", "colour"]
    assert [(each["input"], each["index"]) for each in explanation["features"]] == [("x", 0), ("x", 1), ("x", 2)]
    assert explanation["decisions"] == [f"{answer['parameters']['decision_id']}.{row}" for row in range(2)]
    assert explanation["baseline_digest"]
    v1 = client.post(
        "/v1/models/flowers:explain",
        json={"instances": [[1.5, -0.5, "w"], [0.25, 2, "b"]], **asked["explain"]},
    ).get_json()
    by_row = [[entry["attribution"] for entry in row["attributions"]] for row in v1["explanations"]]
    np.testing.assert_allclose(np.ravel(by_row), attribution["data"], rtol=1e-9)


def test_explain_takes_and_gives_binary_tensors(client: FlaskClient, models: ModuleType) -> None:
    body, headers = as_binary(parameters={"binary_data_output": True}, explain={"method": "saliency"})
    head, arrays = read_binary(client.post("/v2/models/flowers/explain", data=body, headers=headers))
    np.testing.assert_allclose(arrays["logits"], models.tabular_logits(ARRAY), rtol=1e-5)
    assert head["explanation"]["method"] == "saliency"
