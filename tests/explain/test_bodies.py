"""What is emitted inside of a node: a Scan against the same recurrence in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import TensorProto, helper

from explain.bodies import scan
from explain.emit import Emitter
from tests.explain.single import session

T, N, H = 5, 2, 3


def recurrence(x: np.ndarray, h: np.ndarray, w: np.ndarray) -> list[np.ndarray]:
    """h = tanh(h w + 2 x), slice by slice."""
    states = []
    for part in x:
        h = np.tanh(h @ w + 2 * part)
        states.append(h)
    return states


@pytest.mark.parametrize("backwards", [False, True])
def test_scan_walks_either_way(backwards: bool) -> None:
    emit, rng = Emitter(), np.random.default_rng(0)
    for name in ("x", "h", "w"):
        emit.take(name, "float32")

    def step(body: Emitter, states: Sequence[str], slices: Sequence[str]) -> tuple[list[str], list[str]]:
        after = body.tanh(body.add(body.matmul(states[0], "w"), body.mul(slices[0], 2.0)))
        return [after], [after, states[0]]

    names = scan(emit, step, ["h"], ["x"], backwards=backwards)
    nodes, constants = emit.finish(names)
    shapes = {"x": ("T", N, H), "h": (N, H), "w": (H, H)}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    graph = helper.make_graph(nodes, "emitted", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    x, h, w = (rng.normal(size=size).astype(np.float32) for size in ((T, N, H), (N, H), (H, H)))
    last, after, before = session(model).run(None, {"x": x, "h": h, "w": w})
    expected = recurrence(x[::-1] if backwards else x, h, w)
    np.testing.assert_allclose(last, expected[-1], atol=1e-6)
    np.testing.assert_allclose(after, expected[::-1] if backwards else expected, atol=1e-6)
    tape = [h, *expected[:-1]]
    np.testing.assert_allclose(before, tape[::-1] if backwards else tape, atol=1e-6)


def test_what_is_emitted_inside_is_not_known_outside() -> None:
    emit = Emitter()
    emit.take("x", "float32")
    inner = emit.inside()
    made = inner.add("x", "x")
    outside = emit.add("x", "x")
    assert outside != made
    assert emit.inside().add("x", "x") == outside


def test_what_is_the_same_in_every_step_is_computed_around_them() -> None:
    emit = Emitter()
    for name in ("x", "h", "w"):
        emit.take(name, "float32")

    def step(body: Emitter, states: Sequence[str], slices: Sequence[str]) -> tuple[list[str], list[str]]:
        turned = body.transpose("w", perm=[1, 0])
        return [body.add(body.matmul(states[0], body.tanh(turned)), slices[0])], []

    scan(emit, step, ["h"], ["x"])
    *around, walk = emit.nodes
    assert [node.op_type for node in around] == ["Transpose", "Tanh"]
    assert [node.op_type for node in walk.attribute[0].g.node] == ["MatMul", "Add", "Identity"]
