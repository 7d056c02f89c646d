"""Work that nobody waits for any more: cancelled by its tag, or past its deadline while it runs."""

from __future__ import annotations

import time
import weakref

import numpy as np
import pytest

import engine

LONG = {"x": np.ones((1, 1, 256), dtype=np.float32)}


def rows(count):
    return np.ones((count, 3), dtype=np.float32)


def test_the_long_model_answers_when_it_is_let(models, make_engine):
    result = make_engine().run(models.long(nodes=3), LONG)
    np.testing.assert_allclose(result.outputs["y"], LONG["x"], rtol=1e-5)


def test_a_run_past_its_deadline_is_stopped(models, make_engine):
    home, model = make_engine(), models.long()
    home.load(model)
    with pytest.raises(engine.DeadlineExceeded, match="while it ran"):
        home.run(model, LONG, deadline=time.monotonic() + 0.05)
    assert home.statistics().runs == 0
    assert home.run(models.affine(), {"x": rows(1)}).runs == 1


def test_a_run_is_not_stopped_while_somebody_waits_for_it(models, make_engine, start, until):
    home, model = make_engine(predict_quantum_ms=60_000), models.long(nodes=1500)
    home.load(model)
    first = start(home.run, model, LONG)
    until(lambda: home.statistics().running == 1)
    hurried = start(home.run, model, LONG, deadline=time.monotonic() + 30, tag="hurried")
    patient = start(home.run, model, LONG)
    until(lambda: home.statistics().queued_requests == 2)
    first.result(60)
    until(lambda: home.statistics().queued_requests == 0)
    home.cancel("hurried")
    np.testing.assert_allclose(patient.result(60).outputs["y"], LONG["x"], rtol=1e-4)
    assert patient.result().batch_items == 2
    hurried.result(60)  # it was computed with its neighbour, so it has its answer


def test_cancelled_while_it_runs(models, make_engine, start, until):
    home, model = make_engine(), models.long()
    home.load(model)
    running = start(home.run, model, LONG, tag="a")
    until(lambda: home.statistics().running == 1)
    home.cancel("somebody else")
    home.cancel("a")
    with pytest.raises(engine.Cancelled, match="while it ran"):
        running.result(60)


def test_cancelled_while_it_waits(models, make_engine, gate, start, until):
    home, model = make_engine(), models.affine()
    first = start(home.run, model, {"x": rows(1)})
    gate.wait_entered()
    doomed, other = (start(home.run, model, {"x": rows(1)}, tag=tag) for tag in ("doomed", "other"))
    until(lambda: home.statistics().queued_requests == 2)
    home.cancel("doomed")
    with pytest.raises(engine.Cancelled):
        doomed.result(30)
    gate.open.set()
    assert (first.result(30).batch_items, other.result(30).batch_items) == (1, 1)
    assert home.statistics().cancelled == 1


def test_cancelled_between_two_runs_the_next_is_refused_once(models, make_engine):
    home, model = make_engine(), models.affine()
    home.run(model, {"x": rows(1)}, tag="a")
    home.cancel("a")
    with pytest.raises(engine.Cancelled):
        home.run(model, {"x": rows(1)}, tag="a")
    assert home.run(model, {"x": rows(1)}, tag="a").runs == 1
    assert home.run(model, {"x": rows(1)}).runs == 1


def test_ended_runs_are_forgotten(models, make_engine):
    home, model = make_engine(), models.affine()
    for _ in range(300):
        home.run(model, {"x": rows(1)}, deadline=time.monotonic() + 60)
    assert len(home._watchdog._coming) < 150
    assert not home._watchdog._watched


def test_a_run_that_has_ended_holds_nothing_until_its_deadline(models, make_engine):
    home, x = make_engine(at_once_us=0), rows(1)
    left = weakref.ref(x)
    home.run(models.affine(), {"x": x}, deadline=time.monotonic() + 60)
    assert len(home._watchdog._coming) == 1
    del x
    assert left() is None
