"""Judges of gradients: `measure` compares that of one output of one node test with differences.

`vjp` is compiled, and the gradient along random directions compared with central differences of the *original* model
in float64, evaluated by ONNX's reference implementation: once the program in float64 by the same implementation, once
the program in float32 on ONNX Runtime. Inputs are nudged off ties first; a direction across a kink is seen by two
steps that disagree, and another point is taken.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

import explain
from tests.explain.backend import PRECISION, NodeTest, always_single, is_float, retyped
from tests.explain.runners import Feeds, Runner, reference, runtime

NUDGE = 1e-3
STEP = 1e-3
POINTS = 8


class NoFloatPath(Exception):
    """No floating-point input reaches this output through a gradient: there is none to check."""


class Wrong(Exception):
    """A gradient could not be judged, or is not that of the function."""


@dataclass(frozen=True)
class Judges:
    """Who judges a gradient.

    `double` is what evaluates the program in float64 (None: nothing does); `single` is what gives the differences
    that judge the program on ONNX Runtime in float32: the reference in float64, or ONNX Runtime itself.
    """

    double: Literal["reference", "runtime"] | None = "reference"
    single: Literal["reference", "runtime"] | None = "reference"


@dataclass(frozen=True)
class Errors:
    """Largest relative errors of directional derivatives: in float64, and in float32 on ONNX Runtime."""

    double: float | None
    single: float | None


class Subject:
    """A node test made ready: which inputs vary, which are fed, which are constants of the graph."""

    def __init__(self, test: NodeTest, held: frozenset[str] = frozenset()) -> None:
        """`held` names inputs that become constants of the graph: weights, sizes, axes."""
        if any(not isinstance(value, np.ndarray | np.generic) for value in test.inputs.values()):
            raise NoFloatPath("its inputs are no tensors")
        self.test, self.single = test, always_single(test.model)
        self.held = (held | self.single) & set(test.inputs)
        self.floats = {value.name for value in test.model.graph.input if is_float(value)}
        self.variables = [name for name in test.inputs if name in self.floats - self.held]
        if not self.variables:
            raise NoFloatPath("no floating-point input")

    def model(self, to: int) -> onnx.ModelProto:
        """The test's model in one precision, what is held as initializers."""
        model = retyped(self.test.model, to)
        kept = [value for value in model.graph.input if value.name not in self.held]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        for name in sorted(self.held):
            array = np.asarray(self.test.inputs[name])
            model.graph.initializer.append(numpy_helper.from_array(self._typed(name, array, to), name))
        return model

    def fed(self, variables: Mapping[str, np.ndarray], to: int) -> dict[str, np.ndarray]:
        """Everything the model takes, in one precision."""
        fixed = {name: np.asarray(value) for name, value in self.test.inputs.items() if name not in self.held}
        return {name: self._typed(name, variables.get(name, value), to) for name, value in fixed.items()}

    def _typed(self, name: str, array: np.ndarray, to: int) -> np.ndarray:
        return array.astype(PRECISION[to]) if name in self.floats - self.single else array

    def point(self, random: np.random.Generator, nudge: float = NUDGE) -> dict[str, np.ndarray]:
        """The test's own values, nudged upwards (their domains begin at 0 or 1); float32 holds them exactly."""
        given = {name: np.asarray(self.test.inputs[name]).astype(np.float32) for name in self.variables}
        moved = {name: x + nudge * random.uniform(0, 1, x.shape) for name, x in given.items()}
        return {name: x.astype(np.float32).astype(np.float64) for name, x in moved.items()}

    def program(self, to: int, output: str) -> explain.Program:
        """The compiled gradient; all inputs and outputs are single items without a batch axis."""
        model = self.model(to)
        axes = dict.fromkeys([value.name for value in (*model.graph.input, *model.graph.output)])
        return explain.compile(explain.Model(model, batch_axes=axes), "vjp", output=output, space="output")


