"""Equal explanations at the same time are made once: the others wait, unless that would cost them anything."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import engine
from server import Config, Service, create_app, open_service
from server.flights import Flights
from server.messages import ExplainAnswer, ExplainRequest, Rows, Runs
from server.results import Results

ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
ASKED = ExplainRequest("flowers", None, Rows([ROW]), method="integrated_gradients", request_id="first")
SECOND = dataclasses.replace(ASKED, request_id="second")
PATIENCE = 30.0
Run = Callable[[], list[Any]]


class Gate:
    """Holds back the first runs of explanations until it is opened; `chunks` counts all of them."""

    def __init__(self, held: int = 1) -> None:
        self.opened, self.entered, self.chunks, self.failure = threading.Event(), threading.Event(), 0, False
        self._held = held

    def step(self, run: Run, feeds: Mapping[str, Any], *_: Any) -> list[Any]:
        if "alpha" in feeds:
            self.chunks += 1
            if self.chunks <= self._held:
                self.entered.set()
                assert self.opened.wait(PATIENCE)
                if self.failure:
                    raise engine.RunFailed("it was to fail")
        return run()


def until(condition: Callable[[], Any]) -> None:
    """Waits for it, and fails where it does not come."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


def test_what_does_not_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PATIENCE", 0.01)
    with pytest.raises(AssertionError, match="did not come"):
        until(lambda: False)


@pytest.fixture
def service(config: Config) -> Iterator[Service]:
    opened = open_service(config)
    opened.explain(dataclasses.replace(ASKED, seed=99))  # what is compiled and loaded once is there
    yield opened
    opened.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
def gate(through: Callable[[Any], Any]) -> Iterator[Gate]:
    found = Gate()
    through(found.step)
    yield found
    found.opened.set()


def both(service: Service, pool: ThreadPoolExecutor, gate: Gate, second: ExplainRequest = SECOND) -> list[Future[Any]]:
    """The first is held within its run, the second waits for it."""
    one = pool.submit(service.explain, ASKED)
    assert gate.entered.wait(PATIENCE)
    two = pool.submit(service.explain, second)
    until(lambda: service.flights._waiting)
    return [one, two]


