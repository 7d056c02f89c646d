"""The story of predict and explain without HTTP: sharing, deadlines, records, damage."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import audit
import engine
import model_store
import server
from server import Config, Service, create_app, open_service
from server.messages import ExplainRequest, PredictRequest, Rows, Tensors

Answer = Callable[[TestResponse], Any]
ErrorOf = Callable[[TestResponse], str]
ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}


@pytest.fixture
def service(config: Config) -> Iterator[Service]:
    opened = open_service(config)
    yield opened
    opened.close()


def test_the_service_knows_no_http() -> None:
    source = Path(inspect.getfile(Service)).read_text()
    imported = {
        name.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert not {name for name in imported if name.split(".")[0] in ("flask", "werkzeug", "granian", "http", "routes")}


def test_route_bodies_are_short() -> None:
    folder = Path(inspect.getfile(server)).parent / "routes"
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                assert node.end_lineno - node.body[0].lineno < 20, f"{file.name}: {node.name}"


def test_no_http_number_outside_errors() -> None:
    folder = Path(inspect.getfile(server)).parent
    for file in [*folder.glob("*.py"), *folder.glob("wire/*.py"), *folder.glob("routes/*.py")]:
        if file.name == "errors.py":
            continue
        numbers = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
        statuses = {200, 201, 204, 400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 429, 500, 501, 503, 504}
        assert not {number for number in numbers if type(number) is int} & statuses, file.name


def test_what_is_recorded_is_what_was_answered(service: Service, models: ModuleType) -> None:
    rows = [ROW, [0, 1, "r"]]
    answer = service.explain(ExplainRequest("flowers", None, Rows(rows), route="test", request_id="id-1", target=2))
    assert len(answer.decisions) == 2
    for row, decision_id in enumerate(answer.decisions):
        decision = service.decision(decision_id)
        audit.check_entry(decision.entry)
        np.testing.assert_array_equal(decision.inputs["x"], answer.inputs["x"][row : row + 1])
        np.testing.assert_array_equal(decision.outputs["logits"], answer.outputs["logits"][row : row + 1])
        np.testing.assert_array_equal(decision.attributions["x"], answer.values["x"][row : row + 1])
        entry = decision.entry
        assert entry["model"]["digest"] == answer.version.digest
        assert entry["request_id"] == "id-1"
        assert entry["explanation"]["method"] == "exact_shap"
        assert entry["explanation"]["target"] == {"index": 2, "name": "iris"}
        assert entry["explanation"]["program_digest"] == answer.program_digest
        assert entry["explanation"]["explained_value"] == pytest.approx(answer.explained_values[row])
    assert decision.received == b'[0,1,"r"]'
    assert answer.decisions[0].split(".")[0] == answer.decision


def test_references_of_the_client_are_in_the_record(service: Service) -> None:
    request = ExplainRequest(
        "flowers", None, Rows([ROW]), method="integrated_gradients", baseline={"petal": 9, "sepal": 8, "colour": "b"}
    )
    recorded = service.decision(service.explain(request).decisions[0])
    np.testing.assert_array_equal(recorded.explanation_tensors["baseline.x"], [[9, 8, 2]])
    own = service.explain(dataclasses.replace(request, baseline=None))
    assert "baseline.x" not in service.decision(own.decisions[0]).explanation_tensors
    assert own.baseline_digest


def explain_all(service: Service, requests: list[ExplainRequest]) -> list[Any]:
    """Answers of requests made at the same moment."""
    answers: list[Any] = [None] * len(requests)
    barrier = threading.Barrier(len(requests))

    def ask(index: int) -> None:
        barrier.wait()
        answers[index] = service.explain(requests[index])

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize("method", ["integrated_gradients", "exact_shap", "kernel_shap", "saliency"])
def test_an_explanation_is_the_same_alone_and_among_others_and_says_that_it_shared(config: Config, method: str) -> None:
    service = open_service(dataclasses.replace(config, max_wait_ms=300, audit="off", cache_mib=0))
    rng = np.random.default_rng(1)
    rows = [[float(a), float(b), "rwb"[index % 3]] for index, (a, b) in enumerate(rng.normal(size=(16, 2)))]
    requests = [ExplainRequest("flowers", None, Rows([row]), method=method, seed=4) for row in rows]
    alone = [service.explain(request) for request in requests[:4]]
    assert all(answer.runs.shared_with_max == 0 for answer in alone)
    together = explain_all(service, requests)
    service.close()
    assert max(answer.runs.shared_with_max for answer in together) >= 1
    for one, many in zip(alone, together, strict=False):
        scale = np.abs(one.values["x"]).max()
        np.testing.assert_allclose(many.values["x"], one.values["x"], rtol=0, atol=1e-6 * scale)
        assert many.runs.batch_items_max >= one.runs.batch_items_max
        assert many.program_digest == one.program_digest


def test_predictions_share_runs_too(config: Config, models: ModuleType) -> None:
    service = open_service(dataclasses.replace(config, max_wait_ms=300, audit="off"))
    barrier, answers = threading.Barrier(8), []

    def ask(number: int) -> None:
        barrier.wait()
        answers.append((number, service.predict(PredictRequest("flowers", None, Rows([[number, 0, "r"]])))))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    service.close()
    assert max(answer.runs.shared_with_max for _, answer in answers) >= 1
    for number, answer in answers:
        expected = models.tabular_logits(np.array([[number, 0, 0]], dtype=np.float32))
        np.testing.assert_allclose(answer.outputs["logits"], expected, rtol=1e-5, atol=1e-6)


def test_a_request_out_of_time_is_given_up(service: Service) -> None:
    with pytest.raises(engine.DeadlineExceeded):
        service.explain(ExplainRequest("flowers", None, Rows([ROW]), timeout_seconds=1e-9))
    array = np.zeros((1, 3), dtype=np.float32)
    with pytest.raises(engine.DeadlineExceeded):
        service.predict(PredictRequest("flowers", None, Tensors({"x": array}), timeout_seconds=1e-9))
    assert service.predict(PredictRequest("flowers", None, Tensors({"x": array}))).rows == 1


def test_time_is_up_over_http_too(client: FlaskClient, error_of: ErrorOf) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 1, 1]}
    response = client.post("/v2/models/flowers/infer", json={"inputs": [tensor], "parameters": {"timeout": 1}})
    assert response.status_code in (200, 504)
    slow = {"inputs": [tensor], "parameters": {"timeout": 1}, "explain": {"method": "exact_shap"}}
    response = client.post("/v2/models/flowers/explain", json=slow)
    assert response.status_code == 504
    error_of(response)


class FailingLog:
    """Decision records whose disk is full."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def begin(self, draft: audit.DecisionDraft) -> audit.Recording:
        raise self.error


