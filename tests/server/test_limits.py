"""Time limits, cancelling, and refusing early: what is not answered costs the engine nothing."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import engine
from server import Config, shares
from server.errors import BadRequest, ExplanationsFull
from server.gateway import ARRIVED

ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
GOOD = {"instances": [ROW]}
PREDICT, EXPLAIN = "/v1/models/flowers:predict", "/v1/models/flowers:explain"
INFER = "/v2/models/flowers/infer"
TENSOR: dict[str, Any] = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 0]}]}
ErrorOf = Callable[[TestResponse], str]


def runs(client: FlaskClient) -> int:
    statistics = client.application.extensions["glasshouse"].engine.statistics()
    return sum(each.execution_count for each in statistics.artifacts.values())


@pytest.mark.parametrize("address", [PREDICT, EXPLAIN, INFER])
@pytest.mark.parametrize("header", ["Glasshouse-Timeout-Ms", "x-envoy-expected-rq-timeout-ms"])
def test_time_counts_from_the_arrival_and_what_is_late_is_never_run(
    client: FlaskClient, error_of: ErrorOf, address: str, header: str
) -> None:
    body = TENSOR if address == INFER else GOOD
    before = runs(client)
    late = {ARRIVED: time.monotonic() - 10}  # it waited for a thread that long
    refused = client.post(address, json=body, headers={header: "9000"}, environ_overrides=late)
    assert refused.status_code == 504
    assert "deadline passed" in error_of(refused)
    assert runs(client) == before
    assert client.post(address, json=body, headers={header: "60000"}, environ_overrides=late).status_code == 200
    assert client.post(address, json=body, headers={header: "0"}).status_code == 200


def test_the_shortest_limit_counts(client: FlaskClient, config: Config) -> None:
    late = {ARRIVED: time.monotonic() - 10}
    body = {**TENSOR, "parameters": {"timeout": 9_000_000}}
    headers = {"Glasshouse-Timeout-Ms": "60000"}
    assert client.post(INFER, json=body, headers=headers, environ_overrides=late).status_code == 504
    assert client.post(INFER, json=TENSOR, headers=headers, environ_overrides=late).status_code == 200
    ages = {ARRIVED: time.monotonic() - config.deadline_seconds - 1}
    assert client.post(INFER, json=TENSOR, environ_overrides=ages).status_code == 504


@pytest.mark.parametrize("text", ["-1", "1.5", "soon", "", "9" * 30])
def test_a_limit_that_is_none_is_refused(client: FlaskClient, error_of: ErrorOf, text: str) -> None:
    refused = client.post(PREDICT, json=GOOD, headers={"Glasshouse-Timeout-Ms": text})
    assert refused.status_code == 400
    assert error_of(refused).startswith("Glasshouse-Timeout-Ms: got")
    with pytest.raises(BadRequest):
        shares.timeout_seconds({"HTTP_GLASSHOUSE_TIMEOUT_MS": text})


def test_a_cancelled_request_is_answered_so_and_the_next_ones_are_not(client: FlaskClient, error_of: ErrorOf) -> None:
    service = client.application.extensions["glasshouse"]
    original, begun, go_on = service.engine.run, threading.Event(), threading.Event()

    def run(*arguments: Any, **named: Any) -> Any:
        if named["lane"] == "explain" and not begun.is_set():
            begun.set()
            go_on.wait(60)
        return original(*arguments, **named)

    service.engine.run = run
    answers: list[TestResponse] = []
    body = {**GOOD, "method": "integrated_gradients", "parameters": {"n_steps": 20}}
    headers = {"X-Request-Id": "a-long-one"}
    other = client.application.test_client()
    asking = threading.Thread(target=lambda: answers.append(other.post(EXPLAIN, json=body, headers=headers)))
    asking.start()
    assert begun.wait(60)
    cancelled = client.delete("/v2/requests/a-long-one")
    assert (cancelled.status_code, cancelled.get_json()) == (202, {"id": "a-long-one"})
    go_on.set()
    asking.join()
    assert answers[0].status_code == 409
    assert "cancelled" in error_of(answers[0])
    assert client.post(EXPLAIN, json=body, headers=headers).status_code == 200
    assert client.delete("/v2/requests/a%20b").status_code == 400


def test_explanations_hold_their_share_and_no_more(
    open_client: Callable[[Config], FlaskClient], config: Config, error_of: ErrorOf
) -> None:
    client = open_client(dataclasses.replace(config, request_threads=4))
    adaptive = {"rule": "adaptive", "tolerance": 1e-7, "max_evals": 200}
    body = {**GOOD, "method": "integrated_gradients", "parameters": adaptive}
    streams = []
    for _ in range(2):  # half of four
        stream = client.post(EXPLAIN, json=body, headers={"Accept": "application/x-ndjson"}, buffered=False)
        next(iter(stream.response))
        streams.append(stream)
    refused = client.post(EXPLAIN, data=b"this is not even JSON", content_type="application/json")
    assert refused.status_code == 429
    assert "explanations: got one more than the 2" in error_of(refused)
    assert client.post(PREDICT, json=GOOD).status_code == 200
    streams[0].close()
    assert client.post(EXPLAIN, json=body).status_code == 200  # and gives it back
    assert client.post(EXPLAIN, json={**body, "method": "magic"}).status_code == 400  # as does an error
    assert client.post(EXPLAIN, json=body).status_code == 200
    streams[1].close()


def test_a_share_is_counted() -> None:
    share = shares.ExplainShare(1)
    share.take()
    with pytest.raises(ExplanationsFull):
        share.take()
    share.give_back()
    share.take()
    assert shares.explain_share(Config(request_threads=1))._limit == 1
    assert shares.explain_share(Config(request_threads=64, explain_threads=5))._limit == 5


@pytest.mark.parametrize(
    ("backlog", "headers", "status"),
    [(0.0, {}, 200), (59.0, {}, 200), (61.0, {}, 429), (0.2, {"Glasshouse-Timeout-Ms": "100"}, 429)],
)
def test_predictions_whose_time_would_pass_are_refused_before_they_are_decoded(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, backlog: float, headers: dict[str, str], status: int
) -> None:
    service = client.application.extensions["glasshouse"]
    monkeypatch.setattr(service.engine, "backlog", {"predict": backlog}.__getitem__)
    assert client.post(PREDICT, json=GOOD, headers=headers).status_code == status
    unread = client.post(PREDICT, data=b"no JSON", content_type="application/json", headers=headers)
    assert unread.status_code == (429 if status == 429 else 400)
    assert client.post(EXPLAIN, json=GOOD).status_code == 200


def test_the_engine_knows_what_it_is_asked(client: FlaskClient) -> None:
    found = client.application.extensions["glasshouse"].engine
    assert isinstance(found, engine.Engine)
    assert found.backlog("predict") == 0
