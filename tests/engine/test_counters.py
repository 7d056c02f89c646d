"""The figures add up to what was done."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest

import engine
from engine.counters import ITEMS, SECONDS, Counters, Histogram
from engine.protocol import LANES


def test_figures_add_up():
    counters = Counters(LANES)
    counters.run("a", "predict", items=3, input_ns=1, infer_ns=10, output_ns=100)
    counters.run("a", "predict", items=3, input_ns=2, infer_ns=20, output_ns=200)
    counters.run("a", "predict", items=1, input_ns=4, infer_ns=40, output_ns=400)
    counters.request("a", "predict", queue_ns=5, total_ns=50, succeeded=True)
    counters.request("a", "predict", queue_ns=6, total_ns=60, succeeded=False)
    counters.rejected("predict")
    counters.over("explain", engine.DeadlineExceeded("late"))
    now = counters.snapshot(queued={"predict": (4, 1), "explain": (3, 1)}, running=1, sessions=("a",))
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


def spread(values: list[float], bounds: tuple[float, ...]) -> Histogram:
    """The histogram of some values by its definition: each is counted at the first bound that it does not exceed."""
    edges = [-np.inf, *bounds, np.inf]
    counts = tuple(sum(low < value <= high for value in values) for low, high in pairwise(edges))
    return Histogram(bounds, counts, sum(values))


def test_lanes_have_figures_of_their_own():
    counters = Counters(LANES)
    items, waits = [1, 2, 3, 5000], [0, 100_000, 100_001, 60_000_000_000]
    for number, wait in zip(items, waits, strict=True):
        counters.run("a", "predict", items=number, input_ns=1, infer_ns=1000 * number, output_ns=1)
        counters.request("a", "predict", queue_ns=wait, total_ns=wait, succeeded=True)
    counters.over("explain", engine.Cancelled("off"))
    now = counters.snapshot(queued={"predict": (4, 1)}, running=0, sessions=())
    predict, explain = now.lanes["predict"], now.lanes["explain"]
    assert predict.batch_items == spread(items, ITEMS)
    assert predict.queue_seconds == spread([wait / 1e9 for wait in waits], SECONDS)
    assert predict.run_seconds == spread([number / 1e6 for number in items], SECONDS)
    assert (predict.queued_items, predict.queued_requests, predict.cancelled) == (4, 1, 0)
    assert (explain.queued_items, explain.cancelled, sum(explain.batch_items.counts)) == (0, 1, 0)


def test_a_value_in_the_wrong_bucket_is_noticed():
    assert spread([1.0], (1.0, 2.0)).counts == (1, 0, 0)
    assert spread([1.5], (1.0, 2.0)).counts == (0, 1, 0)
    assert spread([2.5], (1.0, 2.0)).counts == (0, 0, 1)


def test_a_snapshot_does_not_change_afterwards():
    counters = Counters(LANES)
    counters.run("a", "predict", items=1, input_ns=1, infer_ns=1, output_ns=1)
    before = counters.snapshot(queued={}, running=0, sessions=())
    counters.run("a", "predict", items=1, input_ns=1, infer_ns=1, output_ns=1)
    assert before.artifacts["a"].execution_count == 1


def test_only_recent_digests_are_remembered():
    counters = Counters(LANES, remembered=2)
    for digest in ("a", "b", "a", "c"):
        counters.run(digest, "explain", items=1, input_ns=0, infer_ns=0, output_ns=0)
    now = counters.snapshot(queued={}, running=0, sessions=())
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
    home.run(model, {"x": np.ones((3, 3), np.float32)}, lane="explain")
    lanes = home.statistics().lanes
    assert lanes["predict"].batch_items == spread([4, 2], ITEMS)
    assert lanes["explain"].batch_items == spread([3], ITEMS)
    assert [sum(lanes[lane].queue_seconds.counts) for lane in LANES] == [1, 1]
    assert list(home.statistics().processes) == [str(os.getpid())]
