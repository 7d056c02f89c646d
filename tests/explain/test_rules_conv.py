"""Convolutions in one to three dimensions: groups, strides, dilations, asymmetric and automatic pads, open sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import explain
from tests.explain.single import Case, Const, Fed, case, check, declare_ranks, numbers, spelled

F = torch.nn.functional
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def same_pads(sizes: Any, kernel: Any, strides: Any, dilations: Any, auto: str) -> list[int]:
    """The specification's SAME pads: begins, then ends."""
    begins, ends = [], []
    for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if auto == "SAME_UPPER" else more)
        ends.append(more if auto == "SAME_UPPER" else less)
    return begins + ends


def padded(x: torch.Tensor, pads: list[int]) -> torch.Tensor:
    n = len(pads) // 2
    return F.pad(x, [pad for axis in reversed(range(n)) for pad in (pads[axis], pads[axis + n])])


def convolved(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None, **given: Any) -> torch.Tensor:
    n = w.ndim - 2
    strides, dilations = given.get("strides") or [1] * n, given.get("dilations") or [1] * n
    auto, pads = given.get("auto_pad"), given.get("pads") or [0] * 2 * n
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = same_pads(x.shape[2:], w.shape[2:], strides, dilations, auto)
    return CONV[n](padded(x, pads), w, b, strides, 0, dilations, given.get("group") or 1)


def conv(
    x: tuple[int, ...], w: tuple[int, ...], *, also: Any = (), label: str = "", bias: bool = False, **given: Any
) -> Case:
    operands = [Const(numbers(*w, seed=1)), *([Const(numbers(w[0], seed=2))] if bias else [])]
    others = tuple((numbers(*shape, seed=4), *operands) for shape in also)
    name = label or spelled({"x": list(x), "w": list(w), **given})
    return case(
        "Conv", numbers(*x), *operands, judge=lambda *xs: convolved(*xs, **given), label=name, also=others, **given
    )


CONVS = [
    conv((2, 3, 7), (4, 3, 3)),
    conv((2, 3, 7), (4, 3, 3), bias=True, strides=[2], label="bias"),
    conv((2, 4, 9), (6, 2, 3), group=2, pads=[1, 2], strides=[3], dilations=[2]),
    conv((1, 2, 5, 6), (3, 2, 3, 3)),
    conv((1, 2, 5, 6), (3, 2, 1, 1)),
    conv((1, 2, 5, 6), (3, 2, 1, 1), strides=[2, 2]),
    conv((1, 2, 5, 6), (3, 2, 3, 2), pads=[1, 0, 2, 1]),
    conv((1, 2, 5, 6), (3, 2, 3, 2), pads=[3, 0, 2, 4], label="pads-wider-than-the-kernel"),
    conv((2, 2, 8, 7), (3, 2, 3, 3), pads=[1, 1, 1, 1], strides=[2, 3]),
    conv((2, 2, 8, 8), (3, 2, 3, 3), strides=[3, 3], label="even-size-uncovered-end"),
    conv((2, 16, 8, 7), (4, 16, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2], label="sixteen-channels-strided"),
    conv((2, 32, 8, 7), (4, 16, 1, 1), group=2, strides=[2, 2], label="sixteen-channels-a-group-strided"),
    conv((1, 2, 9, 8), (3, 2, 3, 3), dilations=[2, 3], pads=[2, 1, 0, 3]),
    conv((1, 4, 6, 5), (4, 1, 3, 3), group=4, pads=[1, 1, 1, 1], label="depthwise"),
    conv((1, 4, 6, 5), (8, 1, 3, 3), group=4, pads=[1, 1, 1, 1], strides=[2, 2], label="depthwise-multiplied-strided"),
    conv((1, 6, 6, 5), (4, 3, 2, 3), group=2, pads=[0, 1, 1, 0]),
    conv((1, 2, 4, 5, 4), (3, 2, 2, 3, 2)),
    conv((1, 2, 4, 5, 4), (4, 1, 2, 3, 2), group=2, strides=[2, 1, 2], pads=[1, 0, 0, 0, 1, 1], dilations=[1, 2, 1]),
    conv((1, 2, 5, 6), (3, 2, 3, 3), kernel_shape=[3, 3]),
]
OPEN = [(2, 2, 6, 5), (1, 2, 9, 9), (3, 2, 4, 7)]
CONVS += [
    conv((1, 2, 7, 8), (3, 2, *kernel), also=OPEN, auto_pad=auto, strides=strides, dilations=dilations)
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
    for kernel, strides, dilations in [((3, 2), None, None), ((2, 3), [2, 3], None), ((3, 3), [1, 2], [1, 1])]
]
# ONNX Runtime's convolution takes SAME pads with dilations; ONNX's reference implementation does not know both.
CONVS += [
    conv((2, 3, 7), (4, 3, 3), also=[(1, 3, 8)], auto_pad=auto, strides=[2]) for auto in ("SAME_UPPER", "SAME_LOWER")
]
CONVS += [
    conv(
        (1, 2, 7, 8), (4, 1, 3, 3), also=OPEN, group=2, strides=[2, 2], pads=[1, 0, 2, 1], label="other-sizes-strided"
    ),
    conv((1, 2, 7, 8), (4, 1, 3, 3), also=OPEN, group=2, pads=[1, 0, 2, 1], label="other-sizes"),
]


