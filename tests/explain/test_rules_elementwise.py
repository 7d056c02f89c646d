"""Elementwise operators: activations, arithmetic, selection, their kinks and their broadcasting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

import explain
from tests.explain.graphs import made, run
from tests.explain.single import Case, Const, Fed, case, check, gradients, numbers

F = torch.nn.functional
X = numbers(2, 3, 4)
POSITIVE = numbers(2, 5, low=0.2, high=3.0)
INSIDE = numbers(2, 5, low=-0.9, high=0.9)
WIDE = numbers(3, 7, low=-6.0, high=6.0)

SMOOTH = [
    case("Identity", X, judge=lambda x: x),
    case("Neg", X, judge=torch.neg),
    case("Exp", X, judge=torch.exp),
    case("Log", POSITIVE, judge=torch.log),
    case("Sqrt", POSITIVE, judge=torch.sqrt),
    case("Reciprocal", POSITIVE, judge=torch.reciprocal),
    case("Erf", X, judge=torch.erf, step=1e-3),
    case("Sin", X, judge=torch.sin),
    case("Cos", X, judge=torch.cos),
    case("Tan", INSIDE, judge=torch.tan),
    case("Sinh", X, judge=torch.sinh),
    case("Cosh", X, judge=torch.cosh),
    case("Tanh", X, judge=torch.tanh),
    case("Asin", INSIDE, judge=torch.asin),
    case("Acos", INSIDE, judge=torch.acos),
    case("Atan", X, judge=torch.atan),
    case("Asinh", X, judge=torch.asinh),
    case("Acosh", numbers(2, 5, low=1.2, high=4.0), judge=torch.acosh),
    case("Atanh", INSIDE, judge=torch.atanh),
    case("Sigmoid", X, judge=torch.sigmoid),
    case("Softplus", X, judge=F.softplus),
    case("Softsign", X, judge=F.softsign),
    case("Mish", X, judge=F.mish),
    case("Dropout", X, judge=lambda x: x),
    case("Dropout", X, Const(np.float32(0.4)), Const(np.array(False)), judge=lambda x, *_: x, label="stated"),
    case("Dropout", X, judge=lambda x: x, outputs=("y", "mask"), label="mask"),
]
PIECEWISE = [
    case("Abs", X, judge=torch.abs),
    case("Relu", X, judge=torch.relu),
    case("LeakyRelu", X, judge=lambda x: F.leaky_relu(x, 0.01)),
    case("LeakyRelu", X, judge=lambda x: F.leaky_relu(x, 0.3), alpha=0.3),
    case("Elu", X, judge=F.elu),
    case("Elu", X, judge=lambda x: F.elu(x, 0.7), alpha=0.7),
    case("Selu", X, judge=F.selu),
    case("Selu", X, judge=lambda x: 1.5 * torch.where(x > 0, x, 2.0 * (x.exp() - 1)), alpha=2.0, gamma=1.5),
    case("Celu", X, judge=F.celu),
    case("Celu", X, judge=lambda x: F.celu(x, 0.6), alpha=0.6),
    case("ThresholdedRelu", X, judge=lambda x: F.threshold(x, 1.0, 0.0)),
    case("ThresholdedRelu", X, judge=lambda x: F.threshold(x, 0.5, 0.0), alpha=0.5),
    case("HardSigmoid", WIDE, judge=lambda x: (0.2 * x + 0.5).clamp(0, 1)),
    case("HardSigmoid", WIDE, judge=lambda x: (0.3 * x + 0.1).clamp(0, 1), alpha=0.3, beta=0.1),
    case("HardSwish", WIDE, judge=F.hardswish),
    case("PRelu", X, numbers(4, seed=1), judge=lambda x, s: torch.where(x > 0, x, s * x), label="channels-last"),
    case("PRelu", X, numbers(3, 1, seed=1), judge=lambda x, s: torch.where(x > 0, x, s * x), label="per-channel"),
    case("PRelu", X, numbers(1, seed=1), judge=lambda x, s: torch.where(x > 0, x, s * x), label="one-slope"),
    case("Clip", X, Const(-0.7), Const(1.1), judge=lambda x, a, b: x.clamp(float(a), float(b)), label="both"),
    case("Clip", X, Const(-0.7), judge=lambda x, a: x.clamp(min=float(a)), label="low"),
    case("Clip", X, None, Const(0.9), judge=lambda x, _, b: x.clamp(max=float(b)), label="high"),
    case("Clip", X, judge=lambda x: x, label="none"),
    case("Clip", X, np.array(-0.51), np.array(0.81), judge=torch.clamp, label="bounds-that-vary"),
    case("Clip", X, np.array(0.51), np.array(0.31), judge=torch.clamp, label="bounds-crossed"),
    case("Clip", X, None, np.array(0.51), judge=lambda x, _, b: torch.clamp(x, max=b), label="high-that-varies"),
]


def shaped(a: tuple[int, ...], b: tuple[int, ...], low: float = -2.0) -> tuple[np.ndarray, np.ndarray]:
    return numbers(*a, low=low), numbers(*b, low=low, high=2.1, seed=1)


# Every way two operands can meet; `also` runs the program that was compiled with open dimensions at other sizes, where
# other axes are the broadcast ones.
MEETINGS = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 3), ()),
    ((), (2, 3)),
    ((2, 1), (1, 3)),
    ((1,), (2, 3)),
]
BINARIES = {
    "Add": (torch.add, -2.0),
    "Sub": (torch.sub, -2.0),
    "Mul": (torch.mul, -2.0),
    "Div": (torch.div, 0.3),
    "Pow": (torch.pow, 0.3),
    "Max": (torch.maximum, -2.0),
    "Min": (torch.minimum, -2.0),
    "Sum": (torch.add, -2.0),
    "Mean": (lambda a, b: (a + b) / 2, -2.0),
}
# ONNX's reference implementation of Mean does not broadcast its first operand.
FORMULAS = {"Mean": lambda a, b: (a + b) / 2}
BINARY = [
    case(op, *shaped(a, b, low), judge=judge, label=f"{a}{b}".replace(" ", ""), formula=FORMULAS.get(op))
    for op, (judge, low) in BINARIES.items()
    for a, b in MEETINGS
]
RESIZED = tuple(shaped(a, b, 0.3) for a, b in [((2, 5), (1, 5)), ((1, 4), (3, 1)), ((1, 1), (2, 2)), ((3, 1), (3, 1))])
BINARY += [
    case(op, *shaped((2, 3), (2, 3), 0.3), judge=judge, label="other-sizes", also=RESIZED, formula=FORMULAS.get(op))
    for op, (judge, _) in BINARIES.items()
]
SELECTION = [
    case("Sum", X, judge=lambda x: x, label="one"),
    case("Sum", X, numbers(3, 1, seed=1), numbers(4, seed=2), judge=lambda a, b, c: a + b + c, label="three"),
    case("Mean", X, numbers(3, 1, seed=1), numbers(4, seed=2), judge=lambda a, b, c: (a + b + c) / 3, label="three"),
    case("Max", X, numbers(4, seed=1), judge=torch.maximum, label="two"),
    case("Min", X, judge=lambda x: x, label="one"),
    case(
        "Max",
        X,
        numbers(3, 1, seed=1),
        Const(0.05),
        judge=lambda a, b, c: torch.maximum(torch.maximum(a, b), c.to(a)),
        label="three-with-a-constant",
    ),
    case("Pow", X, Const(3.0), judge=lambda x, _: x**3, label="cube"),
    case("Pow", X, Const(np.array(2)), judge=lambda x, _: x**2, label="integer-exponent"),
    case("Pow", X, Const(np.array([1, 2, 3, 4])), judge=torch.pow, label="integer-exponents"),
    case("Pow", np.array([0.0, 0.5, -1.0]), Const(np.zeros(3)), judge=torch.pow, label="to-the-zeroth"),
    case("Pow", np.array([0.0, 0.5, -1.0]), Const(np.array([1.0, 2.0, 3.0])), judge=torch.pow, label="at-zero"),
    case("Mod", POSITIVE, Const(0.75), judge=lambda x, _: x % 0.75, fmod=1),
    case("Mod", POSITIVE, Const(np.linspace(0.5, 1, 5)), judge=torch.fmod, fmod=1, label="row-of-divisors"),
    case("Mod", numbers(5, low=0.1, high=0.9), Const(np.ones((2, 1))), judge=torch.fmod, fmod=1, label="broadcast"),
    case("Where", Fed(numbers(2, 3) > 0), *shaped((2, 3), (2, 3)), judge=torch.where, label="same"),
    case("Where", Fed(numbers(3) > 0), *shaped((2, 1), (1,)), judge=torch.where, label="broadcast-operands"),
    case("Where", Fed(numbers(4, 2, 3) > 0), *shaped((2, 3), ()), judge=torch.where, label="broadcast-all"),
    case(
        "Where",
        Fed(numbers(2, 3) > 0),
        *shaped((2, 3), (1, 3)),
        judge=torch.where,
        label="other-sizes",
        also=((Fed(numbers(1, 4) > 0), *shaped((3, 1), (3, 4))), (Fed(numbers(2, 1) > 0), *shaped((2, 5), (1, 1)))),
    ),
    case("Cast", X, judge=lambda x: x, to=TensorProto.FLOAT, label="same", step=1e-2),
    case("CastLike", X, Const(np.zeros(1, np.float32)), judge=lambda x, _: x, label="same", step=1e-2),
]
CASES = SMOOTH + PIECEWISE + BINARY + SELECTION


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


# At a kink the convention of rules/__init__ holds; the second number is what PyTorch's autograd gives there.
KINKS = [
    ("Relu", {}, 0.0, torch.relu),
    ("Abs", {}, 0.0, torch.abs),
    ("LeakyRelu", {"alpha": 0.25}, 0.0, lambda x: F.leaky_relu(x, 0.25)),
    ("ThresholdedRelu", {"alpha": 1.0}, 1.0, lambda x: F.threshold(x, 1.0, 0.0)),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, 3.0, F.hardsigmoid),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, -3.0, F.hardsigmoid),
    ("HardSwish", {}, 3.0, F.hardswish),
    ("HardSwish", {}, -3.0, F.hardswish),
    ("Elu", {"alpha": 0.5}, 0.0, lambda x: F.elu(x, 0.5)),
    ("Celu", {"alpha": 0.5}, 0.0, lambda x: F.celu(x, 0.5)),
    ("Selu", {}, 0.0, F.selu),
]


@pytest.mark.parametrize(("op", "attributes", "at", "judge"), KINKS, ids=[f"{k[0]}-{k[2]}" for k in KINKS])
def test_conventions_at_kinks_are_those_of_pytorch(op: str, attributes: dict, at: float, judge: object) -> None:
    subject = case(op, np.full(1, at), judge=judge, **attributes)
    x = torch.full((1,), at, dtype=torch.float32, requires_grad=True)
    judge(x).backward()
    assert gradients(subject)["x0"] == pytest.approx(x.grad.numpy(), abs=1e-6)


def test_a_clamp_passes_the_gradient_at_its_bounds() -> None:
    subject = case("Clip", np.array([-1.0, 0.5, 1.0, 1.5]), Const(-1.0), Const(1.0), judge=None)
    assert gradients(subject)["x0"].tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_ties_share_the_gradient_equally(op: str) -> None:
    subject = case(op, np.array([1.0, 2.0]), np.array([1.0, 3.0]), np.array([1.0]), judge=None)
    found = gradients(subject)
    first = {"Max": ([1 / 3, 0], [1 / 3, 1]), "Min": ([1 / 3, 0], [1 / 3, 0])}[op]
    assert found["x0"] == pytest.approx(first[0])
    assert found["x1"] == pytest.approx(first[1])
    assert found["x2"] == pytest.approx([1 / 3 + (op == "Min")])


def test_the_gradient_passes_a_cast_to_half_precision_and_back() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["half", "half"], ["square"]),
        helper.make_node("CastLike", ["square", "x"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    graph = helper.make_graph(nodes, "half", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    found = gradients(model, {"x": np.array([[0.5, -1.0, 2.0]], np.float32)})
    assert found["x"].dtype == np.float32
    assert found["x"].tolist() == [[1.0, -2.0, 4.0]]


def test_an_integer_cast_ends_the_gradient() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Cast", ["whole"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["back", "x"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    graph = helper.make_graph(nodes, "whole", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    found = gradients(model, {"x": np.array([[0.5, -1.25, 2.75]], np.float32)})
    assert found["x"].tolist() == [[0.0, -1.0, 2.0]]


REFUSED = [
    (case("Dropout", X, Const(np.float32(0.4)), Const(np.array(True)), judge=None), "training mode"),
    (case("Dropout", X, Const(np.float32(0.4)), Fed(np.array(False)), judge=None), "training mode"),
    (case("Mod", POSITIVE, Fed(np.float32(0.75)), judge=None, fmod=1), "the divisor is computed"),
]


@pytest.mark.parametrize(("subject", "reason"), REFUSED, ids=lambda value: str(value)[:20])
def test_refusals_name_operator_node_and_opset(subject: Case, reason: str) -> None:
    with pytest.raises(explain.UnsupportedOperator, match=reason) as caught:
        explain.compile(subject.model(items=True), "vjp")
    assert (caught.value.op, caught.value.node, caught.value.opset) == (subject.op, "under_test", 18)


@pytest.mark.parametrize("op", ["Sqrt", "Log", "Pow", "Reciprocal"])
def test_a_choice_that_was_not_taken_has_no_part_in_the_gradient(op: str) -> None:
    """where(x > 0, op(x), x): below 0 the slope of op is no number or infinite, and nobody asks for it."""
    given = ["x", "p"] if op == "Pow" else ["x"]
    nodes = [
        ("Greater", ["x", "zero"], ["c"]),
        (op, given, ["s"]),
        ("Where", ["c", "s", "x"], ["y"]),
    ]
    weights = {"zero": np.float32(0), "p": np.float32(0.5)}
    weights = weights if op == "Pow" else {"zero": weights["zero"]}
    model = made(nodes, {"x": ("float32", ["n"])}, {"y": ("float32", ["n"])}, weights)
    x = np.array([-1.0, 4.0], np.float32)
    found = run(explain.compile(model, "vjp"), {"x": x, "y.cotangent": np.ones(2, np.float32)})["x.gradient"]
    np.testing.assert_allclose(found, [1.0, {"Log": 0.25, "Reciprocal": -0.0625}.get(op, 0.25)], rtol=1e-5)
