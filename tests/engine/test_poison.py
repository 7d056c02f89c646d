"""One item of 32 in a run goes wrong, in every way an item can: it fails alone, the others get what they get alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import engine
from engine.feeds import join

ITEMS, PLACE = 32, 13
SETTINGS: dict[str, Any] = {"max_batch": ITEMS, "predict_quantum_ms": 1e9, "explain_quantum_ms": 1e9}
HUGE = 2**50  # numbers: more than any machine addresses


def hungry(models: Any, build: Any) -> engine.StoredModel:
    """y = x + 0 · the sum of as many zeros as the largest x says"""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Reshape", ["most", "one"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("Cast", ["nothing"], ["none"], to=TensorProto.INT64),
        helper.make_node("Add", ["x", "none"], ["y"]),
    ]
    ends = {name: (TensorProto.INT64, ["N"]) for name in "xy"}
    payload = build(nodes, {"x": ends["x"]}, {"y": ends["y"]}, {"one": np.array([1], dtype=np.int64)})
    return models.stored(payload, {"x": "item"}, {"y": "item"})


def in_company(
    home: engine.Engine, model: engine.Artifact, name: str, rows: list[Any], gate: Any, until: Any, lane: Any
):
    """What each gets of one run of them all; errors as they are. A run before them is held until all of them wait."""
    with ThreadPoolExecutor(len(rows) + 1) as pool:
        first = pool.submit(home.run, model, {name: rows[0]}, lane=lane)
        gate.wait_entered()
        futures = []
        for row in rows:
            futures.append(pool.submit(home.run, model, {name: row}, lane=lane))
            until(lambda: home.statistics().queued_requests == len(futures))
        gate.open.set()
        first.result(60)
        return [future.exception(60) or future.result(60) for future in futures]


def check(alone: list[Any], together: list[Any]) -> None:
    """The others are equal to what they got alone."""
    for place, (one, other) in enumerate(zip(alone, together, strict=True)):
        if place != PLACE:
            assert isinstance(other, engine.RunResult), other
            np.testing.assert_allclose(other.outputs["y"], one.outputs["y"], rtol=0, atol=1e-6)


def test_the_check_can_fail():
    one, other = (engine.RunResult({"y": np.array([value])}, 0, 1, 0.0, 0.0) for value in (1.0, 1.1))
    with pytest.raises(AssertionError):
        check([one], [other])
    with pytest.raises(AssertionError):
        check([one], [engine.RunFailed("the wrong one")])


@pytest.mark.parametrize("lane", ["predict", "explain"])
@pytest.mark.parametrize("poison", ["raises", "no number", "no memory"])
def test_one_of_32_goes_wrong_alone(models, build_model, make_engine, gate, until, poison, lane):
    draw = np.random.default_rng(3)
    if poison == "raises":
        model, name, bad = models.gather(), "index", np.array([77])
        rows = [draw.integers(0, 5, size=1) for _ in range(ITEMS)]
    elif poison == "no number":
        model, name, bad = models.affine(), "x", np.full((1, 3), np.nan, dtype=np.float32)
        rows = [draw.normal(size=(1, 3)).astype(np.float32) for _ in range(ITEMS)]
    else:
        model, name, bad = hungry(models, build_model), "x", np.array([HUGE])
        rows = [draw.integers(1, 9, size=1) for _ in range(ITEMS)]
    gate.open.set()
    alone = [make_engine(**SETTINGS).run(model, {name: row}) for row in rows]
    gate.open.clear()
    gate.batches.clear()
    while gate.entered.acquire(blocking=False):
        pass
    home = make_engine(**SETTINGS)
    together = in_company(home, model, name, [*rows[:PLACE], bad, *rows[PLACE + 1 :]], gate, until, lane)
    assert gate.batches[:2] == [1, ITEMS]
    check(alone, together)
    if poison == "no number":
        assert np.isnan(together[PLACE].outputs["y"]).all()
        assert gate.batches == [1, ITEMS]
    else:
        assert isinstance(together[PLACE], engine.RunFailed)
        assert ("no memory" in str(together[PLACE])) == (poison == "no memory")
    assert home.run(model, {name: rows[0]}, lane=lane).batch_items == 1


@pytest.mark.parametrize("lane", ["predict", "explain"])
def test_where_joining_takes_too_much_memory_all_are_answered_one_by_one(
    models, make_engine, gate, until, lane, monkeypatch
):
    """The batch is at fault and none of its items: nobody fails."""
    model, draw = models.affine(), np.random.default_rng(4)
    rows = [draw.normal(size=(1, 3)).astype(np.float32) for _ in range(ITEMS)]
    gate.open.set()
    alone = [make_engine(**SETTINGS).run(model, {"x": row}) for row in rows]
    gate.open.clear()
    while gate.entered.acquire(blocking=False):
        pass

    def joined(inputs, feeds):
        if len(feeds) > 1:
            raise MemoryError
        return join(inputs, feeds)

    monkeypatch.setattr("engine.runs.join", joined)
    together = in_company(make_engine(**SETTINGS), model, "x", rows, gate, until, lane)
    assert [type(found) for found in together] == [engine.RunResult] * ITEMS
    check(alone, together)
