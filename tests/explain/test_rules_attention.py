"""Attention and MultiHeadAttention as ONNX Runtime fuses them: every mask, biases, causality, heads of other widths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import explain
from tests.explain.single import Case, Const, check, declare_ranks, numbers
from tests.explain.test_rules_contrib import fused, same_as_kernel

HEADS = 2
FILTER = -10000.0


def attended(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, bias: Any, causal: bool, scale: float | None
) -> torch.Tensor:
    """Head by head and item by item."""
    rows = []
    for n in range(q.shape[0]):
        columns = []
        for h, (a, b, c) in enumerate(zip(*(x[n].chunk(HEADS, -1) for x in (q, k, v)), strict=True)):
            scores = a @ b.T * (scale or a.shape[1] ** -0.5)
            if mask is not None:
                scores = scores + torch.where(counted(mask, n, *scores.shape), 0.0, FILTER)
            if bias is not None:
                scores = scores + bias[n % bias.shape[0], h % bias.shape[1]]
            if causal:
                scores = scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -torch.inf)
            columns.append(torch.softmax(scores, -1) @ c)
        rows.append(torch.cat(columns, -1))
    return torch.stack(rows)


def counted(mask: torch.Tensor, n: int, queries: int, keys: int) -> torch.Tensor:
    """[queries, keys]: which keys item n counts."""
    if mask.ndim == 1:
        items = 2
        begin = int(mask[items + n]) if len(mask) > items else 0
        return ((torch.arange(keys) < int(mask[n])) & (torch.arange(keys) >= begin)).expand(queries, keys)
    return (mask[n] > 0).expand(queries, keys)


MASKS: dict[str, Any] = {
    "none": None,
    "ends": Const(np.array([2, 3], np.int32)),
    "ends-and-begins": Const(np.array([2, 3, 0, 1], np.int32)),
    "keys": Const(np.array([[1, 0, 1], [1, 1, 1]], np.int32)),
    "pairs": Const(np.array([[[1, 0, 1], [1, 1, 0], [1, 0, 0]], [[1, 1, 1], [0, 1, 0], [0, 0, 1]]], np.int32)),
}
X, W, B = numbers(2, 3, 4), Const(numbers(4, 12, seed=1)), Const(numbers(12, seed=2))
WIDE = Const(numbers(4, 14, seed=1)), Const(numbers(14, seed=2))
BIASES = [numbers(2, HEADS, 3, 3, seed=6), numbers(1, 1, 3, 3, seed=6)]


def attention(label: str, *rest: Any, w: Any = W, b: Any = B, **given: Any) -> Case:
    """X W + b, attended; `rest` is mask, past, bias."""
    widths = given.get("qkv_hidden_sizes") or [4, 4, 4]

    def judge(x: torch.Tensor, w: torch.Tensor, b: Any, mask: Any = None, _: Any = None, bias: Any = None) -> Any:
        product = x @ w if b is None else x @ w + b
        q, k, v = product.split(widths, -1)
        return attended(q, k, v, mask, bias, bool(given.get("unidirectional")), given.get("scale"))

    return fused("Attention", X, w, b, *rest, judge=judge, label=label, num_heads=HEADS, **given)


CASES = [attention(name, mask) for name, mask in MASKS.items()]
CASES += [
    attention("no-bias", b=None),
    attention("causal", MASKS["keys"], unidirectional=1),
    attention("scaled", scale=0.3),
    attention("wide", w=WIDE[0], b=WIDE[1], qkv_hidden_sizes=[4, 4, 6]),
    *(attention(f"added-{len(bias)}", None, None, bias) for bias in BIASES),
    attention("added-and-masked", MASKS["keys"], None, BIASES[0]),
]
Q, K, V = X, numbers(2, 3, 4, seed=3), numbers(2, 3, 6, seed=4)
SHORT = numbers(2, 2, 4, seed=5)


def between(label: str, q: np.ndarray, *rest: Any, also: Any = (), **given: Any) -> Case:
    """Attention of q to K and V; `rest` is the bias of the projections, mask, bias."""

    def judge(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, b: Any = None, mask: Any = None, bias: Any = None
    ) -> Any:
        parts = [q, k, v]
        if b is not None:
            parts = [x + y for x, y in zip(parts, b.split([4, 4, 6]), strict=True)]
        return attended(*parts, mask, bias, bool(given.get("unidirectional")), given.get("scale"))

    return fused("MultiHeadAttention", q, K, V, *rest, judge=judge, label=label, also=also, num_heads=HEADS, **given)


OTHER = (numbers(1, 5, 4), numbers(1, 2, 4), numbers(1, 2, 6))
CASES += [
    between("plain", Q, also=(OTHER,)),
    between("cross", SHORT),
    between("bias", Q, Const(numbers(14, seed=7))),
    between("keys", SHORT, None, MASKS["keys"]),
    between("ends", Q, None, MASKS["ends"]),
    between("pairs", Q, None, MASKS["pairs"]),
    between("added", Q, None, None, BIASES[0]),
    between("causal", Q, unidirectional=1),
    between("scaled", Q, scale=0.2),
]


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


# ONNX Runtime's Attention reads a bias of projections that is not there, and crashes.
RUNNING = [subject for subject in CASES if subject.label != "no-bias"]


@pytest.mark.parametrize("subject", RUNNING, ids=str)
def test_the_kernel_of_the_runtime_computes_the_same(subject: Case) -> None:
    same_as_kernel(subject)


PAST = Const(numbers(2, 2, HEADS, 3, 2))
REFUSED = [
    (attention("past", None, PAST), "its input 'past' is not covered"),
    (attention("rotary", do_rotary=1), "attribute do_rotary=1 is not covered"),
    (attention("square", Const(np.ones((2, 1, 3, 3), np.int32))), "a mask with 4 axes is not covered"),
    (between("past", Q, None, None, None, PAST), "its input 'past_key' is not covered"),
    (
        fused("MultiHeadAttention", numbers(2, 3, 2, 3, 2), judge=torch.matmul, num_heads=HEADS),
        "packed projections are not covered",
    ),
]


@pytest.mark.parametrize(("subject", "reason"), REFUSED, ids=lambda value: str(value)[:30])
def test_refusals_name_operator_node_opset_and_attribute(subject: Case, reason: str) -> None:
    proto = subject.model(items=True)
    declare_ranks(proto, {"y": X})
    with pytest.raises(explain.UnsupportedOperator, match=reason) as caught:
        explain.compile(proto, "vjp")
    assert (caught.value.op, caught.value.node, caught.value.opset) == (subject.op, "under_test", 18)
