"""The figures add up to what was done."""

from __future__ import annotations

import numpy as np
import pytest

import engine
from engine.counters import Counters


def test_figures_add_up():
    counters = Counters()
    counters.run("a", items=3, input_ns=1, infer_ns=10, output_ns=100)
    counters.run("a", items=3, input_ns=2, infer_ns=20, output_ns=200)
    counters.run("a", items=1, input_ns=4, infer_ns=40, output_ns=400)
    counters.request("a", queue_ns=5, total_ns=50, succeeded=True)
    counters.request("a", queue_ns=6, total_ns=60, succeeded=False)
    counters.rejected()
    counters.expired()
    now = counters.snapshot(queued_items=7, queued_requests=2, running=1, sessions=("a",))
    assert (now.items, now.runs, now.rejected, now.expired) == (7, 3, 1, 1)
    assert (now.queued_items, now.queued_requests, now.running, now.sessions) == (7, 2, 1, ("a",))
    figures = now.artifacts["a"]
    assert (figures.inference_count, figures.execution_count) == (7, 3)
    assert figures.compute_input == engine.Duration(3, 7)
    assert figures.compute_infer == engine.Duration(3, 70)
    assert figures.compute_output == engine.Duration(3, 700)
    assert figures.queue == engine.Duration(2, 11)
    assert (figures.success, figures.fail) == (engine.Duration(1, 50), engine.Duration(1, 60))
    assert list(figures.batches) == [1, 3]
    assert figures.batches[3].compute_infer == engine.Duration(2, 30)


def test_a_snapshot_does_not_change_afterwards():
    counters = Counters()
    counters.run("a", items=1, input_ns=1, infer_ns=1, output_ns=1)
    before = counters.snapshot(queued_items=0, queued_requests=0, running=0, sessions=())
    counters.run("a", items=1, input_ns=1, infer_ns=1, output_ns=1)
    assert before.artifacts["a"].execution_count == 1


def test_only_recent_digests_are_remembered():
    counters = Counters(remembered=2)
    for digest in ("a", "b", "a", "c"):
        counters.run(digest, items=1, input_ns=0, infer_ns=0, output_ns=0)
    now = counters.snapshot(queued_items=0, queued_requests=0, running=0, sessions=())
    assert sorted(now.artifacts) == ["a", "c"]
    assert now.runs == 4


def test_the_engine_counts_what_it_does(models, make_engine):
    home, model = make_engine(max_batch=4), models.affine()
    home.run(model, {"x": np.ones((6, 3), np.float32)})
    with pytest.raises(engine.InvalidFeeds):
        home.run(model, {"x": np.ones((6, 4), np.float32)})
    now = home.statistics()
    figures = now.artifacts[model.digest]
    assert (now.items, now.runs, now.running, now.queued_items) == (6, 2, 0, 0)
    assert {items: batch.compute_infer.count for items, batch in figures.batches.items()} == {2: 1, 4: 1}
    assert (figures.success.count, figures.queue.count, figures.fail.count) == (1, 1, 0)
    assert figures.success.ns >= figures.compute_infer.ns > 0
