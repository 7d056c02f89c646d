"""Engine processes: the same answers as in this process, and what happens when one dies."""

from __future__ import annotations

import functools
import os
import signal
import time

import numpy as np
import psutil
import pytest

import engine

LONG = {"x": np.ones((1, 1, 256), dtype=np.float32)}


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def processes():
    settings = engine.EngineSettings(threads=1, at_once_us=0, queue_limit=64)
    made = engine.EngineProcesses([settings] * 2, {"predict": 8, "explain": 4})
    yield made
    made.close()


@pytest.fixture
def remote(processes):
    home = engine.RemoteEngine(processes.places)
    yield home
    home.close()


def pids(remote):
    return [int(pid) for pid in remote.statistics().processes]


def test_it_is_an_engine(remote):
    assert isinstance(remote, engine.Engine)


def test_every_kind_of_model_answers_as_in_this_process(models, remote, make_engine):
    home = make_engine()
    asked = [
        (models.affine(bias=0.5), {"x": rows(5)}),
        (models.gather(), {"index": np.array([0, 4, 2])}),
        (models.centred(), {"x": rows(2), "background": rows(7, 1)}),
        (models.background_mean(), {"background": rows(4)}),
        (models.words(), {"text": np.array([["ä"], ["b"]], dtype=np.object_)}),
    ]
    for model, feeds in asked:
        there, here = remote.run(model, feeds), home.run(model, feeds)
        assert there.outputs.keys() == here.outputs.keys()
        for name, array in here.outputs.items():
            np.testing.assert_array_equal(there.outputs[name], array)
            assert there.outputs[name].dtype == array.dtype


def test_requests_of_many_threads_each_get_their_own(models, remote, start):
    model, inputs = models.affine(), [rows(1 + index % 3, index) for index in range(100)]
    futures = [start(remote.run, model, {"x": x}, lane=("predict", "explain")[len(x) % 2]) for x in inputs]
    for x, future in zip(inputs, futures, strict=True):
        np.testing.assert_allclose(future.result(60).outputs["y"], models.affine_formula(x), atol=2e-6)


def test_errors_are_those_of_the_engine(models, remote):
    with pytest.raises(engine.InvalidFeeds, match="expected float32"):
        remote.run(models.affine(), {"x": rows(1).astype(np.float64)})
    with pytest.raises(engine.RunFailed):
        remote.run(models.gather(), {"index": np.array([9])})
    with pytest.raises(engine.LoadFailed, match="runtime refused"):
        remote.load(models.stored(b"nonsense", {"x": "item"}, {"y": "item"}))
    with pytest.raises(engine.DeadlineExceeded):
        remote.run(models.affine(), {"x": rows(1)}, deadline=time.monotonic() - 1)


def test_a_run_past_its_deadline_is_stopped_there(models, remote):
    remote.load(models.long())
    with pytest.raises(engine.DeadlineExceeded, match="while it ran"):
        remote.run(models.long(), LONG, deadline=time.monotonic() + 0.1)


def test_a_run_is_cancelled_there(models, remote, start, until):
    remote.load(models.long())
    running = start(remote.run, models.long(), LONG, tag="a")
    until(lambda: remote.statistics().running == 1)
    remote.cancel("a")
    with pytest.raises(engine.Cancelled):
        running.result(60)


def test_both_engines_work_and_their_figures_are_added(models, remote, start, until):
    remote.load(models.long())
    before = remote.statistics()
    assert len(before.processes) == 2
    running = [start(remote.run, models.long(), LONG, tag="both") for _ in range(2)]
    until(lambda: remote.statistics().running == 2)
    remote.cancel("both")
    for future in running:
        with pytest.raises(engine.Cancelled):
            future.result(60)
    remote.run(models.affine(), {"x": rows(3)})
    after = remote.statistics()
    assert (after.items - before.items, after.runs - before.runs) == (3, 1)
    each = remote.statistics_of_each()
    assert [len(one.processes) for one in each] == [1, 1]
    assert sum(one.items for one in each) == after.items
    assert after.artifacts[models.affine().digest].inference_count >= 3
    assert remote.backlog() == 0
    assert remote.info().providers == ("CPUExecutionProvider",)


def test_unloaded_sessions_are_gone(models, remote):
    model = models.affine(bias=3.0)
    remote.load(model)
    assert model.digest in remote.statistics().sessions
    remote.unload(model.digest)
    assert model.digest not in remote.statistics().sessions
    assert remote.run(model, {"x": rows(1)}).runs == 1


def test_a_killed_engine_fails_its_requests_and_is_back(models, processes, start, until):
    remote, model = engine.RemoteEngine(processes.places[:1]), models.affine()
    for _ in range(3):
        (pid,) = pids(remote)
        remote.load(models.long())
        running = start(remote.run, models.long(), LONG)
        until(lambda: remote.statistics().running == 1)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(engine.EngineLost):
            running.result(30)
        until(lambda: _answers(remote, model, models))
        assert pids(remote) != [pid]
    remote.close()


def _answers(remote, model, models):
    x = rows(2)
    try:
        outputs = remote.run(model, {"x": x}).outputs
    except engine.EngineLost:
        return False
    np.testing.assert_allclose(outputs["y"], models.affine_formula(x), atol=2e-6)
    return True


def test_the_other_engine_answers_while_one_is_down(models, remote, processes, until):
    second = engine.RemoteEngine(processes.places[1:])
    (victim,) = pids(second)
    second.close()
    os.kill(victim, signal.SIGKILL)
    until(lambda: processes.places[1].life() == 0 or victim not in pids(remote))
    assert remote.run(models.affine(), {"x": rows(1)}).runs == 1
    until(lambda: len(pids(remote)) == 2)


def test_closing_fails_what_waits_and_leaves_no_process(models, start, until):
    made = engine.EngineProcesses([engine.EngineSettings(threads=1)], {"predict": 2, "explain": 1})
    remote = engine.RemoteEngine(made.places)
    (pid,) = pids(remote)
    process = psutil.Process(pid)
    assert process.name() == "glasshouse-engi"
    remote.load(models.long())
    running = start(remote.run, models.long(), LONG)
    until(lambda: remote.statistics().running == 1)
    remote.close()
    with pytest.raises(engine.EngineClosed):
        running.result(30)
    with pytest.raises(engine.EngineClosed):
        remote.run(models.affine(), {"x": rows(1)})
    made.close()
    assert not psutil.pid_exists(pid)


def test_a_process_that_cannot_start_is_an_error_at_once():
    with pytest.raises(engine.LoadFailed, match="did not start"):
        engine.EngineProcesses(
            [engine.EngineSettings()], {"predict": 1, "explain": 1}, prepare=functools.partial(os._exit, 3)
        )
