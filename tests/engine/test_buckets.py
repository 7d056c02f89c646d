"""Runs of fixed sizes: which sizes, what is filled up, and that nobody can tell from the answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine
import explain
from engine import buckets
from engine.errors import OutOfMemory
from engine.sessions import Session

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(("most", "expected"), [(1, (1,)), (2, (1, 2)), (32, (1, 2, 4, 8, 16, 32)), (6, (1, 2, 4, 6))])
def test_the_sizes_are_powers_of_two_and_the_most_there_may_be(most, expected):
    assert buckets.sizes(most) == expected


@pytest.mark.parametrize("most", [1, 2, 3, 7, 8, 48, 64])
def test_items_fill_up_to_the_next_size_and_memory_runs_out_downwards(most):
    powers = [2**power for power in range(7)]
    for items in range(1, most + 1):
        fitting = min([size for size in powers if items <= size <= most] + [most])
        smaller = [size for size in powers if size < fitting]
        assert buckets.fit(items, most) == fitting
        assert buckets.below(items, most) == (max(smaller) if smaller else None)
    assert buckets.fit(most + 1, most) == most + 1


def test_only_items_are_repeated_and_only_along_axis_0():
    feeds = {"x": np.arange(12.0).reshape(2, 3, 2), "shared": np.arange(4.0)}
    more = buckets.repeated({"x": "item", "shared": "shared"}, feeds, 3)
    assert more["shared"] is feeds["shared"]
    assert more["x"].tolist() == [feeds["x"][1].tolist()] * 3


class Sizes:
    """The number of items of every run that reached the runtime; runs of more than `most` are out of memory."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.most = 1 << 30


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Sizes:
    seen, original = Sizes(), Session.run

    def run(self: Session, outputs: Any, feeds: Any, stop: Any = None) -> Any:
        items = len(next(iter(feeds.values())))
        seen.runs.append(items)
        if items > seen.most:
            raise OutOfMemory(f"no memory for {items}")
        return original(self, outputs, feeds, stop)

    monkeypatch.setattr(Session, "run", run)
    return seen


def close(one: engine.RunResult, other: engine.RunResult) -> None:
    assert set(one.outputs) == set(other.outputs)
    for name, array in one.outputs.items():
        assert array.shape == other.outputs[name].shape
        np.testing.assert_allclose(array, other.outputs[name], rtol=1e-6, atol=1e-6)


def test_the_comparison_can_fail():
    one, longer, other = (engine.RunResult({"y": np.array(y)}, 0, 1, 0, 0) for y in ([1.0], [1.0, 1.0], [1.1]))
    for wrong in (longer, other):
        with pytest.raises(AssertionError):
            close(one, wrong)


