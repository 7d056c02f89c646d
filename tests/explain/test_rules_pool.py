"""Poolings: overlapping, dilated, padded by hand or automatically, rounded up; ties; sizes known only at run time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import explain
from tests.explain.single import (
    Case,
    Const,
    Fed,
    case,
    check,
    declare_ranks,
    gradients,
    numbers,
    session,
    spelled,
    variants,
)


def windows(size: int, k: int, s: int, d: int, begin: int, end: int, ceil: bool) -> list[list[int]]:
    """Positions (some outside) that each output along one axis looks at."""
    room = size + begin + end - (k - 1) * d - 1
    count = (-(-room // s) if ceil else room // s) + 1
    if ceil and (count - 1) * s >= size + begin:
        count -= 1  # a window must not begin beyond the input and the padding before it
    return [[i * s - begin + j * d for j in range(k)] for i in range(count)]


def geometry(shape: Any, given: dict[str, Any]) -> list[list[list[int]]]:
    kernel = given["kernel_shape"]
    n = len(kernel)
    strides, dilations = given.get("strides") or [1] * n, given.get("dilations") or [1] * n
    pads, auto, ceil = given.get("pads") or [0] * 2 * n, given.get("auto_pad"), bool(given.get("ceil_mode"))
    axes = []
    for i, (size, k, s, d) in enumerate(zip(shape[2:], kernel, strides, dilations, strict=True)):
        begin, end = pads[i], pads[i + n]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            begin, end = (total // 2, total - total // 2)[:: 1 if auto == "SAME_UPPER" else -1]
        axes.append(windows(size, k, s, d, begin, end, ceil))
    return axes


def pooled(x: torch.Tensor, average: bool, given: dict[str, Any]) -> torch.Tensor:
    """Window by window, as the specification's text says it."""
    axes, outputs = geometry(x.shape, given), []
    sizes = x.shape[2:]
    n = len(sizes)
    ends = [size + (given.get("pads") or [0] * 2 * n)[n + i] for i, size in enumerate(sizes)]
    if str(given.get("auto_pad")).startswith("SAME"):
        ends = [10**6] * n
    for window in itertools.product(*axes):
        places = list(itertools.product(*window))
        inside = [p for p in places if all(0 <= i < size for i, size in zip(p, sizes, strict=True))]
        values = torch.stack([x[(slice(None), slice(None), *p)] for p in inside])
        padding = [p for p in places if all(i < end for i, end in zip(p, ends, strict=True))]
        count = len(padding) if given.get("count_include_pad") else len(inside)
        outputs.append(values.sum(0) / count if average else values.amax(0))
    return torch.stack(outputs, -1).reshape(*x.shape[:2], *map(len, axes))


def pool(op: str, *x: int, also: Any = (), **given: Any) -> Case:
    present = {name: value for name, value in given.items() if value is not None}
    average = op == "AveragePool"
    judge = lambda x: pooled(x, average, present)  # noqa: E731 - one judge per case
    # ONNX's reference implementation rounds up and dilates differently: differences of the judge itself.
    formula = lambda x: pooled(torch.as_tensor(x), average, present).numpy()  # noqa: E731 - the same in numpy
    others = tuple((numbers(*shape, seed=2),) for shape in also)
    return case(
        op, numbers(*x), judge=judge, label=spelled({"x": list(x), **present}), also=others, formula=formula, **present
    )


SHAPES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 2, 7), {"kernel_shape": [3], "strides": [2]}),
    ((1, 2, 6, 7), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((1, 2, 6, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 2, 6, 7), {"kernel_shape": [3, 2]}),
    ((1, 2, 6, 7), {"kernel_shape": [3, 3], "pads": [0, 1, 2, 1]}),
    ((1, 2, 4, 4, 5), {"kernel_shape": [2, 2, 3], "strides": [1, 2, 2], "pads": [0, 0, 1, 0, 0, 1]}),
]
OPEN = [(2, 2, 5, 8), (1, 2, 9, 4), (3, 1, 8, 7)]
MAXIMA = [pool("MaxPool", *x, **given, ceil_mode=ceil) for x, given in SHAPES for ceil in (None, 1)]
MAXIMA += [
    pool("MaxPool", 1, 2, 8, 9, kernel_shape=[3, 2], dilations=[2, 3], strides=[1, 2], pads=[1, 0, 1, 1]),
    pool("MaxPool", 1, 2, 8, 9, kernel_shape=[2, 2], dilations=[2, 2], also=OPEN, strides=[3, 2], ceil_mode=1),
    *(
        pool("MaxPool", 1, 2, 7, 8, also=OPEN, kernel_shape=[3, 2], **more)
        for more in variants(auto_pad=["SAME_UPPER", "SAME_LOWER", "VALID"], strides=[None, [2, 3]])
    ),
]
AVERAGES = [
    pool("AveragePool", *x, **{"pads": [0] * 2 * len(given["kernel_shape"])} | given, **more)
    for x, given in SHAPES
    for more in variants(ceil_mode=[0, 1], count_include_pad=[0, 1])
]
AVERAGES += [
    pool("AveragePool", 1, 2, 7, 8, also=OPEN, kernel_shape=[3, 2], **more)
    for more in variants(
        auto_pad=["SAME_UPPER", "SAME_LOWER", "VALID"], strides=[None, [2, 3]], count_include_pad=[0, 1]
    )
]
AVERAGES += [
    pool("AveragePool", 1, 2, 7, 8, also=OPEN, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1], **more)
    for more in variants(ceil_mode=[0, 1], count_include_pad=[0, 1])
]
GLOBAL = [
    case(
        op,
        numbers(*shape),
        judge=lambda x, f=f: f(x, tuple(range(2, x.ndim)), True),
        label=f"{len(shape)}",
        also=((numbers(1, *shape[1:-1], 7),),),
        # ONNX's reference implementation of the maximum returns four axes whatever came.
        formula=lambda x, f=f: f(torch.as_tensor(x), tuple(range(2, x.ndim)), True).numpy(),
    )
    for op, f in {"GlobalAveragePool": torch.mean, "GlobalMaxPool": torch.amax}.items()
    for shape in [(2, 3, 4), (2, 3, 4, 5), (1, 2, 3, 2, 3)]
]
MAXIMA.append(
    case(
        "MaxPool",
        numbers(1, 2, 6, 7),
        judge=lambda x: torch.nn.functional.max_pool2d(x, 3, 2),
        kernel_shape=[3, 3],
        strides=[2, 2],
        storage_order=1,
    )
)


