"""One operator at a time: its gradient compiled, run on ONNX Runtime, and computed in two other, slower ways.

A `Case` is an operator with its inputs; `check` compiles `vjp` of the model made of that one node, runs it in float32,
and compares every gradient with central differences of ONNX's own reference implementation in float64 and with
PyTorch's autograd (`judge`), which also has to agree with the forward value. It does so with the shapes declared and
with every dimension left open; with all dimensions open, `also` feeds other sizes to the very same program.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import explain

Judge = Callable[..., Any]
TOLERANCE = 2e-4
STEP = 1e-6


@dataclass(frozen=True)
class Const:
    """An input that is a constant of the graph; `dtype` follows the model's where it is floating point."""

    array: Any


@dataclass(frozen=True)
class Fed:
    """An input that is fed but carries no gradient (indices, conditions)."""

    array: Any


@dataclass(frozen=True)
class Case:
    """A node: plain arrays are inputs whose gradient is wanted, None is an absent optional input."""

    op: str
    inputs: tuple[Any, ...]
    judge: Judge
    attributes: dict[str, Any]
    outputs: tuple[str, ...]
    label: str
    also: tuple[tuple[Any, ...], ...]
    opset: int
    domain: str
    step: float
    formula: Callable[..., np.ndarray] | None

    def __str__(self) -> str:
        """Name of the test: the operator and what is special about this case."""
        return f"{self.op}-{self.label}" if self.label else self.op

    @property
    def variables(self) -> dict[str, np.ndarray]:
        """Inputs to differentiate for, by name, in float64."""
        plain = {f"x{i}": value for i, value in enumerate(self.inputs) if not isinstance(value, Const | Fed | None)}
        return {name: np.asarray(value, dtype=np.float64) for name, value in plain.items()}

    @property
    def fed(self) -> dict[str, np.ndarray]:
        """Inputs that are fed as they are, by name."""
        return {f"x{i}": np.asarray(value.array) for i, value in enumerate(self.inputs) if isinstance(value, Fed)}

    def model(self, dtype: str = "float32", declared: bool = True, items: bool = False) -> onnx.ModelProto:
        """The model of this one node.

        With `declared` False every dimension is a symbol of its own. With `items` inputs and outputs are one item
        [1, ...] of a batch: what an operator does to its first axis need not be what a batch axis allows.
        """
        operands, constants, inputs, nodes = [], [numpy_helper.from_array(np.array([0]), "item")], [], []
        for i, value in enumerate(self.inputs):
            name = f"x{i}" if value is not None else ""
            operands.append(name)
            if isinstance(value, Const):
                constants.append(numpy_helper.from_array(as_float(value.array, dtype), name))
            elif value is not None:
                array = np.asarray(value.array) if isinstance(value, Fed) else np.asarray(value, dtype=dtype)
                shape = array.shape if declared else [f"{name}d{axis}" for axis in range(array.ndim)]
                shape = ["N", *shape] if items else shape
                inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape))
                if items:
                    operands[-1] = f"{name}.only"
                    nodes.append(helper.make_node("Squeeze", [name, "item"], [operands[-1]]))
        results = [f"{name}.only" if items and name else name for name in self.outputs]
        nodes.append(
            helper.make_node(self.op, operands, results, name="under_test", domain=self.domain, **self.attributes)
        )
        for name in self.outputs if items else ():
            nodes += [helper.make_node("Unsqueeze", [f"{name}.only", "item"], [name])] if name else []
        outputs = [helper.make_empty_tensor_value_info(name) for name in self.outputs if name]
        graph = helper.make_graph(nodes, "single", inputs, outputs, constants if items else constants[1:])
        version = 3 if self.domain == "ai.onnx.ml" else 1
        opsets = [
            helper.make_opsetid("", self.opset),
            *([helper.make_opsetid(self.domain, version)] if self.domain else []),
        ]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)


def as_float(array: Any, dtype: str) -> np.ndarray:
    """The array, its floating-point values in `dtype`."""
    array = np.asarray(array)
    return array.astype(dtype) if array.dtype == np.float64 else array


