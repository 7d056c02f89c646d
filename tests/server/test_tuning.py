"""A tuning is measured on real rows, chosen by the rule that the manual tells, and taken on by a running server."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine
from model_store import Point, Store, Tuning
from server import Config, Service, create_app, open_service, tune
from server.errors import ModelUnusable
from server.loaded import LoadedModel
from server.messages import ExplainRequest, PredictRequest, Rows
from server.tuning import choose, closed_loop, powers, rows_of

ROWS = Rows([[float(row), 1.0, 2.0] for row in range(5)])


def point(threads: int, instances: int, batch: int, milliseconds: float) -> Point:
    throughput = instances * batch / milliseconds * 1e3
    return Point(
        threads=threads, instances=instances, batch=batch, milliseconds=milliseconds, items_per_second=throughput
    )


def ruled_out(candidate: Point, points: list[Point]) -> bool:
    """The manual's rule said the other way round: whether some sentence of it speaks against a point."""
    alone = {(other.threads, other.instances): other.milliseconds for other in points if other.batch == 1}

    def stays(each: Point) -> bool:
        slow_alone = alone[each.threads, each.instances] > 1.5 * min(alone.values())
        return not slow_alone and (each.batch == 1 or each.milliseconds <= 100)

    if not stays(candidate):
        return True
    best = max(other.items_per_second for other in points if stays(other))
    if candidate.items_per_second < 0.95 * best:
        return True
    return any(
        stays(other)
        and other.items_per_second >= 0.95 * best
        and (other.threads * other.instances, other.batch) < (candidate.threads * candidate.instances, candidate.batch)
        for other in points
    )


@given(st.lists(st.floats(0.01, 400), min_size=12, max_size=12))
def test_the_choice_is_the_one_the_rule_leaves(times: list[float]) -> None:
    settings = [
        (threads, instances, batch) for threads, instances in ((1, 1), (1, 2), (2, 1)) for batch in (1, 2, 4, 8)
    ]
    points = [point(*setting, time) for setting, time in zip(settings, times, strict=True)]
    assert not ruled_out(choose(points), points)


def test_a_point_that_the_rule_speaks_against_is_seen() -> None:
    points = [point(1, 1, 1, 1.0), point(1, 1, 8, 2.0), point(2, 1, 1, 2.0), point(2, 1, 8, 0.1)]
    assert [ruled_out(each, points) for each in points] == [True, False, True, True]


def test_throughput_is_not_bought_with_the_wait_of_a_single_request() -> None:
    two_threads, two_at_a_time = point(2, 1, 1, 10.0), point(1, 2, 1, 18.0)
    assert choose([two_threads, two_at_a_time]) == two_threads
    assert choose([two_threads, dataclass_like(two_at_a_time, 14.0)]).instances == 2
    assert choose([two_threads, two_at_a_time], "throughput") == two_at_a_time


def dataclass_like(given_point: Point, milliseconds: float) -> Point:
    return point(given_point.threads, given_point.instances, given_point.batch, milliseconds)


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64]), (0, [1])]
)
def test_powers(most: int, expected: list[int]) -> None:
    assert list(powers(most)) == expected


def test_callers_ask_again_and_again_and_a_failure_is_told() -> None:
    together, mine = threading.Barrier(3), threading.local()

    def run() -> None:
        if not hasattr(mine, "met"):
            mine.met = together.wait(30)  # all three call at the same time

    assert len(closed_loop(run, 3, 0.01)) >= 3
    with pytest.raises(ZeroDivisionError):
        closed_loop(lambda: 1 / 0, 2, 0.01)


@pytest.fixture
def store(own_store: Path) -> Store:
    return Store(own_store)


@pytest.mark.parametrize("name", ["flowers", "patch", "single"])
def test_a_version_is_measured_on_its_own_rows(name: str, store: Store, models: ModuleType) -> None:
    rows = {"patch": {"x": np.ones((2, 1, 4, 4), np.float32)}, "single": {"x": np.eye(3, dtype=np.float32)}}
    version = store.resolve(name)
    if name in rows:
        manifest = getattr(models, name)()
        version = store.publish(manifest, {"model": version.file("model"), "background": models.npz(**rows[name])})
    told: list[Point] = []
    found = tune(version, seconds=0.1, max_batch=4, deadline_seconds=2.5, tell=told.append)
    assert found.measured is not None
    assert found.measured.table == told
    alone = name == "single"
    assert {each.batch for each in told} == ({1} if alone else {1, 2, 4})
    assert (found.max_batch, found.run_rows) == (None, None) if alone else found.run_rows
    assert (found.deadline_seconds, found.max_wait_ms) == (2.5, 0.0)
    assert Tuning.from_bytes(found.to_bytes()) == found
    chosen = [p for p in told if (p.threads, p.instances) == (found.threads, found.instances)]
    assert choose(told) in chosen


def test_examples_come_first_and_without_any_rows_nothing_is_measured(store: Store) -> None:
    np.testing.assert_array_equal(rows_of(LoadedModel(store.resolve("flowers")))["x"], [[1.5, -0.5, 1.0]])
    with pytest.raises(ModelUnusable, match="model price version 1: it has neither examples nor a background"):
        tune(store.resolve("price"), seconds=0.1)


