"""How far an attribution can be trusted: figures that come at no extra cost with every answer.

The relative completeness gap is |gap| / max(|f(x) - f(b)|, sum |phi|), 0 where nothing was attributed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..plans import Outcome


def quality_figures(outcome: Outcome, evaluations: np.ndarray, forward_gap: np.ndarray) -> list[dict[str, Any]]:
    """One dict of figures for each item.

    `completeness_gap` = sum of attributions - (f(x) - f(reference)), absolute and relative, None for methods that do
    not promise it; `standard_error` or `quadrature_error`, the largest of the attributions' errors, None where nothing
    was sampled or the rule does not estimate its error;
    `stopped_by`, what ended an anytime method ("tolerance", "max_evals", "budget_ms"), None for the others;
    `sparsity`, the Gini index of |attribution| (Hurley & Rickard 2009); `forward_gap`, the largest difference between
    the program's forward value and the served model's own; `evaluations` of the model for this item.
    """
    count = len(outcome.explained_value)
    return [_figures(outcome, item, int(evaluations[item]), float(forward_gap[item])) for item in range(count)]


def _figures(outcome: Outcome, item: int, evaluations: int, forward_gap: float) -> dict[str, Any]:
    phi = joined(outcome.values, item)
    finite = phi[np.isfinite(phi)]
    sizes = np.sort(np.abs(finite))
    errors = None if outcome.errors is None else joined(outcome.errors, item)
    largest = None if errors is None else float(errors.max(initial=0.0))
    gap, relative = _completeness(outcome, item, finite, float(sizes.sum()))
    return {
        "completeness_gap": gap,
        "completeness_gap_relative": relative,
        "forward_gap": forward_gap,
        "evaluations": evaluations,
        "standard_error": largest if outcome.error_kind == "standard_error" else None,
        "quadrature_error": largest if outcome.error_kind == "quadrature_error" else None,
        "stopped_by": outcome.stopped[item] if outcome.stopped else None,
        "sparsity": _gini(sizes),
        "max_abs": float(sizes[-1]) if len(sizes) else 0.0,
        "nan_count": int(phi.size - finite.size),
    }


def joined(values: Mapping[str, np.ndarray], item: int) -> np.ndarray:
    """All values of one item beside each other, float64 [P]."""
    return np.concatenate([np.asarray(value[item], dtype=np.float64).reshape(-1) for value in values.values()])


def _completeness(outcome: Outcome, item: int, phi: np.ndarray, size: float) -> tuple[float | None, float | None]:
    if not outcome.complete or outcome.base_values is None:
        return None, None
    rise = float(outcome.explained_value[item] - outcome.base_values[item])
    gap = float(phi.sum()) - rise
    scale = max(abs(rise), size)
    return gap, abs(gap) / scale if scale else 0.0


def gini(values: np.ndarray) -> float:
    """Gini index of absolute values: 0 where all are equal, towards 1 where one has everything."""
    return _gini(np.sort(np.abs(values)))


def _gini(sizes: np.ndarray) -> float:
    """The index of sizes in ascending order."""
    total, count = sizes.sum(), len(sizes)
    return float(1 - 2 * (sizes / total) @ np.arange(count - 0.5, 0, -1) / count) if total else 0.0