@pytest.mark.parametrize("items", [1, 2, 3, 5, 8, 11, 12, 29])
@pytest.mark.parametrize("at_once_us", [0, 1e9])
def test_answers_are_those_of_runs_that_are_not_filled_up(models, make_engine, sizes, items, at_once_us):
    x = RNG.normal(size=(items, 3)).astype(np.float32)
    plain = make_engine(max_batch=12).run(models.affine(), {"x": x})
    home = make_engine(max_batch=12, shape_buckets="on", at_once_us=at_once_us, at_once_items=64)
    sizes.runs.clear()
    for _ in range(2):  # the second time it is known how short the run is
        found = home.run(models.affine(), {"x": x})
        close(found, plain)
        np.testing.assert_allclose(found.outputs["y"], models.affine_formula(x), atol=1e-6)
        assert (found.batch_items, found.shared_with) == (min(items, 12), 0)
    expected = [12] * (items // 12) + ([buckets.fit(items % 12, 12)] if items % 12 else [])
    assert sizes.runs == expected * 2
    statistics = home.statistics()
    assert statistics.items == 2 * items
    assert set(statistics.artifacts[models.affine().digest].batches) == {min(items, 12)} | ({items % 12} - {0})


def test_a_shared_run_is_filled_up_once(models, make_engine, gate, start, until):
    home = make_engine(shape_buckets="on")
    rows = [RNG.normal(size=(count, 3)).astype(np.float32) for count in (1, 2, 3)]
    first = start(home.run, models.affine(), {"x": rows[0]})
    gate.wait_entered()
    others = []
    for row in rows[1:]:
        others.append(start(home.run, models.affine(), {"x": row}))
        until(lambda: home.statistics().queued_requests == len(others))
    gate.open.set()
    for row, future in zip(rows, [first, *others], strict=True):
        np.testing.assert_allclose(future.result(30).outputs["y"], models.affine_formula(row), atol=1e-6)
    assert gate.batches == [1, 8]
    assert {future.result().batch_items for future in others} == {5}


def test_programs_keep_their_evaluations(models, make_engine, sizes):
    """The inputs of items have K evaluations on axis 1, a background is shared."""
    model = explain.Model(models.affine().serialize())
    x, background = (RNG.normal(size=(rows, 3)).astype(np.float32) for rows in (3, 4))
    found = {}
    for setting in ("on", "off"):
        home = make_engine(shape_buckets=setting)
        run = lambda program, feeds, home=home: home.run(program, feeds, lane="explain").outputs  # noqa: E731
        asked: dict[str, Any] = {"run": run, "target": 1, "seed": 3}
        found[setting] = [
            explain.attribute(model, {"x": x}, method="integrated_gradients", baseline={"x": 0 * x[:1]}, **asked),
            explain.attribute(model, {"x": x}, method="kernel_shap", background={"x": background}, **asked),
            explain.attribute(model, {"x": x}, method="deep_shap", background={"x": background}, **asked),
        ]
    assert 4 in sizes.runs
    for one, other in zip(found["on"], found["off"], strict=True):
        np.testing.assert_allclose(one.values["x"], other.values["x"], rtol=1e-6, atol=1e-6)


def test_what_cannot_be_filled_up_is_not(models, make_engine, sizes):
    home = make_engine(shape_buckets="on", max_batch=16)
    x = RNG.normal(size=(6, 3)).astype(np.float32)
    np.testing.assert_allclose(
        home.run(models.affine(batch=2), {"x": x}).outputs["y"], models.affine_formula(x), atol=1e-6
    )
    np.testing.assert_allclose(
        home.run(models.affine(max_items=1), {"x": x}).outputs["y"], models.affine_formula(x), atol=1e-6
    )
    assert sizes.runs == [2, 2, 2] + [1] * 6
    home.run(models.background_mean(), {"background": x})
    assert sizes.runs[-1] == 6
    shared = home.run(models.centred(), {"x": x[:3], "background": x})
    assert shared.outputs["y"].shape == (3, 3)
    assert sizes.runs[-1] == 4


def test_an_artifact_that_takes_few_items_fills_up_to_those(models, make_engine, sizes):
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    home = make_engine(shape_buckets="on", max_batch=64)
    close(home.run(models.affine(max_items=6), {"x": x}), make_engine().run(models.affine(), {"x": x}))
    assert sizes.runs[0] == 6


def test_a_graph_that_mixes_its_items_is_found_out_all_the_same(models, make_engine):
    with pytest.raises(engine.RunFailed, match="expected 4 on axis 0"):
        make_engine(shape_buckets="on").run(models.collapsing(), {"x": np.ones((3, 3), np.float32)})


@pytest.mark.parametrize(
    ("most", "runs"), [(31, [32, 16, 4]), (15, [32, 16, 8, 8, 4]), (1, [32, 16, 8, 4, 2] + [1] * 20)]
)
def test_where_memory_runs_out_the_next_smaller_size_is_tried(models, make_engine, sizes, most, runs):
    """Never the same size again, although fewer items would fill up to it."""
    sizes.most = most
    x = RNG.normal(size=(20, 3)).astype(np.float32)
    found = make_engine(shape_buckets="on").run(models.affine(), {"x": x})
    np.testing.assert_allclose(found.outputs["y"], models.affine_formula(x), atol=1e-6)
    assert sizes.runs == runs
    sizes.most = 0
    with pytest.raises(engine.RunFailed, match="no memory for the outputs of 20 items, 1 at a time"):
        make_engine(shape_buckets="on").run(models.affine(), {"x": x})


def test_a_processor_fills_nothing_up_unless_told(models, make_engine, sizes):
    make_engine().run(models.affine(), {"x": np.ones((3, 3), np.float32)})
    assert sizes.runs == [3]


def test_another_word_is_refused():
    with pytest.raises(engine.InvalidSettings, match="shape_buckets: came 'yes', expected one of auto, on, off"):
        engine.EngineSettings(shape_buckets="yes")