def norms(p: int, *pads: int, **given: Any) -> Case:
    """|x|^p summed over windows; padding adds nothing."""
    sides = [pads[i] for i in (1, 3, 0, 2)] if pads else [0] * 4
    judge = lambda x: torch.nn.functional.lp_pool2d(torch.nn.functional.pad(x.abs(), sides), p, [3, 2], [2, 1])  # noqa: E731
    present = {"p": p, "kernel_shape": [3, 2], "strides": [2, 1], "pads": list(pads) or None, **given}
    formula = lambda x: judge(torch.as_tensor(x)).numpy()  # noqa: E731 - the same in numpy
    return case("LpPool", numbers(1, 2, 7, 6), judge=judge, formula=formula, **present)


LP = [norms(1), norms(2), norms(3), norms(2, 1, 0, 1, 1), norms(3, 1, 0, 1, 1)]
LP += [
    case(
        "GlobalLpPool",
        numbers(2, 3, 4, 5),
        judge=lambda x, p=p: torch.linalg.vector_norm(x, p, (2, 3), keepdim=True),
        formula=lambda x, p=p: torch.linalg.vector_norm(torch.as_tensor(x), p, (2, 3), keepdim=True).numpy(),
        p=p,
    )
    for p in (1, 2, 3)
]
UNPOOLED = [
    case(
        "MaxUnpool",
        numbers(1, 2, 2, 2),
        Fed(np.array([[[[5, 7], [13, 15]], [[16, 18], [24, 31]]]])),
        judge=lambda x, i: torch.nn.functional.max_unpool2d(x, i % 16, 2, 2),
        kernel_shape=[2, 2],
        strides=[2, 2],
    )
]
CASES = MAXIMA + AVERAGES + GLOBAL + LP + UNPOOLED


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


def test_the_first_of_several_maxima_of_a_window_takes_the_gradient() -> None:
    x = np.array([[1.0, 1.0, 0.0, 2.0], [1.0, 1.0, 2.0, 2.0]])[None, None]
    leaf = torch.tensor(x, requires_grad=True)
    torch.nn.functional.max_pool2d(leaf, 2, 1).sum().backward()
    found = gradients(case("MaxPool", x, judge=None, kernel_shape=[2, 2]))
    assert found["x0"].tolist() == leaf.grad.tolist() == [[[[1, 0, 0, 1], [0, 0, 1, 0]]]]


def test_a_global_maximum_is_shared_equally_among_ties() -> None:
    found = gradients(case("GlobalMaxPool", np.array([[[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]]]), judge=None))
    assert found["x0"].tolist() == [[[0, 0.5, 0.5], [1, 0, 0]]]


def test_a_window_of_zeros_has_a_norm_without_gradient() -> None:
    found = gradients(case("LpPool", np.array([[[0.0, 0.0, 3.0, 4.0]]]), judge=None, kernel_shape=[2], strides=[2]))
    np.testing.assert_allclose(found["x0"], [[[0, 0, 0.6, 0.8]]], atol=1e-6)


def test_an_unpooling_to_a_stated_shape_takes_its_indices_there() -> None:
    places, shape = Fed(np.array([[[[7]]]])), Const(np.array([1, 1, 3, 3]))
    subject = case("MaxUnpool", numbers(1, 1, 1, 1), places, shape, judge=None, kernel_shape=[2, 2])
    model = subject.model(items=True)
    declare_ranks(model, {"y": numbers(1, 1, 3, 3)})
    program = session(explain.compile(model, "vjp").model)
    cotangent = numbers(1, 1, 1, 3, 3).astype(np.float32)
    feeds = {"x0": np.ones((1, 1, 1, 1, 1), np.float32), "x1": places.array[None], "y.cotangent": cotangent}
    gradient, y = program.run(["x0.gradient", "y"], feeds)
    assert np.flatnonzero(y).tolist() == [7]
    assert gradient.item() == cotangent.flatten()[7]