def transposed(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None, **given: Any) -> torch.Tensor:
    """Without pads, then extended by output_padding at the end, then cut by the pads."""
    n = w.ndim - 2
    strides, dilations = given.get("strides") or [1] * n, given.get("dilations") or [1] * n
    pads, extra = given.get("pads") or [0] * 2 * n, given.get("output_padding") or [0] * n
    whole = TRANSPOSED[n](x, w, None, strides, 0, 0, given.get("group") or 1, dilations)
    y = padded(whole, [0] * n + extra)
    y = padded(y, [-pad for pad in pads])
    return y if b is None else y + b.reshape(1, -1, *[1] * n)


def up(
    x: tuple[int, ...], w: tuple[int, ...], *, also: Any = (), label: str = "", bias: bool = False, **given: Any
) -> Case:
    operands = [Const(numbers(*w, seed=1))]
    if bias:
        operands.append(Const(numbers(w[1] * (given.get("group") or 1), seed=2)))
    others = tuple((numbers(*shape, seed=4), *operands) for shape in also)
    name = label or spelled({"x": list(x), "w": list(w), **given})
    judge = lambda *xs: transposed(*xs, **given)  # noqa: E731 - one judge per case
    # ONNX's reference implementation fails for groups of several channels: differences of the judge itself there.
    formula = (lambda *xs: judge(*map(torch.as_tensor, xs)).numpy()) if given.get("group") else None
    return case("ConvTranspose", numbers(*x), *operands, judge=judge, label=name, also=others, formula=formula, **given)


CONVS += [
    up((2, 3, 5), (3, 4, 3)),
    up((2, 3, 5), (3, 4, 3), strides=[2], pads=[1, 0], output_padding=[1], bias=True),
    up((1, 2, 4, 3), (2, 3, 3, 3)),
    up((1, 2, 4, 3), (2, 3, 3, 3), strides=[2, 3], pads=[1, 1, 1, 1], output_padding=[1, 2]),
    up((1, 2, 4, 3), (2, 3, 3, 3), strides=[2, 2], pads=[0, 1, 2, 0]),
    up((1, 2, 4, 3), (2, 3, 3, 2), dilations=[2, 3], pads=[1, 0, 2, 1]),
    up((1, 4, 4, 3), (4, 3, 3, 2), group=2, strides=[2, 1]),
    up((1, 4, 4, 3), (4, 1, 3, 3), group=4, label="depthwise"),
    up((1, 2, 3, 2, 3), (2, 2, 2, 2, 3), strides=[2, 1, 2], output_padding=[1, 0, 1]),
    up((1, 2, 4, 3), (2, 3, 3, 3), auto_pad="VALID", strides=[2, 2]),
    up(
        (1, 2, 4, 3),
        (2, 3, 3, 3),
        also=[(2, 2, 3, 5), (3, 2, 1, 1)],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        label="other-sizes",
    ),
]


