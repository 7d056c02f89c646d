"""Normalisations: of batches, instances, layers, groups, neighbouring channels and norms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import explain
from tests.explain.single import Case, Const, case, check, numbers, spelled

F = torch.nn.functional
SCALE, BIAS = numbers(3, low=0.5, high=2.0, seed=1), numbers(3, seed=2)
MEAN, VARIANCE = numbers(3, seed=3), numbers(3, low=0.2, high=2.0, seed=4)


def doubles(*values: Any) -> list[torch.Tensor]:
    return [torch.as_tensor(np.asarray(value), dtype=torch.float64) for value in values]


def batch_case(*shape: int, epsilon: float | None = None) -> Case:
    def judge(x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        scale, bias, mean, variance = doubles(*given)
        return F.batch_norm(x, mean, variance, scale, bias, eps=epsilon or 1e-5)

    given = map(Const, (SCALE, BIAS, MEAN, VARIANCE))
    return case("BatchNormalization", numbers(*shape), *given, judge=judge, label=f"{shape}-{epsilon}", epsilon=epsilon)


def instance_case(*shape: int, epsilon: float | None = None) -> Case:
    judge = lambda x, s, b: F.instance_norm(x, weight=doubles(s)[0], bias=doubles(b)[0], eps=epsilon or 1e-5)  # noqa: E731
    given = Const(SCALE), Const(BIAS)
    also = ((numbers(1, *shape[1:-1], 6, seed=5), *given),)
    return case(
        "InstanceNormalization",
        numbers(*shape),
        *given,
        judge=judge,
        label=f"{shape}-{epsilon}",
        also=also,
        epsilon=epsilon,
    )


def layer_case(
    axis: int | None, scale: tuple[int, ...], bias: bool, x: tuple[int, ...] = (2, 3, 4), **more: Any
) -> Case:
    weights = [Const(numbers(*scale, low=0.5, high=2.0, seed=1)), *([Const(numbers(*scale, seed=2))] if bias else [])]

    def judge(x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        gamma, *beta = doubles(*given)
        normed = F.layer_norm(x, x.shape[(-1 if axis is None else axis) % x.ndim :], eps=more.get("epsilon", 1e-5))
        return normed * gamma + (beta[0] if beta else 0)

    label = spelled({"x": list(x), "axis": axis, "scale": list(scale), "bias": bias, **more})
    return case("LayerNormalization", numbers(*x), *weights, judge=judge, label=label, axis=axis, **more)


def statistics(x: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """All three outputs of a LayerNormalization over the last two axes."""
    mean = x.mean((-2, -1), keepdim=True)
    inverse = ((x - mean) ** 2).mean((-2, -1), keepdim=True).add(1e-5).rsqrt()
    return (x - mean) * inverse * doubles(scale)[0], mean, inverse


STATISTICS = case(
    "LayerNormalization",
    numbers(2, 3, 4),
    Const(numbers(3, 4, low=0.5, high=2.0, seed=1)),
    judge=statistics,
    label="all-outputs",
    outputs=("y", "mean", "deviation"),
    axis=1,
)


def groups(op_version: int, *shape: int) -> Case:
    """At opset 21 one scale per channel; the operator's function body is differentiated."""

    def judge(x: torch.Tensor, s: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return F.group_norm(x, 2, *doubles(s, b), eps=1e-3)

    c = shape[1]
    given = (
        Const(numbers(c, low=0.5, high=2.0, seed=1).astype(np.float32)),
        Const(numbers(c, seed=2).astype(np.float32)),
    )
    formula = lambda x, s, b: judge(*doubles(x, s, b)).numpy()  # noqa: E731 - the function computes in float32
    return case(
        "GroupNormalization",
        numbers(*shape),
        *given,
        judge=judge,
        label=f"{op_version}-{shape}",
        opset=op_version,
        formula=formula,
        num_groups=2,
        epsilon=1e-3,
    )


def neighbours(x: torch.Tensor, size: int, alpha: float, beta: float, bias: float) -> torch.Tensor:
    """Channel by channel, as the specification's text says it."""
    c, low, high = x.shape[1], (size - 1) // 2, -(-(size - 1) // 2)
    sums = [x[:, max(i - low, 0) : min(i + high, c - 1) + 1].square().sum(1) for i in range(c)]
    return x / (bias + alpha / size * torch.stack(sums, 1)) ** beta


def lrn(x: tuple[int, ...], size: int, **more: float) -> Case:
    values = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0} | more
    judge = lambda x: neighbours(x, size, **values)  # noqa: E731 - one judge per case
    # ONNX's reference implementation takes the number of rows for that of the channels.
    formula = lambda x: judge(torch.as_tensor(x)).numpy()  # noqa: E731 - the same in numpy
    label = spelled({"x": list(x), "size": size, **more})
    return case("LRN", numbers(*x), judge=judge, label=label, formula=formula, size=size, **more)


