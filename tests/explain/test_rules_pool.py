"""Poolings: overlapping, dilated, padded by hand or automatically, rounded up; ties; sizes known only at run time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import explain
from tests.explain.single import Case, case, check, gradients, numbers, spelled, variants


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
CASES = MAXIMA + AVERAGES + GLOBAL


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


def test_column_major_indices_are_refused() -> None:
    subject = case("MaxPool", numbers(1, 1, 4, 4), judge=None, kernel_shape=[2, 2], storage_order=1)
    with pytest.raises(explain.UnsupportedOperator, match="attribute storage_order=1 is not covered") as caught:
        explain.compile(subject.model(items=True), "vjp")
    assert (caught.value.op, caught.value.node, caught.value.opset) == ("MaxPool", "under_test", 18)
