"""Does the exported model answer as its source does, starting from the bytes a client would send?

client bytes -> JSON or PNG -> model_store's decoder, the one the server uses -> engine; against the source's answer to
the original data. So a wrong scale, a wrong order of features or levels, and a wrong picture layout all show up here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model_store import Manifest, StoreError, decode_image, decode_rows

from .causes import known_cause
from .errors import InvalidExport, ParityFailed
from .exported import Array, Evidence, Exported
from .running import predict

if TYPE_CHECKING:
    from engine import Engine

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Figure:
    """One measured promise: over ``n`` rows the worst value was ``worst``, on row ``row`` of the data set."""

    n: int
    worst: float
    row: int
    tolerance: float
    passed: bool
    what: str

    def to_dict(self) -> dict[str, Any]:
        """The figure as JSON."""
        return asdict(self)


def figure(errors: Array, rows: Sequence[int], tolerance: float, what: str) -> Figure:
    """The worst of one error per row. An error that is not a number is the worst there is."""
    safe = np.where(np.isfinite(errors), errors, np.finfo(np.float64).max)
    worst = int(safe.argmax())
    value = float(safe[worst])
    return Figure(len(safe), value, int(rows[worst]), tolerance, value <= tolerance, what)


def spread_figure(errors: Array, rows: Sequence[int], tolerance: float, what: str) -> dict[str, Any]:
    """The same with the middle and the quartiles of the errors, as JSON."""
    safe = np.where(np.isfinite(errors), errors, np.finfo(np.float64).max)
    lower, median, upper = (float(value) for value in np.percentile(safe, [25, 50, 75], method="nearest"))
    quartiles = {"median": median, "lower_quartile": lower, "upper_quartile": upper}
    return figure(errors, rows, tolerance, what).to_dict() | quartiles


def parity(exported: Exported, evidence: Evidence, engine: Engine, *, tolerance: float = TOLERANCE) -> Figure:
    """The worst absolute difference of any output element, per row. Raises ParityFailed over tolerance.

    Raises InvalidExport when the decoder refuses a row or an output has another shape than the source's.
    """
    errors = _errors(exported, evidence, engine)
    found = figure(errors, evidence.rows, tolerance, "largest absolute difference of an output from the source's")
    if not found.passed:
        cause = known_cause(exported, lambda other: bool((_errors(other, evidence, engine) <= tolerance).all()))
        raise ParityFailed(worst=found.worst, tolerance=tolerance, row=found.row, n=found.n, cause=cause)
    return found


def _errors(exported: Exported, evidence: Evidence, engine: Engine) -> Array:
    """The largest difference of an output element from the source's, per row."""
    inputs = client_inputs(exported.manifest, evidence.instances)
    outputs = predict(exported.model, exported.manifest, inputs, engine, exported.data_files)
    errors = np.zeros(len(evidence.rows))
    for name, expected in evidence.expected.items():
        if name not in outputs or outputs[name].shape != expected.shape:
            shapes = {key: list(array.shape) for key, array in outputs.items()}
            raise InvalidExport(f"output {name!r}: the source answers {list(expected.shape)}, the export {shapes}")
        gap = np.abs(outputs[name].astype(np.float64) - expected.astype(np.float64))
        errors = np.fmax(errors, np.where(np.isnan(gap), np.inf, gap).reshape(len(gap), -1).max(axis=1))
    return errors


def client_inputs(manifest: Manifest, instances: Sequence[Any]) -> dict[str, Array]:
    """Rows as a client sends them, through the server's decoder: [N, ...item] by input name."""
    try:
        if len(manifest.inputs) == 1 and manifest.inputs[0].kind == "image":
            pictures = [decode_image(manifest, base64.b64decode(instance["b64"])).inputs for instance in instances]
            return {name: np.concatenate([each[name] for each in pictures]) for name in pictures[0]}
        body = json.dumps({"instances": list(instances)}).encode("utf-8")
        return decode_rows(manifest, json.loads(body)["instances"]).inputs
    except StoreError as error:
        raise InvalidExport(f"the decoder refuses a real row by this manifest: {error}") from error