def case(
    op: str,
    *inputs: Any,
    judge: Judge,
    label: str = "",
    outputs: tuple[str, ...] = ("y",),
    also: tuple[tuple[Any, ...], ...] = (),
    opset: int = 18,
    domain: str = "",
    step: float = STEP,
    formula: Callable[..., np.ndarray] | None = None,
    **attributes: Any,
) -> Case:
    """A case with the node's attributes by name; those that are None are left out.

    `formula` is the forward value in numpy, for differences where ONNX's reference implementation fails; `step` is
    that of the differences (1e-3 where the reference computes in float32).
    """
    present = {name: value for name, value in attributes.items() if value is not None}
    return Case(op, inputs, judge, present, outputs, label or spelled(present), also, opset, domain, step, formula)


def numbers(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> np.ndarray:
    """Reproducible values, all different and none next to another: no ties, and no step across a kink at 0."""
    random = np.random.default_rng((seed, *shape))
    count = int(np.prod(shape))
    grid = np.linspace(low, high, 2 * count + 2)[1:-1:2]
    return np.asarray(random.permutation(grid).reshape(shape))


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A quiet CPU session with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def check(subject: Case, tolerance: float = TOLERANCE) -> None:
    """Compare the compiled gradient of every output with both other ways, shapes declared and open."""
    check_program(subject, [subject.inputs], True, tolerance)
    check_program(subject, [subject.inputs, *subject.also], False, tolerance)


def check_program(subject: Case, sizes: Sequence[tuple[Any, ...]], declared: bool, tolerance: float) -> None:
    """One declaration of shapes: one program per output, run at all sizes."""
    proto = subject.model(declared=declared, items=True)
    if not all(value.type.tensor_type.HasField("shape") for value in proto.graph.output):
        declare_ranks(proto, forward(subject)(subject.variables))
    model = explain.Model(proto)
    floats = [value.name for value in proto.graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    for output in floats:
        program = explain.compile(model, "vjp", output=output)
        onnx.checker.check_model(program.model, full_check=True)
        runtime = session(program.model)
        for inputs in sizes:
            check_point(replace(subject, inputs=inputs), runtime, output, tolerance)


def declare_ranks(proto: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> None:
    """What an exporter states where inference cannot know: the ranks of the outputs."""
    for name, value in values.items():
        open_shape = [None] * value.ndim
        inner = helper.make_tensor_value_info(f"{name}.only", TensorProto.FLOAT, open_shape)
        stale = [entry for entry in proto.graph.value_info if entry.name == inner.name]
        for entry in stale:
            proto.graph.value_info.remove(entry)
        proto.graph.value_info.append(inner)
        outer = next(entry for entry in proto.graph.output if entry.name == name)
        outer.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *open_shape]))


def check_point(subject: Case, runtime: onnxruntime.InferenceSession, output: str, tolerance: float) -> None:
    """One set of inputs: the forward value and every gradient."""
    variables, reference = subject.variables, forward(subject)
    value = reference(variables)[output]
    cotangent = numbers(*value.shape, low=-1.0, high=1.3, seed=7)
    feeds = {name: array[None].astype(np.float32) for name, array in variables.items()}
    feeds |= {name: array[None] for name, array in subject.fed.items()}
    seed = {f"{output}.cotangent": cotangent[None].astype(np.float32)}
    names = [entry.name for entry in runtime.get_outputs()]
    found = {name: array[0] for name, array in zip(names, runtime.run(None, feeds | seed), strict=True)}
    assert_close(found[output], value, tolerance, "forward value")
    judged = judged_gradients(subject, output, cotangent, value, tolerance)
    for name, x in variables.items():
        gradient = found[f"{name}.gradient"]
        assert gradient.shape == x.shape, f"gradient of {name} has shape {gradient.shape}, expected {x.shape}"
        assert_close(gradient, judged[name], tolerance, f"gradient of {name} against PyTorch")
        f = partial(weighted, reference, output, cotangent)
        check_differences(f, variables, name, gradient, subject.step, tolerance)


