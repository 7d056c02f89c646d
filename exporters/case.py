"""One model on N real rows, ready to be explained: what every check of a certificate starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import explain
from model_store import Manifest

from .exported import Array, Evidence, Exported
from .parity import client_inputs
from .references import baseline_of, compared
from .running import batch_axes, predict, run

if TYPE_CHECKING:
    from engine import Engine


@dataclass(frozen=True)
class Case:
    """What every check of one model needs: N decoded rows, the model's answers, and its reference points."""

    model: explain.Model
    served: bytes
    manifest: Manifest
    engine: Engine
    rows: list[int]
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    background: Mapping[str, Array] | None
    baseline: dict[str, Array] | None

    @property
    def output(self) -> str:
        """The name of the output that is explained."""
        return self.manifest.explanation.output or self.manifest.outputs[0].name

    @property
    def rounds(self) -> bool:
        """Whether the model is quantised, so that its gradients pass its rounding by."""
        return bool(explain.coverage(self.model, output=self.output).approximations)

    @property
    def answer(self) -> Array:
        """The explained output of each row, flat: [N, elements]."""
        answer = self.outputs[self.output]
        return np.asarray(answer.reshape(len(answer), -1))

    @property
    def target(self) -> Array:
        """The largest element of each row's answer, the predicted class or the only value there is: int64 [N]."""
        return np.asarray(self.answer.argmax(axis=1), dtype=np.int64)

    @property
    def aim(self) -> explain.Target:
        """The same as a target of explain/."""
        return self.target_at(self.target[:, np.newaxis])

    def target_at(self, flat: Array) -> explain.Target:
        """Flat places [N, S] of the answer as a target: the first element, less the second where there are two."""
        shape = self.outputs[self.output].shape[1:]
        index = np.stack(np.unravel_index(flat, shape), axis=2) if shape else np.zeros((*flat.shape, 0))
        weight = np.tile(np.array([1.0, -1.0], dtype=np.float32)[: flat.shape[1]], (len(flat), 1))
        return explain.Target(index.astype(np.int64), weight)

    def first(self, n: int, background: int | None = None) -> Case:
        """The same with n rows, and with so many of the background."""
        return dataclasses.replace(self.part(slice(0, n)), background=_first(self.background, background))

    def part(self, chosen: slice) -> Case:
        """The same with some of the rows."""
        return dataclasses.replace(
            self,
            rows=self.rows[chosen],
            inputs={name: array[chosen] for name, array in self.inputs.items()},
            outputs={name: array[chosen] for name, array in self.outputs.items()},
        )

    def moved(self, changed: Mapping[str, Array]) -> Case:
        """The same rows with some inputs replaced, answered again."""
        inputs = {**self.inputs, **changed}
        return dataclasses.replace(self, inputs=inputs, outputs=self.answered(inputs))

    def answered(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The model's answers to other rows [N, ...item] by input."""
        return predict(self.served, self.manifest, inputs, self.engine, self.model.external.paths)

    def references(self, method: str) -> dict[str, Any]:
        """What a method compares with, and the groups it removes."""
        return compared(explain.METHODS[method].needs, self.manifest, self.background, self.baseline)

    def begun(self, method: str, *, target: Any = None, **options: Any) -> explain.Run:
        """An explanation of all rows that has begun; of the predicted class unless a target is given."""
        return explain.begin(
            self.model,
            self.inputs,
            method=method,
            output=self.output,
            outputs=self.outputs,
            target=self.aim if target is None else target,
            **{**self.references(method), **options},
        )

    def explained(self, method: str, *, target: Any = None, **options: Any) -> explain.Attribution:
        """One explanation of all rows through the engine; of the predicted class unless a target is given."""
        return explain.attribute(
            self.model,
            self.inputs,
            method=method,
            run=partial(run, self.engine),
            output=self.output,
            outputs=self.outputs,
            target=self.aim if target is None else target,
            **{**self.references(method), **options},
        )


def _first(rows: Mapping[str, Array] | None, count: int | None) -> Mapping[str, Array] | None:
    return rows if rows is None or count is None else {name: array[:count] for name, array in rows.items()}


def case_of_arrays(
    exported: Exported, inputs: dict[str, Array], rows: list[int], engine: Engine, model: explain.Model | None = None
) -> Case:
    """Decoded rows [N, ...item] by input with their numbers, answered by the model."""
    manifest = exported.manifest
    axes = batch_axes(manifest.inputs, manifest.outputs)
    by_row, data_files = manifest.batching.mode == "row", exported.data_files
    return Case(
        model=model
        or explain.Model(
            exported.model,
            batch_axes=axes,
            row_by_row=by_row,
            data_files=data_files,
            held=manifest.explanation.held,
        ),
        served=exported.model,
        manifest=manifest,
        engine=engine,
        rows=rows,
        inputs=inputs,
        outputs=predict(exported.model, manifest, inputs, engine, data_files),
        background=exported.background,
        baseline=baseline_of(manifest, exported.background),
    )


def case_of(exported: Exported, evidence: Evidence, engine: Engine, rows: int) -> Case:
    """The first ``rows`` of the evidence, decoded from client bytes and answered by the model."""
    inputs = client_inputs(exported.manifest, evidence.instances[:rows])
    return case_of_arrays(exported, inputs, list(evidence.rows[:rows]), engine)