Scalar = Callable[[Mapping[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Slope:
    """What differences say: the derivative of sum(cotangent * output) along `direction` of input `name`."""

    name: str
    direction: np.ndarray
    value: float
    noise: float


@dataclass(frozen=True)
class Judgement:
    """A point off all kinks, the cotangent (0 where the output is not finite), the output, and slopes there."""

    point: dict[str, np.ndarray]
    cotangent: np.ndarray
    value: np.ndarray
    slopes: tuple[Slope, ...]


@dataclass(frozen=True)
class Checked:
    """The gradients of one output of one test at the judged point, in float32 if ONNX Runtime has them, and errors."""

    subject: Subject
    output: str
    judgement: Judgement
    gradients: Feeds
    errors: Errors
    judges: Judges


def judged(subject: Subject, output: str, run: Runner, to: int = TensorProto.DOUBLE) -> Judgement:
    """Differences of `output` at the first nudged point where two steps agree."""
    random = np.random.default_rng(zlib.crc32(f"{subject.test.name}:{output}".encode()))
    scale, limit = (1, 1e-7) if to == TensorProto.DOUBLE else (20, 3e-3)
    worst = None
    for attempt in range(POINTS):
        point = subject.point(random, scale * NUDGE)
        value = run(subject.fed(point, to))[output]
        if value.dtype != PRECISION[to]:
            raise Wrong(f"{output!r} was computed in {value.dtype}")
        cotangent = random.uniform(0.5, 1.5, value.shape) * random.choice([-1.0, 1.0], value.shape)
        cotangent = np.where(np.isfinite(value), cotangent, 0.0)
        f = _weighted(subject, output, run, to, cotangent)
        size = float(np.abs(np.where(cotangent == 0, 0.0, value)).sum())
        slopes = tuple(
            _slope(f, point, name, random, size, scale * STEP * 0.3**attempt) for name in point if point[name].size
        )
        worst = max(slopes, key=lambda slope: slope.noise, default=None)
        if worst is None or worst.noise < limit:
            return Judgement(point, cotangent, value, slopes)
    raise Wrong(f"no smooth point found: differences along {worst and worst.name!r} disagree")


def _weighted(subject: Subject, output: str, run: Runner, to: int, cotangent: np.ndarray) -> Scalar:
    """sum(cotangent * output) as a function of the variables."""

    def f(variables: Mapping[str, np.ndarray]) -> np.ndarray:
        value = run(subject.fed(variables, to))[output].astype(np.float64)
        if value.shape != cotangent.shape:
            raise Wrong(f"{output!r} changes its shape with its inputs")
        counted = cotangent != 0
        return np.asarray((cotangent[counted] * value[counted]).sum())

    return f


def _slope(
    f: Scalar, point: dict[str, np.ndarray], name: str, random: np.random.Generator, size: float, step: float
) -> Slope:
    """Three steps, extrapolated twice (Richardson); the last correction is the noise."""
    direction = random.standard_normal(point[name].shape)
    ends = [explain.finite_difference(f, point, name, direction, step * part) for part in (1.0, 0.5, 0.25)]
    once = [(4 * ends[1] - ends[0]) / 3, (4 * ends[2] - ends[1]) / 3]
    value = (16 * once[1] - once[0]) / 15
    noise = abs(once[1] - once[0]) / max(abs(value), 1e-3 * size, 1e-9)
    return Slope(name, direction, value, noise if np.isfinite(noise) else np.inf)


def disagreement(judgement: Judgement, gradients: Mapping[str, np.ndarray]) -> float:
    """Largest |<gradient, u> - slope| over the directions, relative to the size such a product has."""
    worst = 0.0
    for slope in judgement.slopes:
        gradient = gradients[slope.name].astype(np.float64)
        if gradient.shape != slope.direction.shape:
            raise Wrong(f"gradient of {slope.name!r} has shape {gradient.shape}, expected {slope.direction.shape}")
        found = float((gradient * slope.direction).sum())
        scale = max(abs(slope.value), float(np.linalg.norm(gradient)), 1e-6)
        error = abs(found - slope.value) / scale
        worst = max(worst, error if np.isfinite(error) else np.inf)
    return worst


def gradients(
    subject: Subject, judgement: Judgement, output: str, to: int, program: explain.Program, run: Runner
) -> Feeds:
    """By the program at the judged point; an input the program has no gradient for has zeros."""
    feeds = {name: array[None] for name, array in subject.fed(judgement.point, to).items() if name in program.inputs}
    feeds[f"{output}.cotangent"] = judgement.cotangent.astype(PRECISION[to])[None]
    found = run(feeds)
    return {
        name: found[f"{name}.gradient"][0] if f"{name}.gradient" in found else np.zeros_like(x)
        for name, x in judgement.point.items()
    }


def measure(test: NodeTest, output: str, held: frozenset[str] = frozenset(), judges: Judges | None = None) -> Checked:
    """The gradient of one output and its errors; raises NoFloatPath, Wrong, or what the compiler refuses with."""
    if not is_float(next(value for value in test.model.graph.output if value.name == output)):
        raise NoFloatPath("no floating-point output")
    subject, judges = Subject(test, held), judges or Judges()
    try:
        program = subject.program(TensorProto.FLOAT, output)
    except explain.MethodUnavailable:
        _check_flat(subject, output)
        raise NoFloatPath("no input reaches it through a gradient") from None
    found: Feeds = {}
    double = single = None
    usual = judges.double or judges.single == "reference"
    judgement = judged(subject, output, original(subject)) if usual else _by_runtime(subject, output)
    if judges.double:
        found = in_double(subject, judgement, output, judges.double)
        double = disagreement(judgement, found)
    if judges.single:
        judgement = _by_runtime(subject, output) if usual and judges.single == "runtime" else judgement
        found = gradients(subject, judgement, output, TensorProto.FLOAT, program, runtime(program.model))
        single = disagreement(judgement, found)
    return Checked(subject, output, judgement, found, Errors(double, single), judges)


def _by_runtime(subject: Subject, output: str) -> Judgement:
    return judged(subject, output, _own_forward(subject, output), TensorProto.FLOAT)


def original(subject: Subject) -> Runner:
    """The test's own model in float64 by the reference."""
    return reference(subject.model(TensorProto.DOUBLE))


def in_double(subject: Subject, judgement: Judgement, output: str, engine: str) -> Feeds:
    """Gradients by the program in float64: by the reference where it can, else by ONNX Runtime."""
    program = subject.program(TensorProto.DOUBLE, output)
    given = subject, judgement, output, TensorProto.DOUBLE, program
    if engine == "reference":
        try:
            return gradients(*given, reference(program.model))
        except (NotImplementedError, RuntimeError, ValueError, TypeError):
            pass  # the reference lacks some forms (negative pads, stash types), which ONNX Runtime has
    return gradients(*given, runtime(program.model))


def _own_forward(subject: Subject, output: str) -> Runner:
    """The prepared model on ONNX Runtime in float32."""
    model = subject.model(TensorProto.FLOAT)
    axes = dict.fromkeys([value.name for value in (*model.graph.input, *model.graph.output)])
    program = explain.compile(explain.Model(model, batch_axes=axes), "forward")
    run = runtime(program.model)
    return lambda feeds: {
        output: run({name: array[None] for name, array in feeds.items() if name in program.inputs})[output][0]
    }


def _check_flat(subject: Subject, output: str) -> None:
    """An output that no gradient reaches has to be flat, unless it is drawn at random."""
    run = original(subject)
    feeds = subject.fed({}, TensorProto.DOUBLE)
    if not np.array_equal(run(feeds)[output], run(feeds)[output], equal_nan=True):
        return
    steepest = max((abs(slope.value) for slope in judged(subject, output, run).slopes), default=0.0)
    if steepest > 1e-9:
        raise Wrong(f"the compiler says that nothing reaches {output!r}, differences say {steepest:.1e}")