def forward(subject: Case) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """The node in float64 by ONNX's reference implementation, or by the case's own formula."""
    if subject.formula is not None:
        formula, inputs = subject.formula, enumerate(subject.inputs)
        fixed = {f"x{i}": np.asarray(value.array) for i, value in inputs if isinstance(value, Const | Fed)}
        places = [f"x{i}" if value is not None else "" for i, value in enumerate(subject.inputs)]
        return lambda variables: {"y": formula(*((variables | fixed).get(place) for place in places))}
    evaluator = ReferenceEvaluator(subject.model("float64"))
    names = [name for name in subject.outputs if name]
    return lambda variables: dict(zip(names, evaluator.run(names, {**variables, **subject.fed}), strict=True))


def judged_gradients(
    subject: Case, output: str, cotangent: np.ndarray, value: np.ndarray, tolerance: float
) -> dict[str, np.ndarray]:
    """PyTorch's gradients of sum(cotangent * output), after its forward value agreed with ONNX's."""
    operands, leaves = [], {}
    for i, given in enumerate(subject.inputs):
        if given is None:
            operands.append(None)
        elif isinstance(given, Const | Fed):
            operands.append(torch.as_tensor(np.asarray(given.array)))
        else:
            leaves[f"x{i}"] = torch.tensor(given, dtype=torch.float64, requires_grad=True)
            operands.append(leaves[f"x{i}"])
    results = subject.judge(*operands)
    index = [name for name in subject.outputs if name].index(output)
    result = results[index] if isinstance(results, tuple | list) else results
    assert_close(result.detach().numpy(), value, tolerance, "forward value of the judge")
    loss = (result * torch.as_tensor(cotangent)).sum()
    if not loss.requires_grad:
        return {name: np.zeros(leaf.shape) for name, leaf in leaves.items()}
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), grads, strict=True)
    return {name: np.zeros(leaf.shape) if grad is None else grad.numpy() for (name, leaf), grad in pairs}


def weighted(
    reference: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    output: str,
    cotangent: np.ndarray,
    point: Mapping[str, np.ndarray],
) -> np.ndarray:
    """sum(cotangent * output) at a point."""
    return np.asarray((reference(dict(point))[output] * cotangent).sum())


def check_differences(
    f: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    variables: dict[str, np.ndarray],
    name: str,
    gradient: np.ndarray,
    step: float,
    tolerance: float,
) -> None:
    """<J^T v, u> = <v, J u> for random u, J u by central differences (the dot test)."""
    random = np.random.default_rng(3)
    for _ in range(3):
        u = random.standard_normal(variables[name].shape)
        expected = explain.finite_difference(f, variables, name, u, step)
        found = float((gradient.astype(np.float64) * u).sum())
        scale = max(float(np.linalg.norm(gradient)), 0.1)
        assert abs(found - expected) <= 5 * tolerance * scale, f"{name}: {found} against differences {expected}"


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    """Same shape, and no element further off than `tolerance` of the largest."""
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}"
    scale = max(float(np.abs(expected).max(initial=0.0)), 1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale, err_msg=what)


def variants(**options: Sequence[Any]) -> list[dict[str, Any]]:
    """Every combination of the options, as keyword arguments."""
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]


def spelled(attributes: dict[str, Any]) -> str:
    """Attributes as part of a test's name."""
    return "-".join(f"{name}={value}".replace(" ", "") for name, value in attributes.items() if value is not None)


def gradients(
    subject: Case | onnx.ModelProto | explain.Model, feeds: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Gradients of sum(output) by input name: of a case, or of a model with its feeds (one floating-point output)."""
    lone = isinstance(subject, Case)
    proto = subject.model(items=True) if isinstance(subject, Case) else subject
    program = explain.compile(proto, "vjp")
    onnx.checker.check_model(program.model, full_check=True)
    if isinstance(subject, Case):
        given = {name: array.astype(np.float32) for name, array in subject.variables.items()} | subject.fed
        feeds = {name: array[None] for name, array in given.items()}
    forward_model = explain.compile(proto, "forward").model
    output = program.explained.output if program.explained else ""
    shape = session(forward_model).run([output], dict(feeds or {}))[0].shape
    seed = {f"{output}.cotangent": np.ones(shape, dtype=np.float32)}
    names = [name for name in program.outputs if name.endswith(".gradient")]
    found = session(program.model).run(names, {**(feeds or {}), **seed})
    return {
        name.removesuffix(".gradient"): value[0] if lone else value for name, value in zip(names, found, strict=True)
    }
