"""Time that runs out: at a deadline an explanation fails and works no longer, by its own budget it ends at its best."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from flask.testing import FlaskClient

import engine
from server import Config, Service, create_app, open_service
from server.messages import ExplainRequest, Rows

ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
# Many rounds, each at least one run, of which none is needed for the first estimate.
PATIENT = {"rule": "adaptive", "tolerance": 1e-12, "max_evals": 4096}
ASKED = ExplainRequest("flowers", None, Rows([ROW]), method="integrated_gradients", parameters=PATIENT)
Through = Callable[[Callable[..., Any]], list[int]]


@pytest.fixture
def service(config: Config) -> Iterator[Service]:
    opened = open_service(dataclasses.replace(config, cache_mib=0))
    opened.explain(dataclasses.replace(ASKED, parameters={}))  # what is compiled and loaded once is there
    yield opened
    opened.close()


def test_the_request_takes_many_runs(service: Service) -> None:
    """Else the tests below would find nothing cut short."""
    answer = service.explain(ASKED)
    assert answer.runs.count > 8
    assert answer.quality[0]["stopped_by"] in ("tolerance", "max_evals")


@pytest.mark.parametrize("allowed", [1, 3, 5])
def test_after_its_deadline_no_further_chunk_is_run(service: Service, through: Through, allowed: int) -> None:
    """The run in which it passes is the last."""
    seconds, came = 0.4, 0

    def step(run: Callable[[], Any], *_: Any) -> Any:
        nonlocal came
        came += 1
        if came == allowed:
            time.sleep(max(0.0, until + 0.05 - time.monotonic()))
        return run()

    through(step)
    until = time.monotonic() + seconds
    with pytest.raises(engine.DeadlineExceeded):
        service.explain(dataclasses.replace(ASKED, timeout_seconds=seconds))
    assert came == allowed
    assert service.engine.statistics().queued_requests == 0
    time.sleep(0.05)
    assert came == allowed


def test_expired_before_it_begins_nothing_is_run(service: Service, through: Through) -> None:
    sizes, before = through(lambda run, *_: run()), service.engine.statistics()
    for method in ("integrated_gradients", "kernel_shap", "saliency"):
        asked = dataclasses.replace(ASKED, method=method, parameters={}, timeout_seconds=1e-9)
        with pytest.raises(engine.DeadlineExceeded):
            service.explain(asked)
        with pytest.raises(engine.DeadlineExceeded):
            service.predict(asked)
    after = service.engine.statistics()
    assert sizes == []
    assert (after.runs, after.items) == (before.runs, before.items)
    assert after.expired == before.expired + 6


def test_what_expires_while_it_waits_is_never_run(service: Service, through: Through) -> None:
    """A chunk is held until the time of all others is up: they fail meanwhile, and none of theirs is run."""
    hold, inside, chunks = threading.Event(), threading.Event(), list[int]()

    def step(run: Callable[[], Any], feeds: Mapping[str, Any], *_: Any) -> Any:
        if "alpha" in feeds:
            chunks.append(len(feeds["alpha"]))
            inside.set()
            assert hold.wait(30)
        return run()

    through(step)
    failed, before = list[BaseException](), service.engine.statistics().expired

    def late() -> None:
        try:
            service.explain(dataclasses.replace(ASKED, timeout_seconds=0.5))
        except engine.DeadlineExceeded as error:
            failed.append(error)

    first = threading.Thread(target=service.explain, args=(dataclasses.replace(ASKED, parameters={}),))
    first.start()
    assert inside.wait(30)
    others = [threading.Thread(target=late) for _ in range(4)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    assert len(failed) == 4
    assert chunks == [1]
    hold.set()
    first.join()
    assert service.engine.statistics().expired == before + 4
    assert chunks == [1]


def test_a_budget_ends_at_the_best_so_far_and_a_deadline_fails(
    service: Service, through: Through, config: Config
) -> None:
    through(lambda run, *_: (time.sleep(0.02), run())[1])
    hurried = dataclasses.replace(ASKED, parameters={**PATIENT, "budget_ms": 60}, timeout_seconds=55)
    answer = service.explain(hurried)
    assert answer.quality[0]["stopped_by"] == "budget_ms"
    assert answer.quality[0]["quadrature_error"] > 0
    assert answer.errors is not None
    assert (answer.errors["x"] > 0).any()
    client: FlaskClient = create_app(config, service).test_client()
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -0.5, 1.0]}
    for parameters in (PATIENT, {**PATIENT, "budget_ms": 60_000}):
        late = {
            "inputs": [tensor],
            "parameters": {"timeout": 100_000},
            "explain": {"method": "integrated_gradients", "parameters": parameters},
        }
        assert client.post("/v2/models/flowers/explain", json=late).status_code == 504
