"""Scan, Loop and If: gradients against the same steps unrolled in PyTorch, at several lengths from one graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

import explain
from tests.explain.control import check_against, parsed
from tests.explain.graphs import numbers, tensor

W = numbers(4, 4, seed=1, scale=0.5)
V = numbers(4, 4, seed=2, scale=0.5)
SIZES = [(1, 1), (5, 7), (2, 200), (1, 7)]


def cell(x: torch.Tensor, h: torch.Tensor, k: torch.Tensor | float = 1.0) -> torch.Tensor:
    return torch.tanh((h @ tensor(W) + x) * k)


SCAN = """
g (float[n, t, 4] x) => (float[n, 4] y) {
    one = Constant <value_ints = [1]> ()
    h0 = ReduceMean <keepdims = 0> (x, one)
    k = Sigmoid (h0)
    last, kept = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [OUT],
                       scan_input_directions = [IN_WAY], scan_output_directions = [OUT_WAY], body = step
        (float[n, 4] h, float[n, 4] part) => (float[n, 4] after, float[n, 4] given) {
            a = MatMul (h, w)
            b = Add (a, part)
            c = Mul (b, k)
            after = Tanh (c)
            given = Neg (c)
        }> (h0, x)
    place = Constant <value_ints = [PLACE]> ()
    first = Gather <axis = OUT> (kept, place)
    flat = Squeeze (first, axis)
    summed = ReduceSum <keepdims = 0> (kept, axis)
    both = Add (flat, summed)
    y = Mul (both, last)
}
"""


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_a_scan_either_way_along_any_axis(backwards: bool, turned: bool, axis: int) -> None:
    spelled = {"IN_WAY": int(backwards), "OUT_WAY": int(turned), "PLACE": 0, "OUT": axis}
    text = SCAN
    for name, value in spelled.items():
        text = text.replace(name, str(value))
    model = explain.Model(parsed(text, {"w": W, "axis": np.array([axis])}))

    def twin(x: torch.Tensor) -> torch.Tensor:
        h = x.mean(1)
        k, kept = torch.sigmoid(h), []
        for part in x.flip(1).unbind(1) if backwards else x.unbind(1):
            kept.append(-(h @ tensor(W) + part) * k)
            h = torch.tanh(-kept[-1])
        return (kept[-1 if turned else 0] + torch.stack(kept).sum(0)) * h

    for n, t in SIZES:
        check_against(model, twin, {"x": numbers(n, t, 4, seed=n + t)})


def test_the_check_against_a_twin_can_fail() -> None:
    model = parsed("g (float[n, 4] x) => (float[n, 4] y) { y = Mul (x, x) }")
    check_against(model, lambda x: x * x, {"x": numbers(2, 4)})
    with pytest.raises(AssertionError, match="error"):
        check_against(model, lambda x: x.detach() * x, {"x": numbers(2, 4)})
    with pytest.raises(AssertionError, match="y"):
        check_against(model, lambda x: x * x + 1, {"x": numbers(2, 4)})


def test_a_scan_of_two_sequences_that_shares_a_value() -> None:
    """x is walked twice, in both directions, and read from around; the second state is a count that is used."""
    text = """
    g (float[t, n, 4] x, float[n, 4] h) => (float[n, 4] y) {
        last, count = Scan <num_scan_inputs = 2, scan_input_directions = [0, 1], body = step
            (float[n, 4] a, float c, float[n, 4] one, float[n, 4] two) => (float[n, 4] b, float d) {
                f = Constant <value_float = 1.0> ()
                axes = Constant <value_ints = [0]> ()
                mean = ReduceMean <keepdims = 0> (x, axes)
                p = Mul (one, two)
                q = Add (p, mean)
                r = Mul (a, c)
                s = Div (r, x_size)
                u = Add (q, s)
                b = Sin (u)
                d = Add (c, f)
            }> (h, zero, x, x)
        y = Mul (last, count)
    }
    """
    model = explain.Model(parsed(text, {"zero": np.float32(0), "x_size": np.float32(300)}))

    def twin(x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        for step in range(len(x)):
            h = torch.sin(x[step] * x[-1 - step] + x.mean(0) + h * step / 300)
        return h * len(x)

    for n, t in SIZES:
        check_against(model, twin, {"x": numbers(t, n, 4, seed=n), "h": numbers(n, 4, seed=t)})


LOOP = """
g (float[n, t, 4] x) => (float[n, 4] y) {
    shape = Shape <start = 1, end = 2> (x)
    size = Squeeze (shape)
    one = Constant <value_ints = [1]> ()
    mean = ReduceMean <keepdims = 0> (x, one)
    h0 = Tanh (mean)
    trip = TRIP
    last, kept = Loop <body = step (int64 i, bool go, float[n, 4] h) => (bool on, float[n, 4] after, float[n, 4] out) {
            part = Gather <axis = 1> (x, i)
            a = MatMul (h, w)
            b = Add (a, part)
            after = Tanh (b)
            out = Mul (b, mean)
            on = CONDITION
        }> (trip, START, h0)
    total = ReduceSum <keepdims = 0> (kept)
    y = Mul (total, last)
}
"""


def loop(
    trip: str = "Identity (size)", condition: str = "Identity (go)", start: str = "", **held: Any
) -> onnx.ModelProto:
    text = LOOP.replace("TRIP", trip).replace("CONDITION", condition).replace("START", start or '""')
    return parsed(text.replace('""', ""), {"w": W, **held})


def steps_of(x: torch.Tensor, count: int) -> torch.Tensor:
    mean = x.mean(1)
    h, total = torch.tanh(mean), mean * 0
    for place in range(count):
        b = h @ tensor(W) + x[:, place]
        h, total = torch.tanh(b), total + b * mean
    return total.sum() * h


def test_a_loop_as_long_as_its_input() -> None:
    model = explain.Model(loop(start="yes", yes=np.array(True)))
    for n, t in SIZES:
        check_against(model, lambda x: steps_of(x, x.shape[1]), {"x": numbers(n, t, 4, seed=n + t)})
    assert not model.row_by_row


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_loop_of_a_fixed_number_of_steps(count: int) -> None:
    model = loop("Identity (times)", start="yes", yes=np.array(True), times=np.array(count))
    check_against(model, lambda x: steps_of(x, count), {"x": numbers(2, 4, 4, seed=count)})


UNTIL = """
g (float[n, 4] x) => (float[n, 4] y) {
    last, kept, others = Loop <body = step (int64 i, bool go, float[n, 4] h, int64 c)
        => (bool on, float[n, 4] after, int64 d, float[n, 4] out) {
            one = Constant <value_int = 1> ()
            half = Constant <value_float = 0.5> ()
            f = Cast <to = 1> (c)
            a = Mul (h, x)
            b = Mul (a, half)
            after = Add (b, x)
            out = Mul (after, f)
            d = Add (c, one)
            size = ReduceL2 <keepdims = 0> (after)
            on = Less (size, bound)
        }> (, START, x, zero)
    total = ReduceSum <keepdims = 0> (others)
    count = Cast <to = 1> (kept)
    scaled = Mul (last, count)
    y = Add (scaled, total)
}
"""


def until(x: torch.Tensor, bound: float) -> torch.Tensor:
    h, count, total = x, 0, torch.zeros((), dtype=torch.float64)
    while True:
        h = h * x / 2 + x
        total, count = total + (h * count).sum(), count + 1
        if torch.linalg.norm(h).item() >= bound:
            return h * count + total


def test_a_loop_that_ends_by_what_it_computes() -> None:
    model = explain.Model(
        parsed(UNTIL.replace("START", "yes"), {"zero": np.array(0), "bound": np.float32(9), "yes": np.array(True)})
    )
    for size in (2.1, 2.5, 4.0):  # many steps, some, one
        check_against(model, lambda x: until(x, 9), {"x": np.full((1, 4), size, np.float32) + numbers(1, 4, scale=0.1)})


def test_a_loop_that_may_not_begin() -> None:
    """The condition to begin, and the trip count, are made of values of the input."""
    text = """
    g (float[n, 4] x) => (float[n, 4] y) {
        sum = ReduceSum <keepdims = 0> (x)
        begin = Greater (sum, zero)
        trip = Cast <to = 7> (sum)
        k = Exp (x)
        last = Loop <body = step (int64 i, bool go, float[n, 4] h) => (bool on, float[n, 4] after) {
                f = Cast <to = 1> (i)
                p = Add (h, f)
                q = Mul (p, k)
                after = Sin (q)
                on = Identity (go)
            }> (trip, begin, x)
        y = Mul (last, x)
    }
    """
    model = explain.Model(parsed(text, {"zero": np.float32(0)}))

    def twin(x: torch.Tensor) -> torch.Tensor:
        h = x
        for place in range(max(0, int(x.sum().item()))):
            h = torch.sin((h + place) * torch.exp(x))
        return h * x

    for mean in (-1.0, 0.1, 0.5, 1.0):  # not at all, 0 times, twice, four times
        check_against(model, twin, {"x": np.full((1, 4), mean, np.float32) + np.float32([[0.02, -0.01, 0.03, 0]])})


def test_an_if_on_what_it_is_given() -> None:
    """One branch reads x and z, the other only x, and one output of it does not depend on anything."""
    text = """
    g (float[n, 4] x, float[n, 4] z) => (float[n, 4] y) {
        sum = ReduceSum <keepdims = 0> (x)
        c = Greater (sum, zero)
        k = Exp (x)
        a, b = If <then_branch = t () => (float[n, 4] one, float[n, 4] two) {
                one = Mul (k, z)
                two = Tanh (x)
            }, else_branch = e () => (float[n, 4] one, float[n, 4] two) {
                one = Mul (k, k)
                two = Identity (held)
            }> (c)
        s = Add (a, b)
        y = Mul (s, k)
    }
    """
    model = explain.Model(parsed(text, {"zero": np.float32(0), "held": numbers(1, 4, seed=5)}))

    def twin(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        k = torch.exp(x)
        return (k * z + torch.tanh(x) if x.sum().item() > 0 else k * k + tensor(numbers(1, 4, seed=5))) * k

    for sign in (1, -1):
        x = sign * (np.abs(numbers(1, 4)) + np.float32(0.1))
        check_against(model, twin, {"x": x, "z": numbers(1, 4, seed=3)})


NESTED = """
g (float[n, t, 4] x, float[n, 4] z) => (float[n, 4] y) {
    shape = Shape <start = 1, end = 2> (x)
    size = Squeeze (shape)
    last = Loop <body = step (int64 i, bool go, float[n, 4] h) => (bool on, float[n, 4] after) {
            part = Gather <axis = 1> (x, i)
            two = Constant <value_int = 2> ()
            rest = Mod (i, two)
            odd = Cast <to = 9> (rest)
            a = If <then_branch = t () => (float[n, 4] inner) {
                    inner = Loop <body = step (int64 i, bool go, float[n, 4] h) => (bool on, float[n, 4] after) {
                            u = Mul (h, z)
                            v = Add (u, part)
                            after = Sin (v)
                            on = Identity (go)
                        }> (i, yes, h)
                }, else_branch = e () => (float[n, 4] inner) {
                    inner = Mul (h, part)
                }> (odd)
            after = Tanh (a)
            on = Identity (go)
        }> (size, yes, z)
    y = Mul (last, z)
}
"""


def nested(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    h = z
    for i, part in enumerate(x.unbind(1)):
        if i % 2:
            for _ in range(i):
                h = torch.sin(h * z + part)
        else:
            h = h * part
        h = torch.tanh(h)
    return h * z


def test_a_loop_in_an_if_in_a_loop() -> None:
    model = explain.Model(parsed(NESTED, {"yes": np.array(True)}))
    for n, t in ((1, 1), (5, 7), (2, 12)):
        check_against(model, nested, {"x": numbers(n, t, 4, seed=n + t), "z": numbers(n, 4, seed=t, scale=0.5)})
    assert not model.row_by_row
