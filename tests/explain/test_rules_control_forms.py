"""Recurrent layers as exporters write them with Scan and Loop, double precision, and what is refused by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import explain
from tests.explain.control import check_against, gradient_of, parsed
from tests.explain.graphs import attribute, numbers, serve, tensor

H = 5
WEIGHTS = {
    "kernel": numbers(4, 4 * H, seed=71, scale=0.5),
    "again": numbers(H, 4 * H, seed=72, scale=0.5),
    "bias": numbers(4 * H, seed=73),
    "head": numbers(H, 3, seed=74),
    "zero": np.array(0),
    "none": np.float32(0),
    "axis": np.array([1]),
    "size": np.array([H]),
    "yes": np.array(True),
    "one": np.array(1),
}
GATES = """
            p = MatMul (part, kernel)
            q = MatMul (h, again)
            r = Add (p, q)
            gates = Add (r, bias)
            i, f, g, o = Split <axis = 1, num_outputs = 4> (gates)
            si = Sigmoid (i)
            sf = Sigmoid (f)
            so = Sigmoid (o)
            tg = Tanh (g)
            kept = Mul (sf, c)
            new = Mul (si, tg)
            d = Add (kept, new)
            td = Tanh (d)
            e = Mul (so, td)
"""
# tf2onnx writes a layer that it does not recognise as a Scan over time, which it puts first.
SCANNED = f"""
g (float[n, t, 4] x) => (float[n, 3] y) {{
    turned = Transpose <perm = [1, 0, 2]> (x)
    rows = Shape <end = 1> (x)
    sides = Concat <axis = 0> (rows, size)
    begin = ConstantOfShape (sides)
    hT, cT, all = Scan <num_scan_inputs = 1, body = step
        (float[n, {H}] h, float[n, {H}] c, float[n, 4] part)
        => (float[n, {H}] e, float[n, {H}] d, float[n, {H}] out) {{ {GATES}
            out = Identity (e)
        }}> (begin, begin, turned)
    back = Transpose <perm = [1, 0, 2]> (all)
    mean = ReduceMean <keepdims = 0> (back, axis)
    both = Mul (mean, hT)
    y = MatMul (both, head)
}}
"""
# Keras' while_loop: a counter of its own beside that of the Loop, the time it stops at, and a list of outputs.
WHILE = f"""
g (float[n, t, 4] x) => (float[n, 3] y) {{
    turned = Transpose <perm = [1, 0, 2]> (x)
    rows = Shape <end = 1> (x)
    sides = Concat <axis = 0> (rows, size)
    begin = ConstantOfShape (sides)
    times = Shape <start = 1, end = 2> (x)
    end = Squeeze (times)
    go0 = Less (zero, end)
    time, hT, cT, all = Loop <body = step
        (int64 it, bool go, int64 now, float[n, {H}] h, float[n, {H}] c)
        => (bool on, int64 later, float[n, {H}] e, float[n, {H}] d, float[n, {H}] out) {{
            part = Gather (turned, now)
            {GATES}
            later = Add (now, one)
            on = Less (later, end)
            out = Identity (e)
        }}> (, go0, zero, begin, begin)
    mean = ReduceMean <keepdims = 0> (all, first)
    both = Mul (mean, hT)
    y = MatMul (both, head)
}}
"""


def long_short(x: torch.Tensor) -> torch.Tensor:
    h = c = torch.zeros(len(x), H, dtype=x.dtype)
    outs = []
    for part in x.unbind(1):
        gates = part @ tensor(WEIGHTS["kernel"]) + h @ tensor(WEIGHTS["again"]) + tensor(WEIGHTS["bias"])
        i, f, g, o = gates.chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outs.append(h)
    return (torch.stack(outs).mean(0) * h) @ tensor(WEIGHTS["head"])


@pytest.mark.parametrize("text", [SCANNED, WHILE], ids=["scan", "while"])
def test_a_layer_written_out(text: str) -> None:
    model = explain.Model(parsed(text, WEIGHTS | {"first": np.array([0])}))
    for n, t in ((1, 1), (5, 1), (1, 7), (5, 7), (1, 200), (5, 200)):
        check_against(model, long_short, {"x": numbers(n, t, 4, seed=n + t)})
    assert explain.coverage(model).batching == "items are joined along axis 0"


def test_weights_have_no_gradients_and_are_held_once() -> None:
    model = parsed(SCANNED, WEIGHTS | {"first": np.array([0])})
    program = explain.compile(model, "vjp")
    names = [tensor.name for tensor in program.model.graph.initializer]
    assert [names.count(name) for name in ("kernel", "again", "bias")] == [1, 1, 1]
    (back,) = (node for node in program.model.graph.node if node.op_type == "Scan" and "all" not in node.output)
    read = set(back.input)
    assert not read & set(WEIGHTS)  # no sum of their gradients is handed from step to step


DOUBLE = """
g (double[n, t, 3] x, double[n, 3] h0) => (double[n, 3] y) {
    shape = Shape <start = 1, end = 2> (x)
    size = Squeeze (shape)
    a, b = Loop <body = step (int64 i, bool go, double[n, 3] h, double[n, 3] s)
        => (bool on, double[n, 3] after, double[n, 3] sum) {
            part = Gather <axis = 1> (x, i)
            p = Add (h, part)
            after = Tanh (p)
            q = Exp (after)
            sum = Add (s, q)
            on = Identity (go)
        }> (size, , h0, h0)
    y = Mul (a, b)
}
"""


@pytest.mark.parametrize("t", [1, 7, 200])
def test_differences_in_double_precision(t: int) -> None:
    model = parsed(DOUBLE)
    feeds = {"x": numbers(2, t, 3, seed=t, dtype="float64"), "h0": numbers(2, 3, seed=75, dtype="float64")}
    cotangent = numbers(2, 3, seed=76, dtype="float64")
    found = gradient_of(model, feeds, cotangent)

    def f(at: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray((serve(model, at)["y"] * cotangent).sum())

    for name in feeds:
        assert explain.dot_test(f, found[f"{name}.gradient"], feeds, name, step=1e-6) < 1e-6
        assert explain.dot_test(f, 1.001 * found[f"{name}.gradient"], feeds, name, step=1e-6) > 1e-6


GROWING = """
g (float[n, 4] x) => (float[n, m] y) {
    last = Loop <body = step (int64 i, bool go, float[n, k] h) => (bool on, float[] after) {
            s = Sin (h)
            after = GROW
            on = Identity (go)
        }> (two, , x)
    y = Mul (last, last)
}
"""


def growing(operator: str) -> onnx.ModelProto:
    return parsed(GROWING.replace("GROW", operator), {"two": np.array(2), "w": numbers(4, 6), "axes": np.array([2])})


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        ("Concat <axis = 1> (s, x)", r"the shape of its state 'x' changes from step to step"),
        ("MatMul (s, w)", r"the shape of its state 'x' changes from step to step"),
        ("Unsqueeze (s, axes)", r"the rank of its state 'x' changes from step to step"),
    ],
)
def test_states_that_grow_are_refused(operator: str, said: str) -> None:
    model = growing(operator)
    with pytest.raises(explain.UnsupportedOperator, match=said):
        explain.compile(model, "vjp")
    assert "permutation_shap" in explain.coverage(model).methods


def test_a_state_that_is_joined_and_cut_again_keeps_its_shape() -> None:
    """A window that moves along: the axis that Concat makes longer is cut to what it was."""
    text = """
    g (float[n, t] x) => (float[n, 3] y) {
        shape = Shape <start = 1> (x)
        size = Squeeze (shape)
        start = Slice (x, zeros, threes, axis)
        y = Loop <body = step (int64 i, bool go, float[n, 3] h) => (bool on, float[n, 3] after) {
                part = Gather <axis = 1> (x, i)
                wide = Unsqueeze (part, axis)
                sine = Sin (h)
                all = Concat <axis = 1> (sine, wide)
                after = Slice (all, ones, fours, axis)
                on = Identity (go)
            }> (size, , start)
    }
    """
    held = {"zeros": np.array([0]), "ones": np.array([1]), "threes": np.array([3]), "fours": np.array([4])}

    def twin(x: torch.Tensor) -> torch.Tensor:
        h = x[:, :3]
        for part in x.unbind(1):
            h = torch.cat([h.sin(), part[:, None]], 1)[:, 1:]
        return h

    for n, t in ((1, 3), (5, 7)):
        check_against(explain.Model(parsed(text, held | {"axis": np.array([1])})), twin, {"x": numbers(n, t, seed=t)})


def test_a_scan_that_knows_of_items_is_refused_by_name() -> None:
    """At opset 8 a Scan has an axis of items and lengths of sequences."""
    ends = [[helper.make_tensor_value_info(name, 1, [None, 2]) for name in names] for names in (("s", "p"), ("r", "k"))]
    nodes = [helper.make_node("Add", ["s", "p"], ["r"]), helper.make_node("Identity", ["r"], ["k"])]
    body = helper.make_graph(nodes, "step", *ends)
    node = helper.make_node("Scan", ["", "h", "x"], ["last", "y"], name="walk", body=body, num_scan_inputs=1)
    specs = {"h": ["n", 2], "x": ["n", "t", 2]}, {"y": ["n", "t", 2]}
    inputs, outputs = ([helper.make_tensor_value_info(k, 1, v) for k, v in spec.items()] for spec in specs)
    graph = helper.make_graph([node], "old", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3)
    with pytest.raises(explain.UnsupportedOperator, match=r"Scan \(node 'walk', opset 8\): before opset 9"):
        explain.compile(model, "vjp")


def test_codes_that_become_numbers_inside_are_refused() -> None:
    """What a Loop makes of all tokens is no encoding of each."""
    text = """
    g (int64[n, t] ids) => (float[n, 4] y) {
        shape = Shape <start = 1> (ids)
        size = Squeeze (shape)
        rows = Shape <end = 1> (ids)
        sides = Concat <axis = 0> (rows, four)
        begin = ConstantOfShape (sides)
        y = Loop <body = step (int64 i, bool go, float[n, 4] h) => (bool on, float[n, 4] after) {
                code = Gather <axis = 1> (ids, i)
                e = Gather (table, code)
                s = Add (h, e)
                after = Tanh (s)
                on = Identity (go)
            }> (size, , begin)
    }
    """
    model = explain.Model(parsed(text, {"four": np.array([4]), "table": numbers(9, 4)}))
    said = "input 'ids' becomes a number inside of Loop, at 'y'"
    assert explain.coverage(model).refused["saliency"] == said
    ids = np.array([[1, 2, 3]])
    found = attribute(model, {"ids": ids}, "exact_shap", target=0, background={"ids": 0 * ids})
    assert found.values["ids"].shape == (1, 3)


def test_tokens_that_are_embedded_around_it_are_attributed() -> None:
    text = SCANNED.replace("float[n, t, 4] x)", "int64[n, t] ids)").replace(
        "turned = ", "x = Gather (table, ids) turned = "
    )
    model = explain.Model(parsed(text, WEIGHTS | {"table": numbers(9, 4)}))
    ids = np.array([[1, 2, 3, 8], [0, 0, 5, 4]])
    found = attribute(model, {"ids": ids}, "integrated_gradients", target=0, baseline={"ids": 0 * ids})
    assert found.values["ids"].shape == (2, 4)
    gap = found.values["ids"].sum(1) - (found.explained_value - found.base_values)
    assert np.abs(gap).max() < 1e-3 * np.abs(found.values["ids"]).max()


def test_a_state_that_begins_as_one_row_is_refused() -> None:
    """It is as many rows as there are behind the first step."""
    text = """
    g (float[n, 4] x) => (float[n, 4] y) {
        y = Loop <body = step (int64 i, bool go, float[a, 4] h) => (bool on, float[b, 4] after) {
                s = Sin (h)
                after = Add (s, x)
                on = Identity (go)
            }> (two, , begin)
    }
    """
    model = parsed(text, {"two": np.array(2), "begin": np.zeros((1, 4), np.float32)})
    with pytest.raises(explain.UnsupportedOperator, match=r"state 'begin' changes from step to step: \[1, 4\] to"):
        explain.compile(model, "vjp")


def test_what_runtimes_fuse_is_written_out_inside_too() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]>
    g (float[n, 4] x) => (float[n, 4] y) {
        k = com.microsoft.QuickGelu <alpha = 1.5> (x)
        y = Loop <body = step (int64 i, bool go, float[n, 4] h) => (bool on, float[n, 4] after) {
                q = com.microsoft.QuickGelu <alpha = 1.5> (h)
                r = com.microsoft.FastGelu (k)
                after = Add (q, r)
                on = Identity (go)
            }> (two, , x)
    }
    """
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(2), "two"))

    def twin(x: torch.Tensor) -> torch.Tensor:
        h, k = x, x * torch.sigmoid(1.5 * x)
        for _ in range(2):
            h = h * torch.sigmoid(1.5 * h) + torch.nn.functional.gelu(k, approximate="tanh")
        return h

    check_against(model, twin, {"x": numbers(3, 4, seed=77)})
