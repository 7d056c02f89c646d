"""Small predictions are answered in the event loop, unless they would have to wait."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from server import Config, create_app, open_service
from server.front import PROMPT_BYTES, Front
from server.pool import MustWait, step_aside, without_waiting
from server.service import Service

BODY = json.dumps({"instances": [[1.5, -0.5, "w"]]}).encode()
PREDICT = "/v1/models/flowers:predict"


class Headers(dict[str, str]):
    """As Granian's: names in lower case."""


class Protocol:
    """What Granian hands to an application, and what it was answered by which thread."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.status = 0
        self.content = b""
        self.thread = ""

    async def __call__(self) -> bytes:
        return self._body

    def response_bytes(self, status: int, headers: Any, content: bytes) -> None:
        self.status, self.content, self.thread = status, content, threading.current_thread().name


def scope_of(path: str, body: bytes) -> Any:
    headers = Headers({"content-length": str(len(body)), "content-type": "application/json", "host": "x"})
    return SimpleNamespace(
        method="POST",
        path=path,
        query_string="",
        scheme="http",
        http_version="1.1",
        client="c:1",
        server="s:1",
        headers=headers,
    )


@pytest.fixture
def service(config: Config) -> Iterator[Service]:
    found = open_service(dataclasses.replace(config, audit="off"))
    yield found
    found.close()


def answered(service: Service, asked: list[tuple[str, bytes]], *, prompt: bool = True) -> list[Protocol]:
    """The answers, one after another, of a front before the whole application."""

    async def all_of_them() -> list[Protocol]:
        front = Front(
            create_app(service.config, service), threads=2, waiting=8, max_body=1 << 20, body_seconds=5, prompt=prompt
        )
        front.__rsgi_init__(asyncio.get_running_loop())
        got = []
        for path, body in asked:
            protocol = Protocol(body)
            await front.__rsgi__(scope_of(path, body), protocol)
            got.append(protocol)
        return got

    return asyncio.run(all_of_them())


def in_the_loop(protocol: Protocol) -> bool:
    return protocol.thread == threading.main_thread().name


def test_short_predictions_are_answered_in_the_loop_as_in_a_thread(service: Service) -> None:
    there = answered(service, [(PREDICT, BODY)] * 20, prompt=False)  # how long a run takes is learned meanwhile
    here = answered(service, [(PREDICT, BODY)] * 2)
    assert {protocol.status for protocol in here + there} == {200}
    assert here[-1].content == there[0].content
    assert in_the_loop(here[-1])
    assert not in_the_loop(there[0])


def test_what_is_wrong_is_told_from_the_loop_too(service: Service) -> None:
    (bad,) = answered(service, [(PREDICT, b'{"instances": 3}')])
    assert (bad.status, in_the_loop(bad)) == (400, True)


def test_large_bodies_and_explanations_have_threads(service: Service) -> None:
    large = json.dumps({"instances": [[1.5, -0.5, "w"]] * 1500}).encode()
    assert len(large) > PROMPT_BYTES
    got = answered(service, [(PREDICT, large), (PREDICT.replace("predict", "explain"), BODY)])
    assert [(protocol.status, in_the_loop(protocol)) for protocol in got] == [(200, False)] * 2


def test_what_would_have_to_wait_is_done_once_and_in_a_thread(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(service, [(PREDICT, BODY)] * 3)
    before = service.engine.statistics()
    loaded = service.models.resolve("flowers", None)
    monkeypatch.setattr(type(loaded), "row_seconds", property(lambda _: 1.0, lambda *_: None), raising=False)
    got = answered(service, [(PREDICT, BODY)] * 3)
    assert [(protocol.status, in_the_loop(protocol)) for protocol in got] == [(200, False)] * 3
    after = service.engine.statistics()
    assert (after.runs - before.runs, after.items - before.items) == (3, 3)
    assert service.figures.samples()["glasshouse_requests_in_flight"] == {(): 0}


def test_a_model_that_is_not_there_yet_is_not_loaded_in_the_loop(config: Config) -> None:
    service = open_service(dataclasses.replace(config, audit="off", required_models=("price",)))
    first, *_, last = answered(service, [(PREDICT, BODY)] * 2)
    assert (first.status, in_the_loop(first)) == (200, False)
    assert last.status == 200
    service.close()


def test_stepping_aside_is_refused_only_where_nothing_may_wait() -> None:
    step_aside()
    with without_waiting(), pytest.raises(MustWait):
        step_aside()
    step_aside()
