"""Nodes that ONNX Runtime writes into optimised files: expansions against PyTorch, differences and its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

import explain
from explain.prepare.expansions import EXPANSIONS, MICROSOFT
from tests.explain.single import (
    Case,
    Const,
    assert_close,
    case,
    check,
    declare_ranks,
    forward,
    numbers,
    session,
    spelled,
    variants,
)

F = torch.nn.functional


def fused(op: str, *inputs: Any, judge: Callable[..., Any], label: str = "", also: Any = (), **given: Any) -> Case:
    """A case of com.microsoft; no reference but ONNX Runtime knows these, so differences are those of the judge."""

    def formula(*operands: Any) -> np.ndarray:
        return np.asarray(judge(*(None if x is None else torch.as_tensor(np.asarray(x)) for x in operands)))

    return case(
        op, *inputs, judge=judge, formula=formula, label=label or spelled(given), also=also, domain=MICROSOFT, **given
    )


ACTIVATIONS: list[tuple[str, list[float], Callable[[torch.Tensor], torch.Tensor]]] = [
    ("Relu", [], torch.relu),
    ("Tanh", [], torch.tanh),
    ("Sigmoid", [], torch.sigmoid),
    ("LeakyRelu", [0.2], lambda x: F.leaky_relu(x, 0.2)),
    ("Clip", [-0.5, 1.5], lambda x: x.clamp(-0.5, 1.5)),
    ("HardSigmoid", [0.3, 0.4], lambda x: (0.3 * x + 0.4).clamp(0, 1)),
]
W, B = Const(numbers(4, 2, 3, 3, seed=1)), Const(numbers(4, seed=2))
CASES = [
    fused(
        "FusedConv",
        numbers(2, 2, 5, 6),
        W,
        B,
        judge=lambda x, w, b, f=f: f(F.conv2d(x, w, b, 2, 1)),
        also=((numbers(1, 2, 7, 4), W, B),),
        activation=name,
        activation_params=given or None,
        pads=[1, 1, 1, 1],
        strides=[2, 2],
    )
    for name, given, f in ACTIVATIONS
]
CASES += [
    fused("FusedConv", numbers(2, 2, 5, 6), W, judge=lambda x, w: F.conv2d(x, w), label="plain"),
    fused(
        "FusedConv",
        numbers(2, 2, 5, 6),
        W,
        B,
        numbers(2, 4, 3, 4, seed=5),
        judge=lambda x, w, b, z: torch.relu(F.conv2d(x, w, b) + z),
        label="residual",
        activation="Relu",
    ),
    fused(
        "FusedGemm",
        numbers(3, 2),
        Const(numbers(4, 3)),
        Const(numbers(4)),
        judge=lambda a, b, c: F.leaky_relu(0.5 * a.T @ b.T + 2 * c, 0.2),
        activation="LeakyRelu",
        activation_alpha=0.2,
        alpha=0.5,
        beta=2.0,
        transA=1,
        transB=1,
    ),
    fused("FusedGemm", numbers(2, 3), Const(numbers(3, 4)), judge=lambda a, b: torch.tanh(a @ b), activation="Tanh"),
]


def turned_product(alpha: float, transA: int, transB: int, **_: Any) -> Callable[..., torch.Tensor]:
    return lambda a, b: alpha * (a.mT if transA else a) @ (b.mT if transB else b)


CASES += [
    fused(
        op,
        numbers(*((2, 3, 4) if given["transA"] else (2, 4, 3))),
        numbers(*((2, 5, 3) if given["transB"] else (2, 3, 5)), seed=1),
        judge=turned_product(**given),
        **given,
    )
    for op, given in [
        *(("FusedMatMul", given) for given in variants(alpha=[1.0, 0.3], transA=[0, 1], transB=[0, 1])),
        ("TransposeMatMul", {"alpha": 0.5, "transA": 0, "transB": 1}),
    ]
]
X, BIAS = numbers(2, 3, 6), numbers(6, seed=4)
WIDER = numbers(4, 2, 6, seed=9)
CASES += [
    fused("Gelu", X, judge=F.gelu),
    fused("BiasGelu", X, Const(BIAS), judge=lambda x, b: F.gelu(x + b), also=((WIDER, Const(BIAS)),)),
    fused("FastGelu", X, judge=lambda x: F.gelu(x, approximate="tanh")),
    fused("FastGelu", X, BIAS, judge=lambda x, b: F.gelu(x + b, approximate="tanh"), label="bias"),
    fused("QuickGelu", X, judge=lambda x: x * torch.sigmoid(1.702 * x)),
    fused("QuickGelu", X, judge=F.silu, alpha=1.0),
]


def normalized(x: torch.Tensor, g: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
    return F.layer_norm(x, (6,), g, b, 1e-3)


def root_normalized(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (6,), g, 1e-3)


SCALE, SHIFT = Const(numbers(6, low=0.5, high=1.5)), Const(numbers(6, seed=3))
SKIP = numbers(2, 3, 6, seed=8)
CASES += [
    fused(
        "SkipLayerNormalization",
        X,
        skip,
        SCALE,
        SHIFT,
        *bias,
        judge=lambda x, s, g, b, c=0: normalized(x + s + c, g, b),
        label=f"{skip.shape}-{len(bias)}",
        epsilon=1e-3,
    )
    for skip in (SKIP, SKIP[:1], SKIP[0])
    for bias in ([], [Const(BIAS)])
]
CASES += [
    fused(
        "SkipLayerNormalization",
        X,
        SKIP,
        SCALE,
        judge=lambda x, s, g: normalized(x + s, g),
        label="no-beta",
        epsilon=1e-3,
    ),
    fused(
        "SkipSimplifiedLayerNormalization",
        X,
        SKIP,
        SCALE,
        Const(BIAS),
        judge=lambda x, s, g, b: root_normalized(x + s + b, g),
        epsilon=1e-3,
    ),
    fused(
        "SkipSimplifiedLayerNormalization",
        X,
        SKIP,
        SCALE,
        judge=lambda x, s, g: root_normalized(x + s, g),
        label="no-bias",
        epsilon=1e-3,
    ),
]
IDS, KINDS = (Const(np.array(i, np.int32)) for i in ([[1, 4, 0], [2, 2, 3]], [[0, 1, 1], [0, 0, 1]]))
PLACES = Const(np.array([[2, 1, 0]], np.int32))
WORDS, POSITIONS, SEGMENTS = numbers(5, 6), numbers(4, 6, seed=1), numbers(2, 6, seed=2)


def embedded(ids: Any, kinds: Any, w: Any, p: Any, s: Any, g: Any, b: Any, _: Any = None, at: Any = None) -> Any:
    total = w[ids] + (p[: ids.shape[1]] if at is None else p[at])
    return normalized(total if kinds is None else total + s[kinds], g, b)


CASES += [
    fused(
        "EmbedLayerNormalization", IDS, KINDS, WORDS, POSITIONS, SEGMENTS, SCALE, SHIFT, judge=embedded, epsilon=1e-3
    ),
    fused(
        "EmbedLayerNormalization",
        *(IDS, None, WORDS, POSITIONS, None, SCALE, SHIFT, None, PLACES),
        judge=embedded,
        label="positions",
        epsilon=1e-3,
    ),
]


def rotated(x: torch.Tensor, at: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, **given: int) -> torch.Tensor:
    """As complex numbers: the pairs of a head times cos + i sin of their position."""
    heads = x if x.ndim == 4 else x.reshape(*x.shape[:2], given.get("num_heads") or x.shape[2] // 4, -1).transpose(1, 2)
    where = at if at.ndim == 2 else (at + torch.arange(heads.shape[2]))[None]
    angles = torch.complex(cos[where], sin[where])[:, None]
    r = 2 * cos.shape[1]
    turn, rest = heads[..., :r], heads[..., r:]
    if given.get("interleaved"):
        z = torch.complex(turn[..., 0::2], turn[..., 1::2]) * angles
        y = torch.stack([z.real, z.imag], -1).reshape(turn.shape)
    else:
        z = torch.complex(turn[..., : r // 2], turn[..., r // 2 :]) * angles
        y = torch.cat([z.real, z.imag], -1)
    y = torch.cat([y, rest], -1)
    return y if x.ndim == 4 else y.transpose(1, 2).reshape(x.shape)


ANGLES = np.arange(7)[:, None] * np.array([1.0, 0.1])
AT = {"each": Const(np.array([[0, 1, 2], [3, 5, 6]])), "from": Const(np.array([2]))}
CASES += [
    fused(
        "RotaryEmbedding",
        numbers(*x),
        AT[at],
        Const(np.cos(ANGLES)),
        Const(np.sin(ANGLES)),
        judge=lambda x, i, c, s, g=given: rotated(x, i, c, s, **g),
        label=f"{x}-{at}-{given}",
        **given,
    )
    for x, given in [
        ((2, 3, 8), {}),
        ((2, 3, 8), {"interleaved": 1}),
        ((2, 2, 3, 4), {}),
        ((2, 3, 12), {"num_heads": 2, "rotary_embedding_dim": 4}),
    ]
    for at in AT
]


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_the_kernel_of_the_runtime_computes_the_same(subject: Case) -> None:
    same_as_kernel(subject)


def same_as_kernel(subject: Case) -> None:
    """The node itself on ONNX Runtime in float32 against the judge's formula."""
    feeds = {name: x.astype(np.float32) for name, x in subject.variables.items()}
    proto = subject.model()
    if subject.op == "EmbedLayerNormalization":
        proto.graph.node[0].output.append("counted")  # its kernel wants two outputs
    found = session(proto).run(["y"], feeds | subject.fed)[0]
    assert_close(found, forward(subject)(subject.variables)["y"], 1e-4, "forward value of the kernel")


