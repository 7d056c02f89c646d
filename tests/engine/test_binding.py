"""Arrays through buffers that are kept: equal to the bit to what the session itself answers, and nobody's but the
caller's. The mechanism is the same on a processor, so it is tested there."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as core

import engine
from engine import binding
from engine.binding import Binding, HostArray
from engine.providers import Device
from engine.sessions import Runtime

RNG = np.random.default_rng(7)
SAME = [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL, TensorProto.UINT8]
SAME += [TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT64]


@pytest.fixture
def raw(models) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(models.affine().serialize(), providers=["CPUExecutionProvider"])


def rows(count: int) -> dict[str, np.ndarray]:
    return {"x": RNG.normal(size=(count, 3)).astype(np.float32)}


def equal(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


def test_the_comparison_can_fail():
    one = np.array([1.0], np.float32)
    for other in (one + 1e-7, one.astype(np.float64), one[None]):
        with pytest.raises(AssertionError):
            equal([one], [other])
    with pytest.raises(ValueError, match="shorter"):
        equal([one], [])


def test_answers_are_equal_to_the_bit_and_share_no_memory(raw):
    way, kept = Binding(raw, Device()), []
    for count in (1, 4, 4, 2, 4, 1):
        feeds = rows(count)
        (expected,) = raw.run(["y"], feeds)
        (found,) = way.run(["y"], feeds, onnxruntime.RunOptions())
        kept.append((found, expected.copy(), feeds["x"], feeds["x"].copy()))
    for found, expected, x, before in kept:
        equal([found, x], [expected, before])
        assert not any(np.shares_memory(found, other) for other, *_ in kept if other is not found)


@pytest.mark.parametrize("kind", SAME)
def test_an_output_that_is_an_input_is_a_copy_of_it(kind, build_model, models):
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    model = build_model(nodes, {"x": (kind, ["N", 2])}, {"y": (kind, ["N", 2])}, {})
    session = Runtime(("cpu",), 1, io_binding="on").open(models.stored(model, {"x": "item"}, {"y": "item"}))
    first, second = (np.array(values).astype(dtype) for values in ([[1, 0]], [[0, 1]]))
    (one,) = session.run(["y"], {"x": first})
    (two,) = session.run(["y"], {"x": second})
    equal([one, two], [first, second])


def test_arrays_that_lie_in_another_order_are_taken_as_they_are(raw):
    x = np.asfortranarray(RNG.normal(size=(4, 6)).astype(np.float32))[:, ::2]
    equal(Binding(raw, Device()).run(["y"], {"x": x}, onnxruntime.RunOptions()), raw.run(["y"], {"x": x}))


def test_buffers_are_kept_for_each_shape_and_as_many_as_runs_at_a_time(raw, monkeypatch):
    made, original = [], binding._Buffers
    monkeypatch.setattr(binding, "_Buffers", lambda *given: made.append(1) or original(*given))
    way = Binding(raw, Device())
    for count in (1, 2, 1, 2, 2, 1):
        way.run(["y"], rows(count), onnxruntime.RunOptions())
    assert (len(made), way.kept_bytes) == (2, 12 + 24)


def test_what_is_kept_is_bounded_and_the_latest_stays(raw, monkeypatch):
    monkeypatch.setattr(binding, "KEPT_BYTES", 100)
    way = Binding(raw, Device())
    for count in (1, 2, 3, 4, 1, 9):  # 12 bytes a row; 9 rows are more than may be kept
        way.run(["y"], rows(count), onnxruntime.RunOptions())
        assert way.kept_bytes <= 100
    assert [shapes[0][1] for shapes in way._kept] == [(3, 3), (4, 3), (1, 3)]


def test_a_run_that_fails_keeps_nothing_and_harms_nobody(models):
    session = onnxruntime.InferenceSession(models.gather().serialize(), providers=["CPUExecutionProvider"])
    way, good, bad = Binding(session, Device()), {"index": np.array([3])}, {"index": np.array([77])}
    expected = session.run(["y"], good)
    equal(way.run(["y"], good, onnxruntime.RunOptions()), expected)
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    with pytest.raises(Exception, match="77"):
        way.run(["y"], bad, options)
    assert way.kept_bytes == 0
    equal(way.run(["y"], good, onnxruntime.RunOptions()), expected)


def test_many_threads_get_their_own_answers(models, make_engine):
    home, model = make_engine(io_binding="on", shape_buckets="on", slots=4, at_once_us=1e9), models.affine()

    def ask(index: int) -> None:
        draw = np.random.default_rng(index)
        for _ in range(20):
            x = draw.normal(size=(draw.integers(1, 9), 3)).astype(np.float32)
            np.testing.assert_allclose(home.run(model, {"x": x}).outputs["y"], models.affine_formula(x), atol=1e-6)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


def test_text_and_arrays_without_elements_take_the_ordinary_way(models, make_engine):
    home = make_engine(io_binding="on")
    words = np.array([["to"], ["be"]], dtype=object)
    assert home.run(models.words(), {"text": words}).outputs["y"].tolist() == words.tolist()
    background, x = np.zeros((0, 3), np.float32), np.ones((2, 3), np.float32)
    feeds = {"x": x, "background": background}
    equal([home.run(models.centred(), feeds).outputs["y"]], [make_engine().run(models.centred(), feeds).outputs["y"]])


def test_shared_inputs_and_outputs_pass_through(models, make_engine):
    x, background = (RNG.normal(size=(count, 3)).astype(np.float32) for count in (2, 5))
    found, plain = (
        make_engine(io_binding=setting).run(models.centred(), {"x": x, "background": background}).outputs
        for setting in ("on", "off")
    )
    equal([found["y"], found["mean"]], [plain["y"], plain["mean"]])


def test_a_bound_run_is_stopped_at_its_deadline(models, make_engine):
    home, model = make_engine(io_binding="on"), models.long()
    home.load(model)
    x = np.ones((4, 1, 256), np.float32)
    with pytest.raises(engine.DeadlineExceeded, match="while it ran"):
        home.run(model, {"x": x}, deadline=time.monotonic() + 0.2)


def test_memory_that_runs_out_in_a_bound_run_is_gone_round(models, make_engine, monkeypatch):
    """A device that has memory for 4 items: the sizes go down to it, and each time the session is made anew."""
    seen, original, lock = [], binding._Buffers.run, threading.Lock()

    def run(self: Any, outputs: Any, feeds: Any, options: Any) -> Any:
        with lock:
            seen.append(len(feeds["x"]))
        if seen[-1] > 4:
            raise RuntimeError("CUDA failure 2: out of memory")
        return original(self, outputs, feeds, options)

    monkeypatch.setattr(binding._Buffers, "run", run)
    monkeypatch.setattr("engine.sessions.Session.on_processor", False)
    home, opened = make_engine(io_binding="on", shape_buckets="on"), []
    make = home._runtime.open
    monkeypatch.setattr(home._sessions, "_make", lambda artifact: opened.append(1) or make(artifact))
    x = RNG.normal(size=(11, 3)).astype(np.float32)
    found = home.run(models.affine(), {"x": x})
    np.testing.assert_allclose(found.outputs["y"], models.affine_formula(x), atol=1e-6)
    assert seen == [16, 8, 4, 4, 4]
    assert len(opened) == 3
    assert (found.batch_items, found.runs) == (4, 3)


def test_without_page_locked_memory_ordinary_memory_is_used_and_said_once(raw, caplog):
    """The runtime here has no allocator for a GPU."""
    binding._say_pageable.cache_clear()
    for _ in range(2):
        page_locked, allocate = binding.host_memory(raw, Device("cuda"))
        assert not page_locked
        assert allocate((2,), np.dtype(np.int64)).shape() == [2]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("inputs of the GPU are not page-locked: No session allocator found")


def test_page_locked_memory_is_asked_of_the_allocator_of_the_session(raw, monkeypatch):
    """The one of a GPU is not here; that of the processor answers in its place."""
    asked: list[tuple[int, ...]] = []
    original = core.OrtDevice

    class Asked(original):  # type: ignore[misc, valid-type]
        def __new__(cls, *place: int) -> Any:
            asked.append(place)
            return original(original.cpu(), 0, 0, 0)

    with monkeypatch.context() as patch:
        patch.setattr(core, "OrtDevice", Asked)
        page_locked, allocate = binding.host_memory(raw, Device("cuda", 3))
        held = HostArray(allocate((2, 3), np.dtype(np.float32)), (2, 3), np.dtype(np.float32))
    assert page_locked
    assert set(asked) == {(1, 5, 0x10DE, 3)}  # GPU, host accessible, NVIDIA, its number
    held.array[:] = RNG.normal(size=(2, 3))
    expected = held.array.copy()
    assert held.value.numpy().tobytes() == expected.tobytes()
    with monkeypatch.context() as patch:
        patch.setattr(core, "OrtDevice", Asked)
        buffers = binding._Buffers(raw, Device(), allocate, {"x": expected})
    equal(buffers.run(["y"], {"x": expected}, onnxruntime.RunOptions()), raw.run(["y"], {"x": expected}))
