"""Tiny models with a formula each, a way to hold a run still, and a way to see what waits."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import engine
from engine.sessions import Session

WEIGHT = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]], dtype=np.float32)
TABLE = np.arange(10, dtype=np.float32).reshape(5, 2)


def build(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], constants: dict[str, Any]) -> bytes:
    """The bytes of a model; inputs and outputs as name -> (element type, shape)."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, *declared) for name, declared in inputs.items()],
        [helper.make_tensor_value_info(name, *declared) for name, declared in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


class Models:
    """The models of these tests; each is documented by its formula."""

    @staticmethod
    def stored(payload: bytes, inputs: dict[str, Any], outputs: dict[str, Any], **more: Any) -> engine.StoredModel:
        return engine.StoredModel(hashlib.sha256(payload).hexdigest(), inputs, outputs, lambda: payload, **more)

    @staticmethod
    def affine(bias: float = 0.0, batch: int | str = "N", **more: Any) -> engine.StoredModel:
        """y = tanh(x @ WEIGHT) + bias"""
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Tanh", ["h"], ["t"]),
            helper.make_node("Add", ["t", "b"], ["y"]),
        ]
        payload = build(
            nodes,
            {"x": (TensorProto.FLOAT, [batch, 3])},
            {"y": (TensorProto.FLOAT, [batch, 2])},
            {"w": WEIGHT, "b": np.array(bias, dtype=np.float32)},
        )
        return Models.stored(payload, {"x": "item"}, {"y": "item"}, **more)

    @staticmethod
    def affine_formula(x: np.ndarray, bias: float = 0.0) -> np.ndarray:
        return np.tanh(x.astype(np.float64) @ WEIGHT.astype(np.float64)) + bias

    @staticmethod
    def gather(**more: Any) -> engine.StoredModel:
        """y = TABLE[index], which fails for an index outside 0..4"""
        payload = build(
            [helper.make_node("Gather", ["t", "index"], ["y"])],
            {"index": (TensorProto.INT64, ["N"])},
            {"y": (TensorProto.FLOAT, ["N", 2])},
            {"t": TABLE},
        )
        return Models.stored(payload, {"index": "item"}, {"y": "item"}, **more)

    @staticmethod
    def centred(**more: Any) -> engine.StoredModel:
        """mean = mean of the background's rows; y = x - mean"""
        nodes = [
            helper.make_node("ReduceMean", ["background", "axes"], ["mean"], keepdims=0),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ]
        payload = build(
            nodes,
            {"x": (TensorProto.FLOAT, ["N", 3]), "background": (TensorProto.FLOAT, ["B", 3])},
            {"y": (TensorProto.FLOAT, ["N", 3]), "mean": (TensorProto.FLOAT, [3])},
            {"axes": np.array([0], dtype=np.int64)},
        )
        inputs = {"x": "item", "background": "shared"}
        return Models.stored(payload, inputs, {"y": "item", "mean": "shared"}, **more)

    @staticmethod
    def background_mean() -> engine.StoredModel:
        """mean = mean of the background's rows; no item anywhere"""
        payload = build(
            [helper.make_node("ReduceMean", ["background", "axes"], ["mean"], keepdims=0)],
            {"background": (TensorProto.FLOAT, ["B", 3])},
            {"mean": (TensorProto.FLOAT, [3])},
            {"axes": np.array([0], dtype=np.int64)},
        )
        return Models.stored(payload, {"background": "shared"}, {"mean": "shared"})

    @staticmethod
    def collapsing() -> engine.StoredModel:
        """y = one row, the sum of all: a graph that mixes its items, declared as if it did not"""
        payload = build(
            [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)],
            {"x": (TensorProto.FLOAT, ["N", 3])},
            {"y": (TensorProto.FLOAT, ["M", 3])},
            {"axes": np.array([0], dtype=np.int64)},
        )
        return Models.stored(payload, {"x": "item"}, {"y": "item"})

    @staticmethod
    def long(nodes: int = 4000, size: int = 256) -> engine.StoredModel:
        """y = x, after as many products with the identity as take seconds"""
        names = [f"h{index}" for index in range(nodes)]
        chain = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in zip(["big", *names[:-1]], names, strict=True)]
        nodes_ = [helper.make_node("MatMul", ["lift", "x"], ["big"]), *chain]
        nodes_.append(helper.make_node("MatMul", ["down", names[-1]], ["y"]))
        lift, down = np.ones((1, size, 1), np.float32), np.full((1, 1, size), 1 / size, np.float32)
        payload = build(
            nodes_,
            {"x": (TensorProto.FLOAT, ["N", 1, size])},
            {"y": (TensorProto.FLOAT, ["N", 1, size])},
            {"w": np.eye(size, dtype=np.float32), "lift": lift, "down": down},
        )
        return Models.stored(payload, {"x": "item"}, {"y": "item"})

    @staticmethod
    def words() -> engine.StoredModel:
        """y = text, unchanged"""
        payload = build(
            [helper.make_node("Identity", ["text"], ["y"])],
            {"text": (TensorProto.STRING, ["N", 1])},
            {"y": (TensorProto.STRING, ["N", 1])},
            {},
        )
        return Models.stored(payload, {"text": "item"}, {"y": "item"})


class Gate:
    """Holds every run still until it is opened; counts the runs that reached it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []

    def wait_entered(self) -> None:
        """Returns when one more run stands at the gate."""
        assert self.entered.acquire(timeout=30), "no run reached the gate"


@pytest.fixture
def build_model() -> Callable[..., bytes]:
    return build


@pytest.fixture
def models() -> type[Models]:
    return Models


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """From now on runs stop at the gate."""
    held = Gate()
    original = Session.run

    def run(self: Session, outputs: Any, feeds: Any, stop: Any = None) -> Any:
        held.batches.append(len(next(iter(feeds.values()))))
        held.entered.release()
        assert held.open.wait(30), "the gate was never opened"
        return original(self, outputs, feeds, stop)

    monkeypatch.setattr(Session, "run", run)
    yield held
    held.open.set()


@pytest.fixture
def start() -> Iterator[Callable[..., Future[engine.RunResult]]]:
    """Run something in a thread of its own."""
    with ThreadPoolExecutor(32) as pool:
        yield pool.submit


@pytest.fixture
def make_engine() -> Iterator[Callable[..., engine.InProcessEngine]]:
    """Engines with one thread per run, closed at the end; every request is queued unless told otherwise."""
    made: list[engine.InProcessEngine] = []

    def make(**settings: Any) -> engine.InProcessEngine:
        made.append(engine.InProcessEngine(**{"threads": 1, "at_once_us": 0, "predict_quantum_ms": 1e9, **settings}))
        return made[-1]

    yield make
    for home in made:
        home.close()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds, or fail."""

    def wait(holds: Callable[[], bool], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "it never came to hold"
            time.sleep(0.001)

    return wait