def test_what_cannot_be_recorded_is_not_answered(
    config: Config, service: Service, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "audit", FailingLog(audit.CommitFailed("disk full at /var/secret")))
    client = create_app(config, service).test_client()
    for verb in ("predict", "explain"):
        response = client.post(f"/v1/models/flowers:{verb}", json={"instances": [ROW]})
        assert response.status_code == 503
        assert "secret" not in error_of(response)
        assert b"predictions" not in response.get_data()
        assert "Glasshouse-Decision" not in response.headers
    monkeypatch.undo()
    assert client.post("/v1/models/flowers:predict", json={"instances": [ROW]}).status_code == 200


def test_our_own_failure_shows_nothing_of_the_inside(
    config: Config, service: Service, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "audit", FailingLog(ZeroDivisionError("in /secret/place")))
    client = create_app(config, service).test_client()
    response = client.post("/v1/models/flowers:predict", json={"instances": [ROW]})
    assert response.status_code == 500
    assert "secret" not in error_of(response)


def test_decisions_can_be_switched_off(
    config: Config, open_client: Callable[[Config], FlaskClient], error_of: ErrorOf, tmp_path: Path
) -> None:
    client = open_client(dataclasses.replace(config, audit="off", database=tmp_path / "none.sqlite"))
    response = client.post("/v1/models/flowers:explain", json={"instances": [ROW]})
    assert response.status_code == 200
    assert response.get_json()["decisions"] == []
    assert "Glasshouse-Decision" not in response.headers
    refused = client.get("/v1/decisions/01JD0000000000000000000000.0")
    assert refused.status_code == 404
    assert "audit" in error_of(refused)
    assert not (tmp_path / "none.sqlite").exists()


def test_a_decision_over_http(client: FlaskClient, answer_of: Answer) -> None:
    answer = client.post("/v1/models/flowers:explain", json={"instances": [ROW, ROW]}).get_json()
    response = client.get(f"/v1/decisions/{answer['decisions'][1]}")
    assert response.headers["Cache-Control"] == "no-store"
    decision = answer_of(response)
    assert decision["inputs"]["x"]["data"] == [[1.5, -0.5, 1.0]]
    assert decision["outputs"]["logits"]["data"] == [answer["predictions"][1]]
    shown = [entry["attribution"] for entry in answer["explanations"][1]["attributions"]]
    assert decision["attributions"]["x"]["data"] == [shown]
    assert decision["explanation"]["method"] == "exact_shap"
    assert decision["entry"]["model"]["model_digest"] == answer["model_digest"]


