"""Equal constants of several sessions are in memory once, for as long as one of the sessions lives."""

from __future__ import annotations

import gc
import hashlib
from typing import Any

import numpy as np
from onnx import TensorProto, helper

import engine
from engine.sessions import Runtime, Session
from engine.weights import SharedWeights
from tests.engine.conftest import build

MATRIX = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)


def product(op: str, matrix: np.ndarray = MATRIX, name: str = "w") -> engine.StoredModel:
    """y = op(x @ matrix)."""
    nodes = [helper.make_node("MatMul", ["x", name], ["h"]), helper.make_node(op, ["h"], ["y"])]
    ends: list[dict[str, Any]] = [{end: (TensorProto.FLOAT, ["N", 64])} for end in "xy"]
    payload = build(nodes, *ends, {name: matrix})
    digest = hashlib.sha256(payload).hexdigest()
    return engine.StoredModel(digest, {"x": "item"}, {"y": "item"}, lambda: payload, constants=lambda _: {name: matrix})


def opened(runtime: Runtime, *artifacts: engine.StoredModel) -> list[Session]:
    return [runtime.open(artifact) for artifact in artifacts]


def test_equal_constants_are_held_once_whatever_their_names() -> None:
    runtime = Runtime(("cpu",), 1)
    sessions = opened(runtime, product("Tanh"), product("Neg"), product("Exp", name="other"))
    assert len(runtime.weights) == 1
    for session, function in zip(sessions, (np.tanh, np.negative, np.exp), strict=True):
        (y,) = session.run(["y"], {"x": X})
        np.testing.assert_allclose(y, function(X @ MATRIX), rtol=1e-4, atol=1e-5)


def test_other_numbers_are_other_constants() -> None:
    runtime = Runtime(("cpu",), 1)
    sessions = opened(runtime, product("Neg"), product("Neg", MATRIX + 1), product("Neg", MATRIX.T))
    assert len(runtime.weights) == 3
    for session, matrix in zip(sessions, (MATRIX, MATRIX + 1, MATRIX.T), strict=True):
        np.testing.assert_allclose(session.run(["y"], {"x": X})[0], -X @ matrix, rtol=1e-4, atol=1e-4)


def test_they_go_with_the_last_session() -> None:
    runtime = Runtime(("cpu",), 1)
    sessions = opened(runtime, product("Tanh"), product("Neg"))
    del sessions[0]
    gc.collect()
    assert len(runtime.weights) == 1
    np.testing.assert_allclose(sessions[0].run(["y"], {"x": X})[0], -X @ MATRIX, rtol=1e-4, atol=1e-4)
    sessions.clear()
    gc.collect()
    assert len(runtime.weights) == 0


def test_the_session_reads_them_and_not_its_own_copy() -> None:
    """Shown by handing over other numbers than the graph has."""
    model = product("Neg")
    doubled = engine.StoredModel(
        model.digest, model.inputs, model.outputs, model.load, constants=lambda _: {"w": 2 * MATRIX}
    )
    (session,) = opened(Runtime(("cpu",), 1), doubled)
    np.testing.assert_allclose(session.run(["y"], {"x": X})[0], -2 * X @ MATRIX, rtol=1e-4, atol=1e-4)


def test_none_are_lent_by_default() -> None:
    held = SharedWeights()
    assert len(held) == 0
    assert engine.StoredModel("d", {}, {}, lambda: b"").constants is None
