"""Which group runs next, how many runs at a time, and what is not queued at all."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import engine
from engine.feeds import Checked
from engine.lanes import Request
from engine.protocol import Knobs
from engine.schedule import Rules, Schedule
from engine.sessions import Session

RULES = Rules(max_batch=4, max_wait=0.0, threads=4, quantum={"predict": 0.2, "explain": 0.05}, explain_share=0.1)


def request(key, *, items=1, lane="predict", threads=4, arrived=0.0, **knobs):
    checked = Checked({"x": np.zeros((items, 1))}, items, (key,), None, None, True)
    artifact = SimpleNamespace(digest=key, knobs=Knobs(**knobs))
    return Request(artifact, SimpleNamespace(threads=threads), checked, lane, None, arrived)


def schedule(*requests):
    made = Schedule(RULES)
    for each in requests:
        made.lanes.add(each)
    return made


def started(made, now=0.0):
    """The keys of the runs that can be started now."""
    keys = []
    while (group := made.next(now)[0]) is not None:
        keys.append([each.artifact.digest for each in made.start(group)])
    return keys


def test_runs_take_the_threads_of_their_sessions():
    made = schedule(*[request(key, threads=2) for key in "abc"])
    assert started(made) == [["a"], ["b"]]
    assert made.runs == 2


def test_a_wide_run_is_not_overtaken():
    made = schedule(request("narrow", threads=1), request("wide", threads=4), request("late", threads=1))
    assert started(made) == [["narrow"]]


def test_a_model_has_no_more_runs_at_a_time_than_it_may_and_others_go_before_it():
    made = schedule(*[request("a", threads=1, max_batch=1, instances=2) for _ in range(3)], request("b", threads=1))
    assert started(made) == [["a"], ["b"], ["a"]]


def test_a_group_that_waits_for_company_holds_nobody_up():
    made = schedule(request("patient", max_wait_ms=50, arrived=1.0), request("b"))
    assert started(made, now=1.0) == [["b"]]
    made.end([request("b")], 0.001)
    assert made.next(1.01) == (None, 1.05)
    assert started(made, now=1.05) == [["patient"]]


def test_own_knobs_go_before_the_engine_s():
    made = schedule(*[request("a", threads=4, max_batch=2) for _ in range(4)])
    assert started(made) == [["a", "a"]]


def test_explanations_go_first_once_they_have_earned_it():
    made = schedule(*[request("p", max_batch=1) for _ in range(200)])
    for _ in range(20):
        made.lanes.add(request("e", lane="explain"))
    order = []
    made.pace.learn(("e",), 1, 0.05)
    for _ in range(60):
        group, _ = made.next(0.0)
        batch = made.start(group)
        order.append(group.lane)
        made.end(batch, 0.05 if group.lane == "explain" else 0.02)
    assert order.count("explain") in (2, 3)
    assert order[0] == "predict"


def test_what_waits_is_known_in_seconds():
    made = schedule(*[request("a", items=3) for _ in range(2)], request("never run"))
    made.pace.learn(("a",), 1, 0.5)
    assert made.backlog("predict") == pytest.approx(3.0)
    assert made.backlog("explain") == 0


def test_runs_side_by_side_halve_the_wait():
    made = schedule(*[request("a", items=3, threads=2) for _ in range(2)])
    made.pace.learn(("a",), 1, 0.5)
    assert made.backlog("predict") == pytest.approx(1.5)


def test_predictions_are_refused_when_too_much_work_waits(models, make_engine, gate, start, until):
    home, model = make_engine(queue_seconds=1.0), models.affine()
    x = {"x": np.ones((1, 3), np.float32)}
    first = start(home.run, model, x)
    gate.wait_entered()
    key = next(iter(home._in_flight)).requests[0].checked.key
    home._schedule.pace.learn(key, 1, 0.7)
    waiting = [start(home.run, model, x) for _ in range(2)]
    until(lambda: home.statistics().queued_requests == 2)
    with pytest.raises(engine.QueueFull, match=r"about 1\.4 s waits"):
        home.run(model, x)
    explaining = start(home.run, model, x, lane="explain")
    gate.open.set()
    for future in (first, *waiting, explaining):
        future.result(30)


def test_a_short_prediction_is_run_at_once_beside_a_long_one(models, make_engine, start, until):
    home, short = make_engine(at_once_us=1e6, explain_share=0), models.affine()
    x = {"x": np.ones((1, 3), np.float32)}
    home.run(short, x)
    running = start(home.run, models.long(), {"x": np.ones((1, 1, 256), np.float32)}, tag="long", lane="explain")
    until(lambda: home.statistics().running == 1)
    np.testing.assert_allclose(home.run(short, x).outputs["y"], models.affine_formula(x["x"]), atol=2e-6)
    assert home.statistics().running == 1
    home.cancel("long")
    with pytest.raises(engine.Cancelled):
        running.result(60)


def test_a_request_too_large_for_memory_goes_through_in_smaller_runs(models, make_engine, monkeypatch):
    home, model, sizes, original = make_engine(), models.affine(), [], Session.run

    def tight(self, outputs, feeds, stop=None):
        sizes.append(len(feeds["x"]))
        if len(feeds["x"]) > 3:
            raise engine.errors.OutOfMemory("no memory")
        return original(self, outputs, feeds, stop)

    monkeypatch.setattr(Session, "run", tight)
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    result = home.run(model, {"x": x})
    np.testing.assert_allclose(result.outputs["y"], models.affine_formula(x), atol=2e-6)
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    assert result.runs == 5


def test_a_request_that_never_fits_fails_alone(models, make_engine, monkeypatch):
    home, model = make_engine(), models.affine()

    def none(*_):
        raise engine.errors.OutOfMemory("no memory")

    monkeypatch.setattr(Session, "run", none)
    with pytest.raises(engine.RunFailed, match="no memory for the outputs of 4 items, 1 at a time"):
        home.run(model, {"x": np.ones((4, 3), np.float32)})
    monkeypatch.undo()
    assert home.run(model, {"x": np.ones((1, 3), np.float32)}).runs == 1