@pytest.fixture
def service(own_store: Path, config: Config) -> Iterator[Service]:
    opened = open_service(dataclasses.replace(config, store=own_store, audit="off", required_models=("price",)))
    yield opened
    opened.close()


def asked(service: Service) -> Any:
    return service.predict(PredictRequest("price", None, ROWS))


def test_a_running_server_takes_it_on(store: Store, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    before = asked(service)
    assert before.runs.batch_items_max == 5
    made: list[Any] = []
    real = engine.InProcessEngine.load
    monkeypatch.setattr(
        engine.InProcessEngine, "load", lambda self, artifact: (made.append(artifact.knobs), real(self, artifact))[1]
    )
    store.set_tuning("price", 1, Tuning(max_batch=2, threads=1, instances=1, run_rows=3))
    service.models.load("price")
    assert made == [engine.Knobs(max_batch=2, threads=1, instances=1)]
    after = asked(service)
    assert after.runs.batch_items_max == 2
    np.testing.assert_array_equal(after.outputs["price"], before.outputs["price"])
    assert service.models.resolve("price", None).source.run_rows == 3
    client = create_app(service.config, service).test_client()
    assert client.get("/v2/models/price/config").get_json()["max_batch_size"] == 2
    explained = service.explain(ExplainRequest("price", None, ROWS, method="integrated_gradients"))
    np.testing.assert_allclose(explained.values["x"], [[2.0 * row, -1.0, 1.0] for row in range(5)], rtol=1e-6)
    store.set_tuning("price", 1, None)
    service.models.load("price")
    assert asked(service).runs.batch_items_max == 5
    (digest,) = {version.model_digest for version in store.versions("price")}
    assert service.engine.statistics().sessions.count(digest) == 1


def test_its_programs_run_with_its_threads_and_other_threads_are_another_question(
    store: Store, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service(dataclasses.replace(config, store=store.root, required_models=("price",), threads=2))
    ran: list[tuple[str, Any]] = []
    real = engine.InProcessEngine.run

    def run(self: Any, artifact: Any, *arguments: Any, **more: Any) -> Any:
        ran.append((more["lane"], artifact))
        return real(self, artifact, *arguments, **more)

    monkeypatch.setattr(engine.InProcessEngine, "run", run)
    question = ExplainRequest("price", None, ROWS, method="integrated_gradients")
    answers = []
    for tuning in (Tuning(run_rows=64), Tuning(max_batch=3, threads=1, instances=2, run_rows=64)):
        store.set_tuning("price", 1, tuning)
        service.models.load("price")
        answers += [service.explain(question), service.explain(question)]
        model = store.resolve("price").model_digest
        explained = {artifact.digest: artifact for lane, artifact in ran if lane == "explain"}
        (program,) = (artifact for digest, artifact in explained.items() if digest != model)
        assert program.knobs == engine.Knobs(threads=tuning.threads, instances=tuning.instances)
        session = service.engine._sessions.get(program)  # type: ignore[attr-defined]
        assert session.threads == (tuning.threads or 2)
        ran.clear()
    assert [answer.cached for answer in answers] == [False, True, False, True]
    assert service.audit is not None
    told = [service.audit.get(f"{answer.decision}.0").entry["runtime"]["threads"] for answer in answers]
    assert told == [2, 2, 1, 1]
    predicted = service.predict(PredictRequest("price", None, ROWS))
    assert service.audit.get(f"{predicted.decision}.0").entry["runtime"]["threads"] == 1
    np.testing.assert_allclose(answers[2].values["x"], answers[0].values["x"], rtol=1e-6)
    service.close()


def test_a_session_is_made_anew_where_its_threads_change(
    store: Store, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[str] = []
    real = engine.InProcessEngine.unload
    monkeypatch.setattr(
        engine.InProcessEngine, "unload", lambda self, digest: (forgotten.append(digest), real(self, digest))[1]
    )
    digest = store.resolve("price").model_digest
    for threads, times in ((None, 0), (1, 1), (1, 1)):
        store.set_tuning("price", 1, Tuning(max_batch=times + 1, threads=threads))
        service.models.load("price")
        assert forgotten.count(digest) == times
        asked(service)


def test_a_deadline_of_its_own_counts_where_it_is_sooner(store: Store, service: Service) -> None:
    store.set_tuning("price", 1, Tuning(deadline_seconds=1e-9))
    service.models.load("price")
    with pytest.raises(engine.DeadlineExceeded):
        asked(service)
    store.set_tuning("price", 1, Tuning(deadline_seconds=1000.0))
    service.models.load("price")
    assert asked(service).rows == 5
    with pytest.raises(engine.DeadlineExceeded):
        service.predict(PredictRequest("price", None, ROWS, timeout_seconds=1e-9))


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"no tuning"), lambda path: path.unlink()])
def test_one_that_cannot_be_read_leaves_the_server_s_settings(
    spoil: Callable[[Path], Any], store: Store, service: Service
) -> None:
    digest = store.set_tuning("price", 1, Tuning(max_batch=2)).tuning_digest
    assert digest is not None
    spoil(store.root / "blobs" / "sha256" / digest[:2] / digest[2:])
    service.models.load("price")
    assert asked(service).runs.batch_items_max == 5
