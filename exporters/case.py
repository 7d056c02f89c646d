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
    def target(self) -> Array:
        """The predicted class of each row, or the only value there is: int64 [N]."""
        answer = self.outputs[self.manifest.outputs[0].name]
        return np.asarray(answer.reshape(len(answer), -1).argmax(axis=1), dtype=np.int64)

    def first(self, n: int) -> Case:
        """The same with n rows."""
        return dataclasses.replace(
            self,
            rows=self.rows[:n],
            inputs={name: array[:n] for name, array in self.inputs.items()},
            outputs={name: array[:n] for name, array in self.outputs.items()},
        )

    def moved(self, changed: Mapping[str, Array]) -> Case:
        """The same rows with some inputs replaced, answered again."""
        inputs = {**self.inputs, **changed}
        return dataclasses.replace(
            self, inputs=inputs, outputs=predict(self.served, self.manifest, inputs, self.engine)
        )

    def explained(self, method: str, *, target: Any = None, **parameters: Any) -> explain.Attribution:
        """One explanation of all rows through the engine; of the predicted class unless a target is given."""
        references = compared(explain.METHODS[method].needs, self.manifest, self.background, self.baseline)
        return explain.attribute(
            self.model,
            self.inputs,
            method=method,
            run=partial(run, self.engine),
            output=self.manifest.outputs[0].name,
            outputs=self.outputs,
            target=self.target.tolist() if target is None else target,
            **references,
            **parameters,
        )


def case_of(exported: Exported, evidence: Evidence, engine: Engine, rows: int) -> Case:
    """The first ``rows`` of the evidence, decoded from client bytes and answered by the model."""
    manifest = exported.manifest
    inputs = client_inputs(manifest, evidence.instances[:rows])
    axes = batch_axes(manifest.inputs, manifest.outputs)
    model = explain.Model(exported.model, batch_axes=axes, row_by_row=manifest.batching.mode == "row")
    return Case(
        model=model,
        served=exported.model,
        manifest=manifest,
        engine=engine,
        rows=list(evidence.rows[:rows]),
        inputs=inputs,
        outputs=predict(exported.model, manifest, inputs, engine),
        background=exported.background,
        baseline=baseline_of(manifest, exported.background),
    )