def test_versions_and_aliases(
    own_store: Path, config: Config, open_client: Callable[[Config], FlaskClient], models: ModuleType, error_of: ErrorOf
) -> None:
    client = open_client(dataclasses.replace(config, store=own_store))
    store = model_store.Store(own_store)
    store.publish(models.price(), {"model": models.tabular_price(10)})

    def load() -> None:
        """Waits for what would come into service by itself a moment later."""
        assert client.post("/v2/repository/models/price/load").get_json() == {"name": "price", "load": True}

    def price(version: str | None) -> float:
        path = "price" if version is None else f"price/versions/{version}"
        answer = client.post(f"/v1/models/{path}:predict", json={"instances": [[1, 0, 0]]})
        value: float = answer.get_json()["predictions"][0][0]
        return value

    load()
    assert (price(None), price("1"), price("2")) == (20.0, 2.0, 20.0)
    store.set_alias("price", "default", 1)
    store.set_alias("price", "next", 2)
    load()
    assert (price(None), price("next")) == (2.0, 20.0)
    assert client.get("/v2/models/price").get_json()["versions"] == ["1", "2"]
    for version in ("3", "nope"):
        refused = client.post(f"/v1/models/price/versions/{version}:predict", json={"instances": [[1, 0, 0]]})
        assert refused.status_code == 404
        assert version in error_of(refused)


def flip(store: Path, digest: str) -> None:
    """Turns one bit of a blob over."""
    (blob,) = [path for path in (store / "blobs").rglob("*") if path.is_file() and digest.endswith(path.name[-40:])]
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(bytes(content))


def test_a_flipped_bit_is_refused_by_name_and_the_others_are_served(
    own_store: Path, config: Config, open_client: Callable[[Config], FlaskClient], error_of: ErrorOf
) -> None:
    digest = model_store.Store(own_store).resolve("flowers").model_digest
    flip(own_store, digest)
    client = open_client(dataclasses.replace(config, store=own_store))
    ready = client.get("/v2/health/ready")
    assert ready.status_code == 503
    assert "flowers" in error_of(ready)
    assert client.get("/v2/health/live").status_code == 200
    response = client.post("/v1/models/flowers:predict", json={"instances": [ROW]})
    assert response.status_code == 503
    assert digest in error_of(response)
    assert client.post("/v1/models/price:predict", json={"instances": [[1, 2, 3]]}).status_code == 200
    states = {entry["name"]: entry["state"] for entry in client.post("/v2/repository/index").get_json()}
    assert (states["flowers"], states["price"]) == ("UNAVAILABLE", "READY")


def test_a_damaged_manifest_leaves_the_others_listed(
    own_store: Path, config: Config, open_client: Callable[[Config], FlaskClient], error_of: ErrorOf
) -> None:
    flip(own_store, model_store.Store(own_store).resolve("flowers").digest)
    client = open_client(dataclasses.replace(config, store=own_store))
    assert "flowers" in error_of(client.get("/v2/health/ready"))
    assert "flowers" not in client.get("/v1/models").get_json()["models"]
    assert client.get("/v2/models/flowers").status_code == 503
    assert client.post("/v1/models/price:predict", json={"instances": [[1, 2, 3]]}).status_code == 200


def test_a_file_that_is_no_model_is_refused_by_name(
    own_store: Path, config: Config, open_client: Callable[[Config], FlaskClient], models: ModuleType, error_of: ErrorOf
) -> None:
    model_store.Store(own_store).publish(models.price(), {"model": b"this is no model"})
    client = open_client(dataclasses.replace(config, store=own_store))
    assert "price" in error_of(client.get("/v2/health/ready"))
    for verb in ("predict", "explain"):
        response = client.post(f"/v1/models/price:{verb}", json={"instances": [[1, 2, 3]]})
        assert response.status_code == 503
        assert "model price version 2" in error_of(response)
    assert client.post("/v1/models/price/versions/1:predict", json={"instances": [[1, 2, 3]]}).status_code == 200


def test_only_required_models_decide_readiness(
    own_store: Path, config: Config, open_client: Callable[[Config], FlaskClient], error_of: ErrorOf
) -> None:
    flip(own_store, model_store.Store(own_store).resolve("flowers").model_digest)
    without = open_client(dataclasses.replace(config, store=own_store, required_models=("price",)))
    assert without.get("/v2/health/ready").status_code == 200
    unknown = open_client(dataclasses.replace(config, store=own_store, required_models=("tulips",)))
    assert "tulips" in error_of(unknown.get("/v2/health/ready"))


def test_a_full_queue_says_when_to_come_back(
    config: Config, service: Service, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise engine.QueueFull("too many items wait")

    monkeypatch.setattr(service.engine, "run", full)
    response = create_app(config, service).test_client().post("/v1/models/flowers:predict", json={"instances": [ROW]})
    assert response.status_code == 429
    error_of(response)


def test_models_leave_when_others_come(config: Config) -> None:
    service = open_service(dataclasses.replace(config, model_cache=2))
    for _ in range(2):
        for name in service.models.store.models():
            service.models.resolve(name, None)
    assert len(service.models._models) == 2
    assert service.predict(PredictRequest("flowers", None, Rows([ROW]))).labels == ["lily"]
    service.close()


def test_a_request_for_explanations_of_nothing_finite_is_recorded_once(service: Service) -> None:
    assert service.audit is not None
    before = service.audit.count()
    started = time.monotonic()
    with pytest.raises(server.ServerError):
        service.explain(ExplainRequest("broken", None, Rows([[-1, 1]]), target=0))
    assert service.audit.count() == before + 1
    assert time.monotonic() - started < 60
