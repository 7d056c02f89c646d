"""LSTM, GRU and RNN in every form: gradients of all their outputs against the equations in float64 (recurrences.py)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import explain
from tests.explain.recurrences import FUNCTIONS, GATES, recurrence
from tests.explain.single import Case, Const, case, numbers, session, spelled, variants
from tests.explain.single import check as check_case

X, H = 3, 4  # sizes of the input and of the state
PLACES = ("x", "w", "r", "b", "lengths", "h0", "c0", "p")
OUTPUTS = ("y", "yh", "yc")
BOUND = 1e-4
SIZES = ((5, 3), (1, 1), (7, 5))  # T, N
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Form:
    """A node: which inputs beside X, W and R it has, which outputs, its attributes."""

    op: str
    inputs: tuple[str, ...] = ("b",)
    outputs: tuple[str, ...] = OUTPUTS
    attributes: dict[str, Any] = field(default_factory=dict)
    scale: float = 0.7

    def __str__(self) -> str:
        """Name of the test."""
        return "-".join([self.op, *self.inputs, *(name or "none" for name in self.outputs), spelled(self.attributes)])

    @property
    def directions(self) -> int:
        """How many."""
        return 2 if self.attributes.get("direction") == "bidirectional" else 1

    @property
    def results(self) -> tuple[str, ...]:
        """Outputs that the operator has."""
        return self.outputs if self.op == "LSTM" else self.outputs[:2]

    @property
    def weights(self) -> Arrays:
        """Its constants."""
        d, rows, random = self.directions, GATES[self.op] * H, np.random.default_rng(0)
        shapes = {"w": (d, rows, X), "r": (d, rows, H), "b": (d, 2 * rows), "p": (d, 3 * H)}
        made = {name: self.scale * random.standard_normal(shape) for name, shape in shapes.items()}
        return {name: made[name].astype(np.float32) for name in ("w", "r", *self.inputs) if name in made}

    def feeds(self, length: int, n: int) -> Arrays:
        """Its inputs, items first; some rows have no step at all."""
        random, d = np.random.default_rng((length, n)), self.directions
        shapes = {"x": (n, length, X), "h0": (n, d, H), "c0": (n, d, H)}
        made = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        made["lengths"] = random.integers(0, length + 1, n).astype(np.int32)
        made["lengths"][0] = length
        return {name: made[name] for name in ("x", *self.inputs) if name in made}

    def model(self) -> onnx.ModelProto:
        """Items first on both sides, and all outputs in one, flat."""
        weights, feeds, nodes = self.weights, self.feeds(2, 2), []
        first = not self.attributes.get("layout")
        for name in ("x", "h0", "c0") if first else ():
            nodes += [helper.make_node("Transpose", [name], [f"{name}.t"], perm=[1, 0, 2])] if name in feeds else []
        moved = {name: f"{name}.t" for name in ("x", "h0", "c0") if first}
        inputs = [moved.get(name, name) if name in {*feeds, *weights} else "" for name in PLACES]
        inputs = inputs[: 8 if self.op == "LSTM" else 6]
        nodes.append(
            helper.make_node(self.op, inputs, self.results, name="under_test", hidden_size=H, **self.attributes)
        )
        for i, name in enumerate(self.results):
            perm = [2, 0, 1, 3] if i == 0 else [1, 0, 2]
            nodes += [helper.make_node("Transpose", [name], [f"{name}.t"], perm=perm)] if name and first else []
            nodes += [helper.make_node("Flatten", [f"{name}.t" if first else name], [f"{name}.flat"])] if name else []
        nodes.append(helper.make_node("Concat", [f"{name}.flat" for name in self.results if name], ["all"], axis=1))
        values = [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(array.dtype),
                ["N", "T", X] if name == "x" else ["N", *array.shape[1:]],
            )
            for name, array in feeds.items()
        ]
        output = helper.make_tensor_value_info("all", TensorProto.FLOAT, ["N", None])
        constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
        graph = helper.make_graph(nodes, "recurrent", values, [output], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def judged(self, feeds: Arrays) -> tuple[np.ndarray, Arrays]:
        """All outputs, flat, and the gradients of their weighted sum."""
        exact = {name: torch.tensor(array) for name, array in (self.weights | feeds).items()}
        exact = {name: value.double() if value.is_floating_point() else value for name, value in exact.items()}
        leaves = {name: exact[name].requires_grad_() for name in ("x", "h0", "c0") if name in exact}
        places = [exact[name].transpose(0, 1) if name in leaves else exact.get(name) for name in PLACES]
        attributes = {name: value for name, value in self.attributes.items() if name != "layout"}
        y, h, c = recurrence(self.op, **attributes)(*places)
        items = (y.permute(2, 0, 1, 3), h.transpose(0, 1), c.transpose(0, 1))
        every = torch.cat([value.flatten(1) for value, name in zip(items, self.results, strict=False) if name], 1)
        (every * torch.tensor(cotangent(every.shape))).sum().backward()
        return every.detach().numpy(), {name: np.asarray(leaf.grad) for name, leaf in leaves.items()}


def cotangent(shape: Any) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(tuple(shape)).astype(np.float32)


def check(form: Form, judge: Form | None = None, sizes: Sequence[tuple[int, int]] = SIZES) -> None:
    """One program, at every size: the forward value and the gradients of the inputs."""
    program = explain.compile(form.model(), "vjp")
    onnx.checker.check_model(program.model, full_check=True)
    runtime = session(program.model)
    names = [value.name for value in runtime.get_outputs()]
    for length, n in sizes:
        feeds = form.feeds(length, n)
        value, gradients = (judge or form).judged(feeds)
        found = dict(zip(names, runtime.run(None, feeds | {"all.cotangent": cotangent(value.shape)}), strict=True))
        np.testing.assert_allclose(found["all"], value, rtol=1e-5, atol=1e-5, err_msg="forward value")
        for name, expected in gradients.items():
            error = explain.gradient_error(found[f"{name}.gradient"], expected).max()
            assert error <= BOUND, f"{name}, T = {length}, N = {n}: {error}"


STATES = {"LSTM": ("h0", "c0"), "GRU": ("h0",), "RNN": ("h0",)}
WAYS = ("forward", "reverse", "bidirectional")
# Alphas and betas of the activations that take them.
TAKING: dict[str, tuple[list[float], list[float]]] = {
    "Affine": ([0.5], [0.1]),
    "Elu": ([0.7], []),
    "HardSigmoid": ([0.3], [0.4]),
    "LeakyRelu": ([0.2], []),
    "ScaledTanh": ([0.8], [1.2]),
    "ThresholdedRelu": ([0.3], []),
}


def activated(op: str, name: str, **more: Any) -> Form:
    """All gates with one activation."""
    count = {"LSTM": 3, "GRU": 2, "RNN": 1}[op]
    alphas, betas = TAKING.get(name, ([], []))
    given = {"activation_alpha": alphas * count, "activation_beta": betas * count}
    present = {key: value for key, value in given.items() if value}
    return Form(op, attributes={"activations": [name] * count, **present, **more}, scale=0.3)


FORMS = [
    *(
        Form(
            op,
            ("b", *(STATES[op] if states else ()), *(("lengths",) if lengths else ())),
            attributes={"direction": way},
        )
        for op in GATES
        for way in WAYS
        for states in (False, True)
        for lengths in (False, True)
    ),
    *(
        Form(op, ("b", *STATES[op], "lengths"), attributes={"layout": 1, "direction": way})
        for op in GATES
        for way in WAYS
    ),
    *(Form(op, ()) for op in GATES),
    *(Form(op, outputs=outputs) for op in GATES for outputs in (("y", "", ""), ("", "yh", ""))),
    *(Form("LSTM", outputs=outputs) for outputs in (("", "", "yc"), ("", "yh", "yc"), ("y", "", "yc"))),
    *(Form(op, attributes={"clip": 0.5}) for op in GATES),
    *(
        Form("GRU", ("b", "h0", *lengths), attributes={"linear_before_reset": 1, **more})
        for lengths in ((), ("lengths",))
        for more in variants(direction=WAYS, clip=[0.6])
    ),
    Form("GRU", attributes={"linear_before_reset": 1}),
    Form("GRU", (), attributes={"linear_before_reset": 1}),
    *(
        Form("LSTM", ("b", "p", *more), attributes={"direction": way, **given})
        for way in WAYS
        for more in ((), ("h0", "c0", "lengths"))
        for given in ({}, {"input_forget": 1}, {"clip": 0.8})
    ),
    Form("LSTM", attributes={"input_forget": 1, "clip": 0.4}),
    *(activated(op, name) for op in GATES for name in FUNCTIONS if (op, name) != ("LSTM", "Softplus")),
    *(activated(op, name, clip=0.6) for op in GATES for name in ("HardSigmoid", "LeakyRelu", "Softplus")),
    Form(
        "LSTM",
        attributes={
            "direction": "bidirectional",
            "activations": ["HardSigmoid", "Elu", "LeakyRelu"] * 2,
            "activation_alpha": [0.3, 0.6, 0.1, 0.25, 0.5, 0.2],
            "activation_beta": [0.45, 0.55],
        },
    ),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_gradients_are_those_of_the_equations(form: Form) -> None:
    check(form)


def test_case_does_not_matter_in_names_of_activations() -> None:
    form = Form("GRU", attributes={"activations": ["HARDSIGMOID", "tanh"]}, scale=0.4)
    check(form, replace(form, attributes={"activations": ["HardSigmoid", "Tanh"]}))


def states(op: str, *operands: Any) -> torch.Tensor:
    """Y of tensors or arrays."""
    return recurrence(op, hidden_size=H)(*(torch.as_tensor(operand) for operand in operands))[0]


def plain(op: str) -> Case:
    """The node alone, time first."""
    weights = [Const(numbers(1, GATES[op] * H, size, seed=size)) for size in (X, H)]
    judge, bias = functools.partial(states, op), Const(numbers(1, 2 * GATES[op] * H))
    inputs, also = (numbers(4, 2, X), *weights, bias), ((numbers(7, 3, X), *weights, bias),)
    formula = lambda *operands: judge(*operands).numpy()  # noqa: E731 - the same of arrays
    return case(op, *inputs, judge=judge, formula=formula, also=also, hidden_size=H)


CASES = [plain(op) for op in GATES]


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_node_alone(subject: Case) -> None:
    check_case(subject)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("opset", [7, 13, 14, 22])
def test_older_and_newer_files(op: str, opset: int) -> None:
    form = Form(op, ("b", "h0", "lengths"))
    model, feeds = form.model(), form.feeds(5, 3)
    model.opset_import[0].version = opset
    value, gradients = form.judged(feeds)
    program = explain.compile(model, "vjp")
    found = session(program.model).run(["x.gradient"], feeds | {"all.cotangent": cotangent(value.shape)})[0]
    assert explain.gradient_error(found, gradients["x"]).max() <= BOUND


WRONG = [
    (Form("GRU"), {"linear_before_reset": 1}),
    (Form("LSTM"), {"input_forget": 1}),
    (Form("LSTM", scale=2.0), {"clip": 0.5}),
    (Form("RNN"), {"direction": "reverse"}),
    (Form("RNN"), {"activations": ["Softsign"]}),
]


@pytest.mark.parametrize(("form", "attributes"), WRONG)
def test_another_form_is_found_out(form: Form, attributes: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="forward value"):
        check(form, replace(form, attributes=attributes))


def test_a_wrong_gradient_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Form.judged

    def wrong(form: Form, feeds: Arrays) -> tuple[np.ndarray, Arrays]:
        value, gradients = judged(form, feeds)
        return value, {name: 1.001 * gradient for name, gradient in gradients.items()}

    monkeypatch.setattr(Form, "judged", wrong)
    with pytest.raises(AssertionError, match="x, T = 5"):
        check(Form("LSTM"))


DIFFERENT = [
    Form("LSTM", ("b", "p", "h0", "c0"), attributes={"direction": "bidirectional"}),
    Form("LSTM", attributes={"input_forget": 1}),
    Form("GRU", ("b", "h0"), attributes={"linear_before_reset": 1, "direction": "reverse"}),
    Form("RNN", ("b", "h0", "lengths"), attributes={"activations": ["Softsign"]}),
]


@pytest.mark.parametrize("form", DIFFERENT, ids=str)
def test_gradients_are_what_differences_on_the_runtime_say(form: Form) -> None:
    model, feeds = form.model(), form.feeds(6, 3)
    own, program = session(model), explain.compile(model, "vjp")
    seed = cotangent(own.run(None, feeds)[0].shape)
    found = session(program.model).run(["x.gradient"], feeds | {"all.cotangent": seed})[0]

    def f(point: Any) -> np.ndarray:
        return np.asarray((own.run(None, dict(point))[0].astype(np.float64) * seed).sum())

    assert explain.dot_test(f, found, feeds, "x", step=1e-2) <= 5e-3
    assert explain.dot_test(f, 1.1 * found, feeds, "x", step=1e-2) > 5e-3


REFUSED = [
    (Form("RNN", attributes={"activations": ["Swish"]}), "attribute 'activations' names 'swish'"),
    (Form("GRU", attributes={"activations": ["Sigmoid"]}), "attribute 'activations' has 1 names, expected 2"),
    (Form("RNN", attributes={"activations": ["Affine"]}), "attribute 'activation_alpha' has no value for 'affine'"),
    (
        Form("RNN", attributes={"activations": ["ScaledTanh"], "activation_alpha": [1.0]}),
        "attribute 'activation_beta' has no value for 'scaledtanh'",
    ),
    (Form("LSTM", attributes={"direction": "sideways"}), "attribute 'direction' is 'sideways'"),
]


@pytest.mark.parametrize(("form", "reason"), REFUSED)
def test_what_no_runtime_agrees_on_is_refused_by_its_attribute(form: Form, reason: str) -> None:
    with pytest.raises(explain.UnsupportedOperator, match=reason):
        explain.compile(form.model(), "vjp")


def test_a_weight_that_depends_on_an_input_is_refused_by_name() -> None:
    model = Form("LSTM").model()
    constant = next(entry for entry in model.graph.initializer if entry.name == "r")
    model.graph.initializer.remove(constant)
    model.graph.input.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, constant.dims))
    with pytest.raises(explain.UnsupportedOperator, match="with respect to its input 'r' is not covered"):
        explain.compile(model, "vjp")


@pytest.mark.parametrize("op", GATES)
def test_two_hundred_steps(op: str) -> None:
    form = Form(op, ("b", *STATES[op]), attributes={"direction": "bidirectional"}, scale=0.3)
    check(form, sizes=((200, 5), (7, 1), (1, 5)))
