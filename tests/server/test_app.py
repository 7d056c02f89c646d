"""The HTTP surface: every route answers, every failure has one shape, and the next request is answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server import Config

Answer = Callable[[TestResponse], Any]
ErrorOf = Callable[[TestResponse], str]
ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
GOOD = {"instances": [ROW]}


def rules(client: FlaskClient) -> list[tuple[str, str]]:
    """Every method and address of the application, with names filled in that do not exist."""
    filled = {"name": "nothing", "version": "9", "decision_id": "01JD0000000000000000000000.0", "request_id": "!"}
    found = []
    for rule in client.application.url_map.iter_rules():
        values = {argument: filled.get(argument, "x") for argument in rule.arguments}
        address = rule.build({key: filled.get(key, value) for key, value in values.items()})
        assert address is not None
        found += [(method, address[1]) for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"})]
    return found


def test_every_route_fails_in_one_shape(client: FlaskClient, error_of: ErrorOf) -> None:
    seen = 0
    for method, address in rules(client):
        for tried in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}:
            response = client.open(address, method=tried, data=b"{", content_type="application/json")
            if response.status_code >= 400:
                error_of(response)
                seen += 1
            if tried not in (method, "GET", "POST"):
                assert response.status_code == 405
                assert response.headers["Allow"]
    assert seen > 100


def test_the_check_of_the_shape_sees_another(client: FlaskClient, error_of: ErrorOf) -> None:
    @client.application.get("/odd")
    def odd() -> tuple[dict[str, str], int]:
        return {"error": "x", "trace": "y"}, 400

    with pytest.raises(AssertionError):
        error_of(client.get("/odd"))


@pytest.mark.parametrize(
    "address",
    [
        "/v2/",
        "/v2//health/live",
        "/v2/models/",
        "/v2//models",
        "/V2",
        "/v2/models/../models",
        "/v2/models/%2e%2e",
        "/v2/models/..%2f..%2fetc%2fpasswd",
        "/v2/models/%252e%252e",
        "/v2/models/flowers%00",
        "/v2/models/" + "a" * 300,
        "/v2/models/fl%C3%B6wers",
        "/v2/models/flowers/versions/..",
        "/v2/models/flowers/versions/01",
        "/v2/models/flowers/versions/-1",
        "/v2/models/flowers/versions/9999999999999999999999",
        "/console/static/../config.py",
        "/console/static/%2e%2e/config.py",
        "/console/static//etc/passwd",
        "/v1/decisions/..",
        "/v1/decisions/x",
    ],
)
def test_other_spellings_and_names_are_not_found(client: FlaskClient, error_of: ErrorOf, address: str) -> None:
    response = client.get(address)
    assert response.status_code == 404
    assert len(error_of(response)) < 600


def test_what_flask_refuses_is_said_in_our_words(
    config: Config, open_client: Callable[[Config], FlaskClient], error_of: ErrorOf
) -> None:
    client = open_client(dataclasses.replace(config, max_body_mib=1))
    assert error_of(client.get("/v2/modls")) == "path /v2/modls: not found; see /v2 and docs/http-api.md"
    assert error_of(client.get("/console/static/x.py")).startswith("path /console/static/x.py: not found")
    assert error_of(client.get("/v2/models/x/infer")) == (
        "method: got GET for /v2/models/x/infer, expected one of POST"
    )
    large = client.post("/v1/models/flowers:predict", data=b" " * (2**20 + 1), content_type="application/json")
    assert large.status_code == 413
    assert error_of(large) == "body: got 1048577 bytes, expected at most 1048576"
    assert client.post("/v1/models/flowers:predict", json=GOOD).status_code == 200


def test_metadata(client: FlaskClient, answer_of: Answer) -> None:
    assert answer_of(client.get("/v2/health/live")) == {"live": True}
    assert answer_of(client.get("/v2/health/ready")) == {"ready": True}
    server = answer_of(client.get("/v2"))
    assert server["name"] == "glasshouse"
    assert {"binary_tensor_data", "statistics", "explain"} <= set(server["extensions"])
    assert server["parameters"]["providers"] == ["CPUExecutionProvider"]
    names = ["broken", "flowers", "patch", "price", "single"]
    assert answer_of(client.get("/v1/models")) == {"models": names}
    assert answer_of(client.get("/v2/models")) == {"models": names}
    assert answer_of(client.get("/v1/models/flowers")) == {"name": "flowers", "ready": True}
    for address in ("/v2/models/flowers", "/v2/models/flowers/versions/1"):
        model = answer_of(client.get(address))
        assert model["versions"] == ["1"]
        assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
        assert model["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
        assert answer_of(client.get(f"{address}/ready")) == {"name": "flowers", "ready": True}
        config = answer_of(client.get(f"{address}/config"))
        assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [3]}]
        assert config["max_batch_size"] > 1
    index = answer_of(client.post("/v2/repository/index", json={"ready": True}))
    assert {"name": "flowers", "version": "1", "state": "READY", "reason": ""} in index
    assert answer_of(client.post("/v2/repository/index")) == index


def test_statistics_count_items_and_runs(client: FlaskClient, answer_of: Answer) -> None:
    (before,) = answer_of(client.get("/v2/models/flowers/stats"))["model_stats"]
    client.post("/v1/models/flowers:predict", json={"instances": [ROW] * 5})
    client.post("/v1/models/flowers:predict", json=GOOD)
    (stats,) = answer_of(client.get("/v2/models/flowers/stats"))["model_stats"]
    assert stats["inference_count"] - before["inference_count"] == 6
    assert stats["execution_count"] - before["execution_count"] == 2
    assert stats["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 2
    assert [batch["batch_size"] for batch in stats["batch_stats"]] == [1, 5]
    assert len(answer_of(client.get("/v2/models/stats"))["model_stats"]) == 5


def test_explainers_name_what_is_offered_and_why_the_rest_is_not(client: FlaskClient, answer_of: Answer) -> None:
    flowers = answer_of(client.get("/v2/models/flowers/explainers"))
    assert flowers["default"] == "exact_shap"
    offered = {entry["name"]: entry for entry in flowers["explainers"]}
    assert offered["integrated_gradients"]["parameters"]["properties"]["n_steps"]["default"] == 50
    assert offered["exact_shap"]["needs"] == ["background", "masks"]
    assert {"name": "grad_cam", "reason": "the model has no feature maps"} in flowers["refused"]
    assert not offered.keys() & {entry["name"] for entry in flowers["refused"]}
    patch = answer_of(client.get("/v2/models/patch/versions/1/explainers"))
    assert "background" in {entry["name"]: entry["reason"] for entry in patch["refused"]}["kernel_shap"]


def test_the_console_gets_its_files_and_its_models(client: FlaskClient, answer_of: Answer) -> None:
    page = client.get("/")
    assert page.mimetype == "text/html"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert client.get("/console/static/console.js").mimetype == "text/javascript"
    entries = {entry["name"]: entry for entry in answer_of(client.get("/console/models"))}
    flowers = entries["flowers"]
    assert flowers["kind"] == "tabular"
    assert flowers["example"] == ROW
    assert flowers["features"][2]["levels"][1] == {"value": "w", "label": "white"}
    assert flowers["default_method"] == "exact_shap"
    assert flowers["metrics"] == {"accuracy": 0.5}
    assert entries["patch"]["kind"] == "image"
    assert entries["patch"]["inputs"][0]["image"] == {"height": 4, "width": 4}
    assert entries["broken"]["example"] is None


def test_the_example_of_the_console_can_be_sent(client: FlaskClient, answer_of: Answer) -> None:
    entries = answer_of(client.get("/console/models"))
    instance = next(entry["example"] for entry in entries if entry["name"] == "flowers")
    assert client.post("/v1/models/flowers:explain", json={"instances": [instance]}).status_code == 200


def test_every_answer_carries_ids_and_safe_headers(client: FlaskClient) -> None:
    for response in (client.get("/v2"), client.get("/nope"), client.post("/v1/models/flowers:predict", json=GOOD)):
        assert len(response.headers["X-Request-Id"]) == 32
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Security-Policy"]
    given = client.get("/v2", headers={"X-Request-Id": "abc-1.2_3"})
    assert given.headers["X-Request-Id"] == "abc-1.2_3"
    for forged in ("a b", "a" * 129, "ä", '"}'):
        assert client.get("/v2", headers={"X-Request-Id": forged}).headers["X-Request-Id"] != forged


def test_a_missing_store_is_not_served(
    tmp_path: Path, config: Config, open_client: Callable[[Config], FlaskClient]
) -> None:
    import model_store

    with pytest.raises(model_store.StoreUnavailable):
        open_client(dataclasses.replace(config, store=tmp_path / "nothing"))