def test_the_second_is_answered_with_the_result_of_the_first(
    service: Service, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    one, *others = both(service, pool, gate)
    others += [pool.submit(service.explain, dataclasses.replace(SECOND, request_id=str(number))) for number in range(4)]
    until(lambda: len(service.flights._waiting) == 5)
    gate.opened.set()
    first, answers = one.result(), [other.result() for other in others]
    assert gate.chunks == first.runs.count - 1  # the prediction is one too
    assert [first.cached, *(answer.cached for answer in answers)] == [False] + [True] * 5
    for answer in answers:
        assert answer.runs.count == 0
        np.testing.assert_array_equal(answer.values["x"], first.values["x"])
    assert len({decision for answer in (first, *answers) for decision in answer.decisions}) == 6
    assert service.flights._under_way == {}
    figures = service.results.statistics()
    assert (figures.hits, figures.misses, figures.entries) == (5, 2, 2)


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_where_the_first_ends_without_a_result_the_second_makes_its_own(
    service: Service, pool: ThreadPoolExecutor, gate: Gate, how: str
) -> None:
    one, two = both(service, pool, gate)
    if how == "cancelled":
        service.cancel("first")
    gate.failure = how == "failed"
    gate.opened.set()
    with pytest.raises(engine.Cancelled if how == "cancelled" else engine.RunFailed):
        one.result()
    assert not two.result().cached
    assert service.explain(ASKED).cached


def test_the_first_out_of_time_leaves_the_second_its_own(
    service: Service, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    one = pool.submit(service.explain, dataclasses.replace(ASKED, timeout_seconds=0.3))
    assert gate.entered.wait(PATIENCE)
    two = pool.submit(service.explain, SECOND)
    until(lambda: service.flights._waiting)
    time.sleep(0.3)
    gate.opened.set()
    with pytest.raises(engine.DeadlineExceeded):
        one.result()
    assert not two.result().cached


def test_it_waits_no_longer_than_its_own_deadline(service: Service, pool: ThreadPoolExecutor, gate: Gate) -> None:
    one, two = both(service, pool, gate, dataclasses.replace(SECOND, timeout_seconds=0.2))
    with pytest.raises(engine.DeadlineExceeded, match="while an equal explanation was made"):
        two.result()
    assert not one.done()
    gate.opened.set()
    assert not one.result().cached


def test_one_that_waits_is_cancelled_by_its_id_and_the_first_goes_on(
    service: Service, config: Config, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    client = create_app(config, service).test_client
    asked = {"instances": [ROW], "method": "integrated_gradients"}
    one = pool.submit(lambda: client().post("/v1/models/flowers:explain", json=asked))
    assert gate.entered.wait(PATIENCE)
    headers = {"X-Request-Id": "second"}
    two = pool.submit(lambda: client().post("/v1/models/flowers:explain", json=asked, headers=headers))
    until(lambda: service.flights._waiting)
    assert client().delete("/v2/requests/unknown").status_code == 202
    assert not two.done()
    assert client().delete("/v2/requests/second").status_code == 202
    assert two.result().status_code == 409
    assert not one.done()
    gate.opened.set()
    assert one.result().status_code == 200


@pytest.mark.parametrize("change", [{"seed": 1}, {"target": 1}, {"parameters": {"budget_ms": 60_000}}])
def test_another_question_and_one_with_a_clock_of_its_own_do_not_wait(
    service: Service, pool: ThreadPoolExecutor, gate: Gate, change: dict[str, Any]
) -> None:
    adaptive = {"rule": "adaptive", "tolerance": 0.5}
    other = dataclasses.replace(ASKED, **{**change, "parameters": adaptive | change.get("parameters", {})})
    equal = dataclasses.replace(ASKED, parameters=adaptive)
    one = pool.submit(service.explain, other if "parameters" in change else equal)
    assert gate.entered.wait(PATIENCE)
    two = pool.submit(service.explain, dataclasses.replace(other, request_id="second"))
    until(lambda: service.engine.statistics().queued_requests)  # it asks the engine, where the first one runs
    assert not service.flights._waiting
    gate.opened.set()
    assert [one.result().cached, two.result().cached] == [False, False]


def test_a_stream_waits_for_nobody_and_nobody_for_a_stream(
    service: Service, pool: ThreadPoolExecutor, through: Callable[[Any], Any]
) -> None:
    """Its client may read as slowly as it likes."""
    adaptive = {"rule": "adaptive", "tolerance": 1e-7}
    asked = dataclasses.replace(ASKED, parameters=adaptive)
    stream = service.explanations(asked)
    assert next(stream).provisional
    whole = pool.submit(service.explain, dataclasses.replace(asked, request_id="second")).result(PATIENCE)
    assert not whole.cached
    *_, last = stream
    np.testing.assert_array_equal(last.values["x"], whole.values["x"])
    gate = Gate()
    through(gate.step)
    asked = dataclasses.replace(asked, seed=5)
    one = pool.submit(service.explain, asked)
    assert gate.entered.wait(PATIENCE)
    two = pool.submit(lambda: next(service.explanations(asked)))
    until(lambda: service.engine.statistics().queued_requests)
    assert not service.flights._waiting
    gate.opened.set()
    assert not one.result().cached
    assert not two.result().cached


def answer(**more: Any) -> ExplainAnswer:
    version: Any = None
    values: dict[str, Any] = {"values": {"x": np.ones(1000)}, "quality": [{"stopped_by": None}]}
    return ExplainAnswer(version, {}, {"y": np.ones(1)}, 1, None, Runs(), **(values | more))


@pytest.mark.parametrize(
    ("limit", "more", "shared"),
    [
        (1 << 20, {}, True),
        (1, {}, True),  # too large to be kept, and handed on all the same
        (1 << 20, {"quality": [{"stopped_by": "budget_ms"}]}, False),
        (1 << 20, {"values": {"x": np.array([np.nan])}}, False),
    ],
)
def test_what_is_handed_on(pool: ThreadPoolExecutor, limit: int, more: dict[str, Any], shared: bool) -> None:
    flights = Flights(Results(limit))

    def second() -> bool:
        with flights.board("a", time.monotonic() + PATIENCE, "second") as flight:
            return flight.kept is not None

    with flights.board("a", time.monotonic(), "first") as flight:
        assert flight.kept is None
        waits = pool.submit(second)
        until(lambda: flights._waiting)
        with flights.board("b", time.monotonic(), "other") as other:
            assert other.kept is None
        flight.finish(answer(**more))
        assert waits.result(PATIENCE) == shared, "it does not wait for what follows, such as the record"
    assert flights._under_way == {}
    assert not flights._waiting