def test_a_formula_that_is_not_the_kernels_is_seen() -> None:
    with pytest.raises(AssertionError, match="forward value of the kernel"):
        same_as_kernel(fused("Gelu", X, judge=F.silu))


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_every_expansion_keeps_the_precision_of_its_model(dtype: str) -> None:
    kind = {"float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16}[dtype]
    for subject in CASES:
        proto = subject.model(dtype, items=True)
        declare_ranks(proto, forward(subject)(subject.variables))
        for value in (*proto.graph.output, *proto.graph.value_info):
            value.type.tensor_type.elem_type = kind if value.name.startswith("y") else value.type.tensor_type.elem_type
        program = explain.compile(proto, "vjp")
        onnx.checker.check_model(program.model, full_check=True)
        kinds = {value.type.tensor_type.elem_type for value in program.model.graph.output if ".gradient" in value.name}
        assert kinds == {{"float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT}[dtype]}, str(subject)


REFUSED = [
    (fused("FusedConv", X, W, judge=F.conv2d, activation="Wobble"), "attribute activation='Wobble' is not covered"),
    (fused("FusedMatMul", X, X, judge=torch.matmul, transBatchA=1), "attribute transBatchA=1 is not covered"),
    (
        fused("RotaryEmbedding", X, AT["from"], Const(ANGLES), Const(ANGLES), judge=rotated, scale=2.0),
        "scale other than 1 are not covered",
    ),
    (fused("NhwcFusedConv", X, W, judge=F.conv2d), "no gradient rule for com.microsoft::NhwcFusedConv"),
    (fused("QMoE", X, judge=F.silu), "no gradient rule for com.microsoft::QMoE"),
]


@pytest.mark.parametrize(("subject", "reason"), REFUSED, ids=lambda value: str(value)[:30])
def test_refusals_name_operator_node_opset_and_attribute(subject: Case, reason: str) -> None:
    proto = subject.model(items=True)
    declare_ranks(proto, {"y": X})
    with pytest.raises(explain.UnsupportedOperator, match=reason) as caught:
        explain.compile(proto, "vjp")
    assert (caught.value.op, caught.value.node, caught.value.opset) == (subject.op, "under_test", 18)


def test_every_fused_operator_has_a_case() -> None:
    from tests.explain.test_rules_attention import CASES as ATTENTION
    from tests.explain.test_rules_quantized import TESTED as BYTES

    tested = {subject.op for subject in (*CASES, *ATTENTION)} | {op for op in BYTES if (MICROSOFT, op) in EXPANSIONS}
    assert {op for domain, op in EXPANSIONS if domain == MICROSOFT} == tested
