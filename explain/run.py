"""One explanation being made: a `Run`, with `.chunk()`, `.update(outputs)` and `.result()`.

What flows through: chunks of (program, feeds) go out to whoever runs programs, outputs come back in the same order,
and the attribution so far can be read once the plan has a full estimate. The first
chunks are the model itself, unless its outputs were computed already; then, where a final Softmax or Sigmoid was
stepped around, come those that check the prepared model's forward value against the served one's; then the plan; then
the checks that were asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .arrays import Arrays, digest_arrays
from .compiler import compile as compile_program
from .coverage import judged
from .errors import ExplainError
from .methods import Method, plan_of
from .model import Model
from .plans import Plan, Step, blocks, pick
from .programs import Program
from .quality import Checks, quality_figures
from .request import Request, Target

RunProgram = Callable[[Program, Arrays], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Attribution:
    """The answer: why the explained value is what it is, item by item.

    `values`: float64 by input name, axis 0 = items, shaped like the input (a map [N, h, w] for class activation maps;
    under the single key "groups", [N, G], where groups were declared). `base_values` [N]: f at the reference, None
    for methods that have none. `explained_value` [N]: f at the item, named by `explained_name` in `units`.
    `errors`: of each value, where the method has them, and `error_kind` what they are ("standard_error" of a
    sample, "quadrature_error" of an adaptive rule; None where there are none); `half_widths` of 95 % confidence
    intervals, value - half to value + half, where the errors are a sample's. `quality`: one dict of figures per
    item (see quality/). `approximations`: what its gradients rest on where the model's own say nothing
    ("straight_through", past the rounding of a quantised model).
    """

    values: Arrays
    base_values: np.ndarray | None
    explained_value: np.ndarray
    explained_name: str
    units: str
    target: Target
    quality: list[dict[str, Any]]
    method: str
    parameters: dict[str, Any]
    seed: int
    errors: Arrays | None
    error_kind: str | None
    half_widths: Arrays | None
    group_names: tuple[str, ...] | None
    program_digest: str
    baseline_digest: str | None
    background_digest: str | None
    approximations: tuple[str, ...] = ()


class Run:
    """An explanation in progress; made by `begin`."""

    def __init__(
        self, method: Method, request: Callable[[Arrays], Request], model: Model, inputs: Arrays, checks: Checks
    ) -> None:
        """`request` completes the request once the model's own outputs are known."""
        self.method, self._complete, self.model, self.inputs, self.checks = method, request, model, inputs, checks
        self.outputs: Arrays | None = None
        self.plan: Plan | None = None
        self._request: Request | None = None
        self._gap = np.zeros(len(next(iter(inputs.values()))))
        self._steps: Iterator[Step] = iter(())
        self._parts: list[Mapping[str, np.ndarray]] = []
        self._pending: Step | None = None

    def know(self, outputs: Mapping[str, Any]) -> None:
        """Take the served model's own outputs; the plan is made here."""
        self.outputs = {name: np.asarray(value) for name, value in outputs.items()}
        self._request = self._complete(self.outputs)
        self.plan = plan_of(self.method, self._request)
        self._steps = self._planned(self._request, self.plan)

    def predict_first(self) -> None:
        """Begin with the model itself, since nobody has run it yet."""
        self._steps = self._predicting()

    def chunk(self) -> tuple[Program, Arrays] | None:
        """The next program to run and its feeds, or None when everything has been asked."""
        if self._pending is not None:
            raise ExplainError("the outputs of the last chunk have not been given to update()")
        self._pending = next(self._steps, None)
        if self._pending is None and self.plan is None:
            self.know({name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]})
            self._pending = next(self._steps, None)
        return None if self._pending is None else (self._pending.program, self._pending.feeds)

    def update(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Take the outputs of the chunk handed out last."""
        if self._pending is None:
            raise ExplainError("no chunk is waiting for outputs")
        step = self._pending
        missing = [name for name in step.program.outputs if name not in outputs]
        if missing:
            raise ExplainError(f"the outputs of program {step.program.name!r} lack {missing[0]!r}")
        self._pending = None
        step.collect(outputs)

    @property
    def ready(self) -> bool:
        """Whether `result()` has something to say: from the first full estimate on."""
        return self.plan is not None and self.plan.ready

    @property
    def asked(self) -> Request:
        """What was asked, made precise; known once the model's own outputs are."""
        if self._request is None:
            raise ExplainError("the model's own outputs are not known yet")
        return self._request

    def result(self) -> Attribution:
        """The attribution so far, from the first full estimate on (for a method of one estimate: at its end)."""
        if self.plan is None or self._request is None or not self.plan.ready:
            raise ExplainError("the explanation is not finished: run chunk() and update() until chunk() gives None")
        request, outcome = self._request, self.plan.outcome()
        explained = request.explained
        gap = np.maximum(self._gap, self._direct_gap(request, outcome.explained_value))
        evaluations = self.plan.evaluations + (explained.link != "identity")
        units = explained.space if explained.space != "output" else "output units"
        quality = quality_figures(outcome, evaluations, gap)
        self.checks.add_to(quality)
        return Attribution(
            values=outcome.values,
            base_values=outcome.base_values,
            explained_value=outcome.explained_value,
            explained_name=f"{explained.space} of {explained.output}" if units == explained.space else explained.output,
            units=units,
            target=request.target,
            quality=quality,
            method=self.method.name,
            parameters=dict(request.parameters),
            seed=request.seed,
            errors=outcome.errors,
            error_kind=None if outcome.errors is None else outcome.error_kind,
            half_widths=outcome.half_widths,
            group_names=request.groups.names,
            program_digest=self.plan.program.digest,
            baseline_digest=digest_arrays(request.baseline),
            background_digest=request.background_digest,
            approximations=judged(self.model, explained).approximations if "gradient" in self.method.needs else (),
        )

    def _predicting(self) -> Iterator[Step]:
        program = compile_program(self.model, "forward")
        for rows in _row_blocks(self.model, self.inputs):
            yield Step(program, {name: array[rows] for name, array in self.inputs.items()}, self._parts.append)

    def _planned(self, request: Request, plan: Plan) -> Iterator[Step]:
        if request.explained.link != "identity":
            yield from self._checking(request)
        yield from plan.steps()
        yield from self.checks.steps(request, self.method, plan)

    def _checking(self, request: Request) -> Iterator[Step]:
        """All groups present: the values, to be sent through the link and held against the model's own."""
        explained = request.explained
        options = {"output": explained.output, "space": explained.space}
        program = compile_program(request.model, "masked_forward", **options)
        dtype = np.dtype(explained.dtype)
        for rows in _row_blocks(request.model, request.inputs):
            feeds: Arrays = {name: array[rows] for name, array in request.inputs.items()}
            for name, array in request.inputs.items():
                feeds[f"{name}.groups"] = np.zeros(array.shape[1:], dtype=np.int64)
                feeds[f"{name}.background"] = array[rows][:1]
            feeds["mask"] = np.ones((rows.stop - rows.start, 1, 1), dtype=dtype)
            feeds["background.weight"] = np.ones(1, dtype=dtype)
            yield Step(program, feeds, partial(self._check, request, rows))

    def _check(self, request: Request, rows: slice, outputs: Mapping[str, np.ndarray]) -> None:
        value = outputs["value"]
        served = request.outputs[request.explained.output][rows]
        logits = value[:, 0].reshape(served.shape).astype(np.float64)
        if request.explained.link == "softmax":
            shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
            forward = shifted / shifted.sum(axis=-1, keepdims=True)
        else:
            forward = 1.0 / (1.0 + np.exp(-logits))
        self._gap[rows] = np.abs(forward - served).reshape(len(served), -1).max(axis=1)

    def _direct_gap(self, request: Request, value: np.ndarray) -> np.ndarray:
        """Where f is the model's own output: |f(x) by the program - f(x) by the model|."""
        if request.explained.link != "identity":
            return np.zeros_like(self._gap)
        served = request.outputs[request.explained.output].astype(np.float64)
        own = pick(request, served.reshape(len(served), 1, -1), slice(0, len(served)))
        return np.asarray(np.abs(own[:, 0] - value))


def _row_blocks(model: Model, inputs: Arrays) -> Iterator[slice]:
    """Rows of a forward run of bounded size."""
    return (task.rows for task in blocks(model, inputs, 1))
