"""What only a card can show: page-locked memory, recordings, memory of the device that runs out, exact products."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import engine
import explain
from engine.binding import Binding
from engine.graphs import Graphs
from engine.providers import PROVIDERS, Device, options_of, out_of_order

CUDA = PROVIDERS["cuda"]
RNG = np.random.default_rng(13)
Make = Callable[..., engine.InProcessEngine]


def no_card() -> str:
    """Why there is none; empty where there is."""
    if CUDA not in onnxruntime.get_available_providers():
        return "ONNX Runtime has no CUDA provider"
    onnxruntime.preload_dlls()
    return out_of_order(CUDA, options_of(CUDA, Device("cuda")))


@pytest.fixture
def on_gpu() -> Iterator[Make]:
    """Engines on the first GPU."""
    missing = no_card()
    if missing:
        pytest.skip(f"GPU: {missing}")
    made: list[engine.InProcessEngine] = []

    def make(**settings: Any) -> engine.InProcessEngine:
        made.append(engine.InProcessEngine(providers=("cuda",), at_once_us=0, predict_quantum_ms=1e9, **settings))
        return made[-1]

    yield make
    for home in made:
        home.close()


def wide(models: Any, build: Any, size: int = 1024) -> tuple[engine.StoredModel, np.ndarray]:
    """y = x @ w, and w."""
    weight = RNG.normal(size=(size, size)).astype(np.float32) / np.sqrt(size).astype(np.float32)
    ends = {name: (TensorProto.FLOAT, ["N", size]) for name in "xy"}
    payload = build([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ends["x"]}, {"y": ends["y"]}, {"w": weight})
    return models.stored(payload, {"x": "item"}, {"y": "item"}), weight


@pytest.mark.parametrize("settings", [{}, {"io_binding": "off"}, {"shape_buckets": "off"}, {"cuda_graphs": True}])
def test_answers_are_those_of_the_formula(on_gpu, models, settings):
    home = on_gpu(**settings)
    assert home.info().providers[0] == CUDA
    for count in (1, 3, 3, 8, 40, 3, 1):
        x = RNG.normal(size=(count, 3)).astype(np.float32)
        np.testing.assert_allclose(
            home.run(models.affine(), {"x": x}).outputs["y"], models.affine_formula(x), atol=1e-5
        )


def test_bound_runs_are_page_locked_and_equal_to_the_bit(on_gpu, models):
    session = on_gpu(io_binding="off")._runtime.open(models.affine())
    raw = session._run.__self__
    way = Binding(raw, Device("cuda"))
    assert way.page_locked
    for count in (1, 4, 4):
        x = RNG.normal(size=(count, 3)).astype(np.float32)
        (found,) = way.run(["y"], {"x": x}, onnxruntime.RunOptions())
        assert found.tobytes() == raw.run(["y"], {"x": x})[0].tobytes()


def test_recordings_are_made_replayed_and_equal_to_the_bit(on_gpu, models, caplog):
    plain, home = on_gpu(), on_gpu(cuda_graphs=True)
    with caplog.at_level(logging.WARNING, "glasshouse.engine"):
        for count in (1, 3, 5, 3, 1, 5, 4):
            x = RNG.normal(size=(count, 3)).astype(np.float32)
            found, expected = (each.run(models.affine(), {"x": x}).outputs["y"] for each in (home, plain))
            assert found.tobytes() == expected.tobytes()
    assert not caplog.records
    way = home._sessions.get(models.affine())._run.__self__._way
    assert isinstance(way, Graphs)
    assert {items for _, items in way._recorded} == {1, 4, 8}


def test_products_are_exact_unless_tf32_is_allowed(on_gpu, models, build_model):
    model, weight = wide(models, build_model)
    x = RNG.normal(size=(256, 1024)).astype(np.float32)
    expected = x.astype(np.float64) @ weight.astype(np.float64)
    errors = [
        np.abs(on_gpu(tf32=tf32, max_batch=256).run(model, {"x": x}).outputs["y"] - expected).max()
        for tf32 in (False, True)
    ]
    assert errors[0] < 1e-5
    assert errors[0] <= errors[1]


def test_memory_that_runs_out_is_gone_round(on_gpu, models, build_model):
    """64 MiB of the device, and a run that would need more than that for its rows alone."""
    model, weight = wide(models, build_model)
    x = RNG.normal(size=(16384, 1024)).astype(np.float32)
    home = on_gpu(arena_mib=64, max_batch=16384, queue_limit=1 << 20)
    found = home.run(model, {"x": x})
    assert found.runs > 1
    np.testing.assert_allclose(found.outputs["y"][::997], x[::997] @ weight, atol=1e-4)


def test_a_run_is_stopped_at_its_deadline(on_gpu, models):
    home, model = on_gpu(), models.long(size=1024)
    home.load(model)
    x = np.ones((32, 1, 1024), np.float32)
    with pytest.raises(engine.DeadlineExceeded):
        home.run(model, {"x": x}, deadline=time.monotonic() + 0.05)


def test_explanations_are_those_of_the_processor(on_gpu, models, make_engine):
    model = explain.Model(models.affine().serialize())
    x = RNG.normal(size=(3, 3)).astype(np.float32)
    found = []
    for home in (on_gpu(), on_gpu(cuda_graphs=True), make_engine()):
        run = lambda program, feeds, home=home: home.run(program, feeds, lane="explain").outputs  # noqa: E731
        given = {"method": "integrated_gradients", "baseline": {"x": 0 * x[:1]}, "target": 1, "run": run}
        found.append(explain.attribute(model, {"x": x}, **given).values["x"])
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=1e-4, atol=1e-6)
