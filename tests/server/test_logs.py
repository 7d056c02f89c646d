"""What is logged: one line of JSON each, a trace only where the fault is our own."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

import engine
import model_store
from server import Config, create_app, open_service
from server.errors import ModelUnusable, NotReady
from server.logs import JsonLines, log, reasons

ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}


class Kept(logging.Handler):
    """Keeps the lines that would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(self.format(record))

    def lines(self) -> list[dict[str, Any]]:
        assert all("\n" not in text for text in self.text)
        return [json.loads(text) for text in self.text]


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, level = Kept(), log().level
    log().addHandler(handler)
    log().setLevel("INFO")
    yield handler
    log().removeHandler(handler)
    log().setLevel(level)


def test_a_probe_of_a_server_that_is_not_ready_is_one_line_without_a_trace(
    kept: Kept, config: Config, open_client: Callable[[Config], FlaskClient]
) -> None:
    client = open_client(dataclasses.replace(config, required_models=("tulips",)))
    kept.text.clear()
    for _ in range(3):
        client.get("/v2/health/ready")
    refused = [line for line in kept.lines() if line["message"] != "request"]
    assert [(line["level"], line["error"]) for line in refused] == [("warning", "NotReady")] * 3
    assert all("tulips" in line["reason"] for line in refused)
    assert "Traceback" not in "".join(kept.text)


def test_a_model_that_cannot_be_loaded_is_one_line_with_its_reasons(
    kept: Kept, models: Any, own_store: Path, config: Config, open_client: Callable[[Config], FlaskClient]
) -> None:
    model_store.Store(own_store).publish(models.price(), {"model": b"this is no model"})
    client = open_client(dataclasses.replace(config, store=own_store))
    kept.text.clear()
    client.post("/v1/models/price:predict", json={"instances": [[1, 2, 3]]})
    (line,) = [line for line in kept.lines() if line["message"] != "request"]
    assert line["error"] == "ModelUnusable"
    assert line["reason"].startswith("model price version 2")
    assert "Traceback" not in "".join(kept.text)


def test_a_fault_of_our_own_keeps_its_trace(kept: Kept, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    service = open_service(config)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr(service.engine, "run", broken)
    create_app(config, service).test_client().post("/v1/models/flowers:predict", json={"instances": [ROW]})
    (line,) = [line for line in kept.lines() if line["message"] == "request failed"]
    assert line["level"] == "error"
    assert "deep inside" in line["trace"]
    service.close()


def test_reasons_are_told_in_order_and_each_once() -> None:
    last = ValueError("a bit\nis wrong")
    middle = engine.LoadFailed("file ab")
    middle.__cause__ = last
    first = ModelUnusable("model m: a bit is wrong")
    first.__cause__ = middle
    assert reasons(first) == "model m: a bit is wrong; because file ab"
    assert reasons(NotReady()) == "NotReady"