def sized(pads: list[int], **given: Any) -> Case:
    """The size of the result is stated or follows from the strides; `pads` are those that give it."""
    judge = lambda x, w: transposed(x, w, strides=[2, 2], pads=pads)  # noqa: E731 - one judge per case
    formula = lambda *xs: judge(*map(torch.as_tensor, xs)).numpy()  # noqa: E731 - the same in numpy
    x, w = numbers(1, 2, 4, 3), Const(numbers(2, 3, 3, 3, seed=1))
    return case("ConvTranspose", x, w, judge=judge, formula=formula, strides=[2, 2], **given)


CONVS += [
    sized([0, 0, 1, 1], auto_pad="SAME_UPPER"),
    sized([1, 1, 0, 0], auto_pad="SAME_LOWER"),
    sized([2, 1, 1, 0], output_shape=[6, 6]),
    sized([0, 0, -1, 0], output_shape=[10, 7]),
]


def col2im(channels: int, image: Any, block: Any, also: Any = (), **given: Any) -> Case:
    """PyTorch's fold, which knows planes only and pads both sides alike."""
    pads = given.get("pads") or [0, 0, 0, 0]
    sides = {"dilation": given.get("dilations") or 1, "padding": tuple(pads[:2]), "stride": given.get("strides") or 1}
    judge = lambda x, *_: F.fold(x, tuple(image), tuple(block), **sides)  # noqa: E731 - one judge per case
    count = F.unfold(torch.zeros(1, 1, *image), tuple(block), **sides).shape[2]
    rows = channels * int(np.prod(block))
    operands = Const(np.array(image)), Const(np.array(block))
    return case(
        "Col2Im",
        numbers(2, rows, count),
        *operands,
        judge=judge,
        formula=lambda x, *_: judge(torch.as_tensor(x)).numpy(),
        label=spelled({"image": image, "block": block, **given}),
        also=((numbers(1, 2 * rows, count), *operands),),
        **given,
    )


FOLDED = [
    col2im(2, [5, 6], [2, 3]),
    col2im(1, [5, 6], [1, 5], pads=[0, 2, 0, 2]),
    col2im(3, [7, 6], [3, 2], strides=[2, 1], pads=[1, 1, 1, 1]),
    col2im(2, [8, 9], [2, 3], dilations=[2, 3], strides=[1, 2]),
]
FOLDED.append(
    case(
        "Col2Im",
        numbers(1, 2 * 8, 12),
        Const(np.array([3, 4, 3])),
        Const(np.array([2, 2, 2])),
        judge=lambda x, *_: added_up(x.reshape(1, 2, 2, 2, 2, 2, 3, 2)),
        formula=lambda x, *_: added_up(torch.as_tensor(x).reshape(1, 2, 2, 2, 2, 2, 3, 2)).numpy(),
        label="volume",
    )
)


def added_up(x: torch.Tensor) -> torch.Tensor:
    """Each place of a 2 x 2 x 2 block shifts all its blocks."""
    parts = [F.pad(x[:, :, i, j, k], (k, 1 - k, j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    return torch.stack(parts).sum(0)


CASES = CONVS + FOLDED


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


X, W = numbers(1, 2, 4, 3), Const(numbers(2, 3, 3, 3))
REFUSED = [
    (case("Conv", X, numbers(3, 2, 3, 3), judge=None), "the gradient with respect to its input 'x1.only'"),
    (case("ConvTranspose", X, numbers(2, 3, 3, 3), judge=None), "the gradient with respect to its input 'x1.only'"),
]


@pytest.mark.parametrize(("subject", "reason"), REFUSED, ids=lambda value: str(value)[:40])
def test_refusals_name_operator_node_opset_and_attribute(subject: Case, reason: str) -> None:
    with pytest.raises(explain.UnsupportedOperator, match=reason) as caught:
        explain.compile(subject.model(items=True), "vjp")
    assert (caught.value.op, caught.value.node, caught.value.opset) == (subject.op, "under_test", 18)


def test_a_kernel_of_unknown_size_is_refused() -> None:
    model = case("Conv", X, Fed(numbers(3, 2, 3, 3).astype(np.float32)), judge=None).model(declared=False, items=True)
    declare_ranks(model, {"y": numbers(1, 3, 2, 1)})
    with pytest.raises(explain.UnsupportedOperator, match="the kernel size is unknown; state 'kernel_shape'"):
        explain.compile(model, "vjp")
