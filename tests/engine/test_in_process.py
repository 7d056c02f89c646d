"""Sharing, lanes, bounds, deadlines, faults and the end of the in-process home."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import engine


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def assert_affine(models, result, x, bias=0.0):
    np.testing.assert_allclose(result.outputs["y"], models.affine_formula(x, bias), rtol=0, atol=2e-6)


def test_the_check_of_numbers_can_fail(models, make_engine):
    x = rows(2)
    result = make_engine().run(models.affine(bias=0.5), {"x": x})
    with pytest.raises(AssertionError):
        assert_affine(models, result, x, bias=0.51)


def test_wait_helper_can_fail(until):
    with pytest.raises(AssertionError, match="never came"):
        until(lambda: False, seconds=0.01)


def test_one_request_gets_the_formula(models, make_engine):
    x = rows(4)
    result = make_engine().run(models.affine(bias=0.5), {"x": x})
    assert_affine(models, result, x, 0.5)
    assert (result.shared_with, result.batch_items, result.runs) == (0, 4, 1)
    assert result.queue_seconds >= 0
    assert result.run_seconds > 0


def test_it_is_an_engine(make_engine):
    assert isinstance(make_engine(), engine.Engine)


def test_an_object_that_only_runs_is_no_engine():
    class Half:
        def run(self):
            return None

    assert not isinstance(Half(), engine.Engine)


def test_requests_that_came_during_a_run_share_the_next(models, make_engine, gate, start, until):
    home, model = make_engine(), models.affine()
    inputs = [rows(1 + index % 2, index) for index in range(6)]
    first = start(home.run, model, {"x": inputs[0]})
    gate.wait_entered()
    others = []
    for x in inputs[1:]:
        others.append(start(home.run, model, {"x": x}))
        until(lambda: home.statistics().queued_requests == len(others))
    gate.open.set()
    results = [future.result(30) for future in (first, *others)]
    assert gate.batches == [1, 8]
    assert [result.batch_items for result in results] == [1, 8, 8, 8, 8, 8]
    assert [result.shared_with for result in results] == [0, 6, 7, 6, 7, 6]
    for result, x in zip(results, inputs, strict=True):
        assert_affine(models, result, x)


@pytest.mark.parametrize("lane", ["predict", "explain"])
@pytest.mark.parametrize("slots", [1, 3])
def test_parallel_load_gets_what_solo_requests_get(models, make_engine, start, slots, lane):
    home, model = make_engine(slots=slots, max_batch=8), models.affine()
    inputs = [rows(1 + index % 3, index) for index in range(120)]
    solo = [make_engine().run(model, {"x": x}).outputs["y"] for x in inputs]
    futures = [start(home.run, model, {"x": x}, lane=lane) for x in inputs]
    for x, alone, future in zip(inputs, solo, futures, strict=True):
        result = future.result(30)
        np.testing.assert_allclose(result.outputs["y"], alone, rtol=0, atol=1e-6)
        assert result.batch_items == result.shared_with + len(x)
        assert result.batch_items <= 8
    assert home.statistics().items == sum(map(len, inputs))
    assert home.statistics().queued_items == 0


def test_a_run_waits_for_company_when_told_to(models, make_engine, start, until):
    home, model = make_engine(max_batch=4, max_wait_ms=20_000), models.affine()
    home.load(model)
    futures = [start(home.run, model, {"x": rows(1, index)}) for index in range(4)]
    assert [future.result(15).batch_items for future in futures] == [4, 4, 4, 4]


def test_company_is_waited_for_only_so_long(models, make_engine):
    result = make_engine(max_wait_ms=30).run(models.affine(), {"x": rows(1)})
    assert result.batch_items == 1
    assert result.queue_seconds >= 0.03


def test_a_deadline_within_the_wait_hurries_the_run(models, make_engine):
    home = make_engine(max_wait_ms=60_000)
    home.load(models.affine())
    assert home.run(models.affine(), {"x": rows(1)}, deadline=time.monotonic() + 20).batch_items == 1


def test_no_run_carries_more_than_max_batch(models, make_engine, gate, start, until):
    home, model = make_engine(max_batch=3), models.affine()
    futures = [start(home.run, model, {"x": rows(1)})]
    gate.wait_entered()
    for count in range(7):
        futures.append(start(home.run, model, {"x": rows(1)}))
        until(lambda count=count: home.statistics().queued_requests == count + 1)
    gate.open.set()
    assert [future.result(30).batch_items for future in futures] == [1, 3, 3, 3, 3, 3, 3, 1]


def test_a_request_larger_than_max_batch_goes_through_in_slices(models, make_engine, gate):
    gate.open.set()
    x, background = rows(10), rows(5, 1)
    result = make_engine(max_batch=4).run(models.centred(), {"x": x, "background": background})
    assert gate.batches == [4, 4, 2]
    assert (result.runs, result.batch_items, result.shared_with) == (3, 4, 0)
    np.testing.assert_allclose(result.outputs["mean"], background.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(result.outputs["y"], x - background.mean(axis=0), atol=1e-6)


def test_a_row_by_row_artifact_is_never_batched(models, make_engine, gate, start, until):
    home, model = make_engine(), models.affine(max_items=1)
    futures = [start(home.run, model, {"x": rows(3, 5)})]
    gate.wait_entered()
    futures += [start(home.run, model, {"x": rows(2, 5)}) for _ in range(2)]
    until(lambda: home.statistics().queued_requests == 2)
    gate.open.set()
    results = [future.result(30) for future in futures]
    assert gate.batches == [1] * 7
    assert [(result.runs, result.batch_items, result.shared_with) for result in results] == [(3, 1, 0)] + [
        (2, 1, 0)
    ] * 2
    assert_affine(models, results[0], rows(3, 5))


def test_a_graph_with_a_fixed_batch_is_run_at_that_batch(models, make_engine, gate):
    gate.open.set()
    x = rows(4)
    assert_affine(models, make_engine().run(models.affine(batch=2), {"x": x}), x)
    assert gate.batches == [2, 2]


def test_other_shared_inputs_are_another_run(models, make_engine, gate, start, until):
    home, model = make_engine(), models.centred()
    here, there = rows(4, 1), rows(4, 2)
    futures = [start(home.run, model, {"x": rows(1), "background": here})]
    gate.wait_entered()
    for background in (here, there, here.copy(), there.copy()):
        futures.append(start(home.run, model, {"x": rows(1), "background": background}))
        until(lambda: home.statistics().queued_requests == len(futures) - 1)
    gate.open.set()
    results = [future.result(30) for future in futures]
    assert [result.batch_items for result in results] == [1, 2, 2, 2, 2]
    for result, background in zip(results, (here, here, there, here, there), strict=True):
        np.testing.assert_allclose(result.outputs["mean"], background.mean(axis=0), atol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        results[1].outputs["mean"][0] = 1.0


def test_a_run_without_items_is_one_run_for_all_who_ask(models, make_engine, gate, start, until):
    home, model, background = make_engine(), models.background_mean(), rows(6)
    futures = [start(home.run, model, {"background": background})]
    gate.wait_entered()
    futures += [start(home.run, model, {"background": background}) for _ in range(3)]
    until(lambda: home.statistics().queued_requests == 3)
    gate.open.set()
    for future in futures:
        np.testing.assert_allclose(future.result(30).outputs["mean"], background.mean(axis=0), atol=1e-6)
    assert home.statistics().runs == 2


def test_predictions_go_before_explanations(models, make_engine, gate, start, until):
    home, order = make_engine(explain_share=0), []
    predicted, explained = models.affine(bias=1.0), models.affine(bias=2.0)

    def run(name, model, lane):
        home.run(model, {"x": rows(1)}, lane=lane)
        order.append(name)

    first = start(run, "first", predicted, "predict")
    gate.wait_entered()
    explaining = start(run, "explain", explained, "explain")
    until(lambda: home.statistics().queued_requests == 1)
    predicting = start(run, "predict", predicted, "predict")
    until(lambda: home.statistics().queued_requests == 2)
    gate.open.set()
    for future in (first, explaining, predicting):
        future.result(30)
    assert order.index("predict") < order.index("explain")


def test_explanations_share_runs_only_within_their_quantum(models, make_engine, start):
    home, model = make_engine(explain_quantum_ms=0), models.affine()
    futures = [start(home.run, model, {"x": rows(1, index)}, lane="explain") for index in range(20)]
    assert {future.result(30).batch_items for future in futures} == {1}


def test_a_request_at_fault_fails_alone(models, make_engine, gate, start, until):
    home, model = make_engine(), models.gather()
    good = [0, 1, 2, 4]
    futures = [start(home.run, model, {"index": np.array([3])})]
    gate.wait_entered()
    for index in (*good[:2], 77, *good[2:]):
        futures.append(start(home.run, model, {"index": np.array([index])}))
        until(lambda: home.statistics().queued_requests == len(futures) - 1)
    gate.open.set()
    poisoned = futures.pop(3)
    with pytest.raises(engine.RunFailed, match="77"):
        poisoned.result(30)
    for index, future in zip((3, *good), futures, strict=True):
        result = future.result(30)
        assert result.outputs["y"].tolist() == [[2.0 * index, 2.0 * index + 1]]
        assert result.shared_with == 0
    figures = home.statistics().artifacts[model.digest]
    assert (figures.success.count, figures.fail.count) == (5, 1)


def test_an_output_with_another_number_of_rows_is_refused(models, make_engine):
    with pytest.raises(engine.RunFailed, match=r"output 'y' came as \[1, 3\] for 2 items, expected 2 on axis 0"):
        make_engine().run(models.collapsing(), {"x": rows(2)})


def test_mixed_items_are_never_handed_out(models, make_engine, gate, start, until):
    home, model = make_engine(), models.collapsing()
    futures = [start(home.run, model, {"x": rows(1)})]
    gate.wait_entered()
    futures += [start(home.run, model, {"x": rows(1, seed)}) for seed in (1, 2)]
    until(lambda: home.statistics().queued_requests == 2)
    gate.open.set()
    for seed, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(30).outputs["y"], rows(1, seed))


def test_work_whose_deadline_has_passed_never_runs(models, make_engine):
    home = make_engine()
    with pytest.raises(engine.DeadlineExceeded):
        home.run(models.affine(), {"x": rows(1)}, deadline=time.monotonic() - 1)
    assert (home.statistics().runs, home.statistics().expired) == (0, 1)


def test_work_that_expires_in_the_queue_never_runs(models, make_engine, gate, start, until):
    home, model = make_engine(), models.affine()
    first = start(home.run, model, {"x": rows(1)})
    gate.wait_entered()
    late = start(home.run, model, {"x": rows(2)}, deadline=time.monotonic() + 0.05)
    with pytest.raises(engine.DeadlineExceeded):
        late.result(30)
    assert not first.done()
    assert home.statistics().queued_items == 0
    gate.open.set()
    first.result(30)
    assert gate.batches == [1]
    assert home.statistics().expired == 1


def test_the_queue_is_bounded_and_exactly_the_excess_is_refused(models, make_engine, gate, start, until):
    home, model = make_engine(queue_limit=3), models.affine()
    running = start(home.run, model, {"x": rows(1)})
    gate.wait_entered()
    waiting = [start(home.run, model, {"x": rows(1)}) for _ in range(3)]
    until(lambda: home.statistics().queued_items == 3)
    for _ in range(2):
        with pytest.raises(engine.QueueFull, match="3 items wait already and 1 more came, expected 3 at most"):
            home.run(model, {"x": rows(1)})
    gate.open.set()
    for future in (running, *waiting):
        future.result(30)
    assert home.statistics().rejected == 2
    home.run(model, {"x": rows(1)})


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits(models, make_engine):
    x = rows(9)
    assert_affine(models, make_engine(queue_limit=4, max_batch=4).run(models.affine(), {"x": x}), x)


def test_close_fails_what_waits_and_ends_what_runs(models, make_engine, gate, start, until):
    home, model = make_engine(), models.affine()
    running = start(home.run, model, {"x": rows(1)})
    gate.wait_entered()
    waiting = [start(home.run, model, {"x": rows(1)}) for _ in range(3)]
    until(lambda: home.statistics().queued_requests == 3)
    closing = start(home.close)
    for future in waiting:
        with pytest.raises(engine.EngineClosed):
            future.result(30)
    assert not closing.done()
    gate.open.set()
    closing.result(30)
    assert running.result(30).batch_items == 1
    with pytest.raises(engine.EngineClosed):
        home.run(model, {"x": rows(1)})


def test_close_ends_a_wait_for_company(models, make_engine, start, until):
    home = make_engine(max_wait_ms=60_000)
    home.load(models.affine())
    lonely = start(home.run, models.affine(), {"x": rows(1)})
    until(lambda: home.statistics().queued_requests == 1)
    home.close()
    with pytest.raises(engine.EngineClosed):
        lonely.result(30)


def test_an_interrupted_runner_leaves_nobody_waiting(models, make_engine, gate, start, until, monkeypatch):
    home, model = make_engine(), models.affine()
    first = start(home.run, model, {"x": rows(1)})
    gate.wait_entered()
    others = [start(home.run, model, {"x": rows(1)}) for _ in range(2)]
    until(lambda: home.statistics().queued_requests == 2)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.runs.Runner.execute", interrupted)
    gate.open.set()
    first.result(30)
    errors = [type(future.exception(30)) for future in others]
    assert sorted(error.__name__ for error in errors) == ["KeyboardInterrupt", "RunFailed"]
    monkeypatch.undo()
    assert home.run(model, {"x": rows(1)}).batch_items == 1


def test_no_threads_stay_behind(models, make_engine):
    before = threading.active_count()
    home = make_engine()
    home.run(models.affine(), {"x": rows(1)})
    home.close()
    assert threading.active_count() == before


def test_unloaded_sessions_are_made_again(models, make_engine):
    home, model = make_engine(), models.affine()
    home.load(model)
    assert home.statistics().sessions == (model.digest,)
    home.unload(model.digest)
    home.unload("unknown")
    assert home.statistics().sessions == ()
    assert_affine(models, home.run(model, {"x": rows(1)}), rows(1))


def test_info_names_the_runtime(make_engine):
    info = make_engine(threads=2).info()
    assert (info.runtime, info.providers, info.threads) == ("onnxruntime", ("CPUExecutionProvider",), 2)
    assert info.version.count(".") == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_batch", 0),
        ("queue_limit", 0),
        ("session_limit", 0),
        ("slots", 0),
        ("threads", 0),
        ("max_wait_ms", -1.0),
        ("explain_quantum_ms", float("nan")),
        ("providers", ()),
        ("providers", ("tpu",)),
    ],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(engine.InvalidSettings, match=f"^{setting}: came "):
        engine.InProcessEngine(**{setting: value})


def test_an_unknown_lane_is_named(models, make_engine):
    with pytest.raises(engine.InvalidSettings, match="lane: came 'fast'"):
        make_engine().run(models.affine(), {"x": rows(1)}, lane="fast")
