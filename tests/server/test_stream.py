"""Explanations as they come: one JSON object a line, provisional until the last."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

import engine
from server import Config

ADAPTIVE = {"rule": "adaptive", "tolerance": 1e-7, "max_evals": 200}
LINES = {"Accept": "application/x-ndjson"}


def asked(**more: Any) -> dict[str, Any]:
    rows = [{"petal": 1.5, "sepal": -0.5, "colour": "w"}, [0.25, 2, "b"]]
    return {"instances": rows, "method": "integrated_gradients", "parameters": ADAPTIVE, **more}


@pytest.fixture
def client(open_client: Callable[[Config], FlaskClient], config: Config) -> FlaskClient:
    return open_client(config)


def test_the_last_line_is_the_answer_and_the_others_are_provisional(client: FlaskClient) -> None:
    answer = client.post("/v1/models/flowers:explain", json=asked(), headers=LINES)
    assert answer.status_code == 200
    assert answer.mimetype == "application/x-ndjson"
    *before, last = [json.loads(line) for line in answer.data.splitlines()]
    assert before, "an adaptive rule must be worth more than one line"
    assert all(line["provisional"] and line["decisions"] == [] for line in before)
    assert not last["provisional"]
    assert len(last["decisions"]) == len(last["explanations"])
    spent = [line["explanations"][0]["quality"]["evaluations"] for line in (*before, last)]
    assert spent == sorted(spent)
    whole = client.post("/v1/models/flowers:explain", json=asked()).get_json()
    assert last["explanations"][0]["attributions"] == whole["explanations"][0]["attributions"]
    kept = client.get(f"/v1/decisions/{last['decisions'][0]}")
    assert kept.status_code == 200


def test_what_is_wrong_before_the_first_line_is_an_ordinary_error(client: FlaskClient) -> None:
    answer = client.post("/v1/models/flowers:explain", json=asked(method="magic"), headers=LINES)
    assert answer.status_code == 400
    assert "magic" in answer.get_json()["error"]


def test_an_error_after_the_first_line_is_the_last_line(
    open_client: Callable[[Config], FlaskClient], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(dataclasses.replace(config, cache_mib=0))
    service = client.application.extensions["glasshouse"]
    client.post("/v1/models/flowers:explain", json=asked())  # what is made once is there
    original, count, last_run = service.engine.run, 0, 0

    def run(*arguments: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == last_run:
            raise engine.DeadlineExceeded("the deadline passed")
        return original(*arguments, **more)

    monkeypatch.setattr(service.engine, "run", run)
    client.post("/v1/models/flowers:explain", json=asked())
    count, last_run = 0, count
    answer = client.post("/v1/models/flowers:explain", json=asked(), headers=LINES)
    *before, last = [json.loads(line) for line in answer.data.splitlines()]
    assert before
    assert set(last) == {"error"}


def test_a_client_that_leaves_ends_the_work(client: FlaskClient) -> None:
    service = client.application.extensions["glasshouse"]
    answer = client.post("/v1/models/flowers:explain", json=asked(), headers=LINES, buffered=False)
    lines: Iterator[bytes] = iter(answer.response)  # type: ignore[arg-type]  # werkzeug types it as either kind of text
    assert json.loads(next(lines))["provisional"]
    runs = service.engine.statistics()
    answer.close()
    assert service.engine.statistics() == runs
    assert service.audit.count() == 0