def normed(x: torch.Tensor, axis: int, p: int) -> torch.Tensor:
    return x / (x.abs().sum(axis, True) if p == 1 else x.square().sum(axis, True).sqrt())


def lp(axis: int | None, p: int | None) -> Case:
    judge = lambda x: normed(x, -1 if axis is None else axis, p or 2)  # noqa: E731 - one judge per case
    # ONNX's reference implementation divides by the sum of x where p is 1, not of |x|.
    formula = lambda x: judge(torch.as_tensor(x)).numpy()  # noqa: E731 - the same in numpy
    return case("LpNormalization", numbers(2, 3, 4), judge=judge, formula=formula, axis=axis, p=p)


CASES = [
    STATISTICS,
    batch_case(2, 3),
    batch_case(2, 3, 4),
    batch_case(2, 3, 4, 5, epsilon=1e-2),
    batch_case(1, 3, 2, 3, 2),
    instance_case(2, 3, 5),
    instance_case(2, 3, 4, 5, epsilon=1e-2),
    instance_case(1, 3, 2, 3, 2),
    *(
        layer_case(axis, scale, bias)
        for axis, scale in [(None, (4,)), (-1, (4,)), (2, (4,)), (1, (3, 4)), (-2, (3, 4))]
        for bias in (False, True)
    ),
    layer_case(0, (2, 3, 4), True),
    layer_case(1, (4,), True),
    layer_case(-1, (4,), True, epsilon=1e-2),
    layer_case(-1, (1,), False),
    groups(21, 2, 4, 5),
    groups(21, 1, 6, 3, 2),
    lrn((1, 5, 3, 2), 3),
    lrn((2, 5, 3, 2), 3, alpha=0.5, beta=0.6, bias=1.5),
    lrn((2, 3, 2, 2), 5, alpha=0.5),
    lrn((2, 4, 3, 1), 1, alpha=0.5),
    *(lp(axis, p) for axis in (None, 0, 1, -1) for p in (None, 1, 2)),
]


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


WEIGHTS = [Const(value) for value in (SCALE, BIAS, MEAN, VARIANCE)]
REFUSED = [
    (
        case("BatchNormalization", numbers(2, 3, 4), *WEIGHTS, judge=None, outputs=("y", "m", "v"), training_mode=1),
        "attribute training_mode=1 is not covered",
        "y",
    ),
    (
        case("InstanceNormalization", numbers(2, 3, 4), SCALE, Const(BIAS), judge=None),
        "the gradient with respect to its input 'x1.only'",
        "y",
    ),
]


@pytest.mark.parametrize(("subject", "reason", "output"), REFUSED, ids=lambda value: str(value)[:30])
def test_refusals_name_operator_node_opset_and_attribute(subject: Case, reason: str, output: str) -> None:
    with pytest.raises(explain.UnsupportedOperator, match=reason) as caught:
        explain.compile(subject.model(items=True), "vjp", output=output)
    assert (caught.value.op, caught.value.node, caught.value.opset) == (subject.op, "under_test", 18)
