"""Every kind of wrong request gets one clear error, and the next request is answered."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server import Config

Answer = Callable[[TestResponse], Any]
ErrorOf = Callable[[TestResponse], str]
ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
GOOD = {"instances": [ROW]}


BAD_ROWS = [
    ([{"petal": 1, "sepal": 2}], "colour"),
    ([{**ROW, "stem": 1}], "stem"),
    ([{**ROW, "colour": "green"}], "'green'"),
    ([{**ROW, "petal": "long"}], "petal"),
    ([{**ROW, "petal": None}], "petal"),
    ([{**ROW, "petal": True}], "petal"),
    ([{**ROW, "petal": 1e300}], "petal"),
    ([[1, 2]], "2 values"),
    ([[1, 2, "w", 4]], "4 values"),
    ([1], "instances[0]"),
    (["text"], "instances[0]"),
    ([None], "instances[0]"),
    ([ROW, {}], "instances[1]"),
    ([], "instances"),
    ({"a": 1}, "instances"),
    ("abc", "instances"),
    (None, "instances"),
]


@pytest.mark.parametrize("verb", ["predict", "explain"])
@pytest.mark.parametrize(("rows", "named"), BAD_ROWS)
def test_bad_rows_are_named(client: FlaskClient, error_of: ErrorOf, verb: str, rows: Any, named: str) -> None:
    response = client.post(f"/v1/models/flowers:{verb}", json={"instances": rows})
    assert response.status_code == 400
    assert named in error_of(response)
    assert client.post(f"/v1/models/flowers:{verb}", json=GOOD).status_code == 200


BAD_BODIES = [
    (b"", 400, "nothing"),
    (b"{", 400, "line 1"),
    (b"[]", 400, "a list of 0"),
    (b"{}", 400, "neither"),
    (b'{"instances":[[1,2,"w"]],"inputs":[[1,2,"w"]]}', 400, "both"),
    (b'{"instances":[[NaN,2,"w"]]}', 400, "NaN"),
    (b'{"instances":[[1e999,2,"w"]]}', 400, "1e999"),
    (b'{"instances":[[1,2,"w"]],"instances":[]}', 400, "twice"),
    (b'{"instances":' + b"[" * 200_000, 400, "nested"),
    (b'{"instances":[[' + b"9" * 100_000 + b',2,"w"]]}', 400, "digits"),
    (b'{"instances":[[1,2,"\\ud800"]]}', 400, "UTF-8"),
    (b"\xff\xfe", 400, "UTF-8"),
    (b'{"instances":[[1,2,"w"]],"instnces":1}', 400, "instnces"),
]


@pytest.mark.parametrize(("body", "status", "named"), BAD_BODIES)
def test_bad_bodies_are_named(client: FlaskClient, error_of: ErrorOf, body: bytes, status: int, named: str) -> None:
    for verb in ("predict", "explain"):
        response = client.post(f"/v1/models/flowers:{verb}", data=body, content_type="application/json")
        assert response.status_code == status
        assert named in error_of(response)
    assert client.post("/v1/models/flowers:predict", json=GOOD).status_code == 200


BAD_EXPLAINS = [
    ({"method": "magic"}, 400, "'magic'"),
    ({"method": 3}, 400, "method"),
    ({"method": "grad_cam"}, 422, "no feature maps"),
    ({"target": 3}, 400, "rose, lily, iris"),
    ({"target": -1}, 400, "0 to 2"),
    ({"target": "tulip"}, 400, "'tulip'"),
    ({"target": 1.5}, 400, "target"),
    ({"target": [0, 1]}, 400, "1 rows"),
    ({"target": {"class": 0}}, 400, "versus"),
    ({"target": {"class": 0, "versus": "tulip"}}, 400, "target.versus"),
    ({"target": {"index": [0, 0]}}, 400, "target"),
    ({"target": {"index": ["a"]}}, 400, "target.index"),
    ({"output": "nope"}, 400, "logits"),
    ({"space": "moon"}, 400, "probability"),
    ({"space": "probability"}, 400, "probability"),
    ({"seed": -1}, 400, "seed"),
    ({"seed": "a"}, 400, "seed"),
    ({"parameters": {"n_stps": 3}, "method": "integrated_gradients"}, 400, "n_stps"),
    ({"parameters": {"n_steps": 0}, "method": "integrated_gradients"}, 400, "n_steps"),
    ({"parameters": {"n_steps": "many"}, "method": "integrated_gradients"}, 400, "n_steps"),
    ({"parameters": {"n_steps": 10**9}, "method": "integrated_gradients"}, 400, "n_steps"),
    ({"parameters": {"target": 1}}, 400, "parameters.target"),
    ({"parameters": [1]}, 400, "parameters"),
    ({"background": []}, 400, "background"),
    ({"background": [[1, 2]]}, 400, "2 values"),
    ({"baseline": [1, 2], "method": "integrated_gradients"}, 400, "2 values"),
    ({"baseline": "zero", "method": "integrated_gradients"}, 400, "instances[0]"),
    ({"metod": "saliency"}, 400, "metod"),
]


@pytest.mark.parametrize(("options", "status", "named"), BAD_EXPLAINS)
def test_bad_explain_options_are_named(
    client: FlaskClient, error_of: ErrorOf, options: dict[str, Any], status: int, named: str
) -> None:
    response = client.post("/v1/models/flowers:explain", json={**GOOD, **options})
    assert (response.status_code, named in error_of(response)) == (status, True), response.get_data()
    tensors = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -0.5, 1]}]}
    typed = client.post("/v2/models/flowers/explain", json={**tensors, "explain": options})
    assert typed.status_code == status
    error_of(typed)
    assert client.post("/v1/models/flowers:explain", json=GOOD).status_code == 200


def test_shap_without_a_background_is_refused_unless_one_is_sent(client: FlaskClient, error_of: ErrorOf) -> None:
    asked: dict[str, Any] = {"instances": [[1, 2, 3]], "method": "exact_shap"}
    response = client.post("/v1/models/price:explain", json=asked)
    assert response.status_code == 422
    assert "needs a background" in error_of(response)
    sent = client.post("/v1/models/price:explain", json={**asked, "background": [[0, 0, 0], [2, 0, 0]]})
    assert sent.status_code == 200
    (explained,) = sent.get_json()["explanations"]
    assert explained["base_value"] == pytest.approx(2.0)
    assert [entry["attribution"] for entry in explained["attributions"]] == pytest.approx([0.0, -2.0, 1.5])


def infer_body(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -0.5, 1.0], **changes}
    return {"inputs": [{key: value for key, value in tensor.items() if value is not ...}]}


BAD_INFERS = [
    (infer_body(shape=[1, 4]), "3 elements"),
    (infer_body(shape=[1, 4], data=[1, 2, 3, 4]), "'x'"),
    (infer_body(shape=[3]), "'x'"),
    (infer_body(datatype="FP64"), "float64"),
    (infer_body(datatype="FLOAT"), "datatype"),
    (infer_body(name="y"), "'y'"),
    (infer_body(name=1), "inputs[0]"),
    (infer_body(data=["a", 1, 2]), "data[0]"),
    (infer_body(data=...), "either data or"),
    (infer_body(shape=[2**40, 2**40]), "3 elements"),
    (infer_body(shape=[0, 3], data=[]), "'x'"),
    (infer_body(data=[1.5, -0.5, 7.0]), "colour"),
    (infer_body(parameters={"shared_memory_region": "a"}), "shared_memory_region"),
    (infer_body(parameters={"binary_data_size": 12}), "both"),
    ({"inputs": []}, "inputs"),
    ({"inputs": "x"}, "inputs"),
    ({}, "inputs"),
    ({"inputs": [infer_body()["inputs"][0]] * 2}, "second time"),
    ({**infer_body(), "outputs": [{"name": "nope"}]}, "nope"),
    ({**infer_body(), "outputs": [{"name": "logits"}] * 2}, "second time"),
    ({**infer_body(), "outputs": [{"name": f"o{i}"} for i in range(10_000)]}, "outputs"),
    ({**infer_body(), "outputs": [{"name": "logits", "parameters": {"classification": 1}}]}, "classification"),
    ({**infer_body(), "parameters": {"sequence_id": 3}}, "sequence_id"),
    ({**infer_body(), "parameters": {"timeout": "soon"}}, "timeout"),
    ({**infer_body(), "parameters": []}, "parameters"),
    ({**infer_body(), "id": 3}, "id"),
    ({**infer_body(), "input": []}, "'input'"),
    ({**infer_body(), "explain": {"method": "saliency"}}, "explain"),
]


@pytest.mark.parametrize(("body", "named"), BAD_INFERS)
def test_bad_infer_requests_are_named(client: FlaskClient, error_of: ErrorOf, body: Any, named: str) -> None:
    response = client.post("/v2/models/flowers/infer", json=body)
    assert response.status_code == 400
    assert named in error_of(response)
    assert client.post("/v2/models/flowers/infer", json=infer_body()).status_code == 200


def test_bodies_beyond_the_limits_are_refused(
    open_client: Callable[[Config], FlaskClient], config: Config, error_of: ErrorOf
) -> None:
    client = open_client(dataclasses.replace(config, max_body_mib=1, max_rows=3, max_explain_rows=2))
    big = b'{"instances":[[' + b" " * 2**20 + b'1,2,"w"]]}'
    assert client.post("/v1/models/flowers:predict", data=big, content_type="application/json").status_code == 413
    chunked = client.post(
        "/v1/models/flowers:predict",
        input_stream=io.BytesIO(big),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert chunked.status_code == 413
    error_of(chunked)
    for count, verb, status in [(3, "predict", 200), (4, "predict", 413), (2, "explain", 200), (3, "explain", 413)]:
        response = client.post(f"/v1/models/flowers:{verb}", json={"instances": [ROW] * count})
        assert response.status_code == status
    tensor = infer_body(shape=[4, 3], data=[0.0] * 12)
    assert "rows: got 4" in error_of(client.post("/v2/models/flowers/infer", json=tensor))


def test_compressed_and_cut_bodies_are_refused(client: FlaskClient, error_of: ErrorOf) -> None:
    body = json.dumps(GOOD).encode()
    packed = client.post(
        "/v1/models/flowers:predict", data=body, content_type="application/json", headers={"Content-Encoding": "gzip"}
    )
    assert packed.status_code == 415
    error_of(packed)
    identity = client.post(
        "/v1/models/flowers:predict",
        data=body,
        content_type="application/json",
        headers={"Content-Encoding": "identity"},
    )
    assert identity.status_code == 200
    cut = client.post(
        "/v1/models/flowers:predict",
        input_stream=io.BytesIO(body[:-5]),
        content_type="application/json",
        content_length=len(body),
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert cut.status_code == 400
    error_of(cut)


QUERIES = [
    ("/v1/models/flowers:explain?method=magic", GOOD, "'method'"),
    ("/v1/models/flowers:explain?", GOOD, None),
    ("/v1/models/flowers:predict?version=3", GOOD, "'version'"),
    ("/v2/models/flowers/infer?id=7", infer_body(), "'id'"),
    ("/v2/models/flowers/explain?target=1", infer_body(), "'target'"),
    ("/v2/repository/index?ready=true", {}, "'ready'"),
]


@pytest.mark.parametrize(("address", "body", "named"), QUERIES)
def test_a_query_beside_json_is_refused_by_name(
    client: FlaskClient, error_of: ErrorOf, address: str, body: Any, named: str | None
) -> None:
    response = client.post(address, json=body)
    assert response.status_code == (200 if named is None else 400)
    assert named is None or f"query {named}: got it" in error_of(response)


def test_a_query_says_each_thing_once(client: FlaskClient, error_of: ErrorOf, models: Any) -> None:
    image = {"data": models.png(models.PIXELS), "content_type": "image/png"}
    assert "2 of them" in error_of(client.post("/v1/models/patch:explain?target=0&target=1", **image))
    assert "'target'" in error_of(client.post("/v1/models/patch:predict?target=0", **image))
    assert client.post("/v1/models/patch:explain?target=0", **image).status_code == 200


@pytest.mark.parametrize(
    ("address", "body", "named"),
    [
        ("/v2/models/flowers/infer", infer_body(dtype="FP32"), "inputs[0] member 'dtype'"),
        ("/v2/models/flowers/infer", {**infer_body(), "outputs": [{"name": "logits", "top": 1}]}, "outputs[0] member"),
        ("/v2/models/flowers/infer", {**infer_body(), "input": []}, "member 'input'"),
        ("/v2/repository/index", {"raedy": True}, "member 'raedy'"),
    ],
)
def test_a_member_nobody_reads_is_refused_by_name(
    client: FlaskClient, error_of: ErrorOf, address: str, body: Any, named: str
) -> None:
    response = client.post(address, json=body)
    assert response.status_code == 400
    assert error_of(response).startswith(named)
