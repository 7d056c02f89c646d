"""The figures of every row of a data set, as distributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..beginning import attribute
from ..model import ModelLike
from ..quality import CHECKS
from ..request import Target
from ..run import RunProgram
from .distribution import Distribution

INLINE = ("completeness_gap_relative", "forward_gap", "standard_error", "quadrature_error", "sparsity", "nan_count")
BETTER_LARGE = frozenset({"insertion_auc", "insertion_auc_normalised"})
TOGETHER = 256  # rows explained at once, so that their attributions need not be held together


@dataclass(frozen=True)
class Evaluation:
    """`figures` by name, over `rows` rows, and what was asked: `method`, all its `parameters`, and `checks` with
    theirs. Figures that no row has are left out."""

    method: str
    rows: int
    parameters: dict[str, Any]
    checks: dict[str, Any]
    figures: dict[str, Distribution]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dicts."""
        figures = {name: found.to_dict() for name, found in self.figures.items()}
        return {
            "method": self.method,
            "rows": self.rows,
            "parameters": self.parameters,
            "checks": self.checks,
            "figures": figures,
        }


def evaluate(
    model: ModelLike,
    inputs: Mapping[str, Any],
    *,
    method: str,
    run: RunProgram,
    checks: Any = ("deletion_insertion", "infidelity", "max_sensitivity"),
    **options: Any,
) -> Evaluation:
    """Explain every row [N, item...] by input, make the checks, and say how each figure is distributed.

    `checks`, `run` and `options` as for `attribute`, and raises what it raises.
    """
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    rows = min((len(array) for array in arrays.values() if array.ndim), default=0)
    quality: list[dict[str, Any]] = []
    for first in range(0, max(1, rows), TOGETHER):
        part = slice(first, first + TOGETHER)
        chosen = {name: array[part] for name, array in arrays.items()}
        own = {name: _part(name, value, part, rows) for name, value in options.items()}
        found = attribute(model, chosen, method=method, run=run, checks=checks, **own)
        quality += found.quality
    names = [*INLINE, *(name for check in found.quality[0].get("checks", {}) for name in CHECKS[check].figures)]
    figures = {
        name: Distribution.of([entry[name] for entry in quality], worst=_worst(name))
        for name in names
        if any(entry[name] is not None for entry in quality)
    }
    made = {name: entry["parameters"] for name, entry in found.quality[0].get("checks", {}).items()}
    return Evaluation(method, len(quality), dict(found.parameters), made, figures)


def _part(name: str, value: Any, part: slice, rows: int) -> Any:
    """Of a target or a baseline for each row, those of these rows; any other option as it is."""
    if rows <= TOGETHER or name not in ("target", "baseline", "outputs"):
        return value
    if isinstance(value, Mapping):
        return {key: _part(name, each, part, rows) for key, each in value.items()}
    if isinstance(value, Target):
        return Target(value.index[part], value.weight[part])
    return value[part] if isinstance(value, (list, np.ndarray)) and len(value) == rows else value


def _worst(name: str) -> str:
    return "smallest" if name in BETTER_LARGE else "largest"
