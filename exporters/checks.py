"""The figures of a certificate that are about gradients and completeness, and what a judge says as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import explain

from .case import Case
from .effort import Effort, Pace
from .exported import Array
from .judging import Judgement, Served, Unjudged, gradient_errors, refuse_steps
from .judging.differences import spread
from .offers import players
from .parity import figure, spread_figure

if TYPE_CHECKING:
    from torch import nn

NOT_JUDGED = "not judged"
SAMPLED_ROWS, BACKGROUND = 2, 8  # where few are as good a test as many
GRADIENT_TOLERANCE = 1e-4
DIFFERENCE_TOLERANCE = 0.2
COMPLETENESS = {
    "integrated_gradients": 5e-2,
    "deeplift": 1e-4,
    "deep_shap": 1e-4,
    "exact_shap": 1e-5,
    "tree_shap": 1e-5,
    "tree_shap_interactions": 1e-5,
    "linear_shap": 1e-5,
    "kernel_shap": 1e-5,
    "permutation_shap": 1e-5,
    "partition_shap": 1e-5,
}
ROUNDED = 5e-2  # what gradients that pass rounding by may miss
# Complete with any number of evaluations, or only asked whether they answer: few are as good a test as many.
FEW: dict[str, dict[str, Any]] = {
    "permutation_shap": {"n_permutations": 2, "averaged": True},
    "sampling_shap": {"n_permutations": 2},
    "partition_shap": {"max_evals": 64},
    "lime": {"n_samples": 64},
    "rise": {"n_masks": 32},
}
HEAVY = ("kernel_shap", "permutation_shap", "sampling_shap")
MANY = 128  # players, of whom each costs such a method evaluations by the hundred
_STEPS = (1e-2, 1e-3, 3e-4, 1e-4)
_NUDGE = 1e-2


def unjudged(reason: str) -> str:
    """What stands in the place of a figure that nobody can vouch for."""
    return f"{NOT_JUDGED}: {reason}"


def few(case: Case, method: str) -> dict[str, Any]:
    """Parameters with which a method takes few evaluations."""
    if method == "kernel_shap" and isinstance(case.manifest.explanation.groups, bool):
        return {"n_samples": 2 * _players(case) + 64}
    return dict(FEW.get(method, {}))


def usual(case: Case, method: str, effort: Effort) -> dict[str, Any]:
    """The parameters a check runs a method with: its defaults, but few evaluations where there is no time for more."""
    heavy = method in HEAVY and isinstance(case.manifest.explanation.groups, bool) and _players(case) > MANY
    return few(case, method) if effort.seconds is None or heavy else {}


def gradients(case: Case, network: nn.Module | None) -> dict[str, Any]:
    """The compiled gradient against autograd, and against finite differences of the served model."""
    report: dict[str, Any] = {"autograd": unjudged("there is no source network")}
    if network is not None:
        report["autograd"] = _by_autograd(case, network)
    try:
        report["finite_difference"] = _differences(case)
    except Unjudged as reason:
        report["finite_difference"] = unjudged(str(reason))
    return report


def _by_autograd(case: Case, network: nn.Module) -> Any:
    from .judging.torch_judge import TorchJudge

    judge = TorchJudge(network, [spec.name for spec in case.manifest.inputs])
    found = case.explained("saliency", absolute=False).values
    errors = gradient_errors(found, judge.gradient(case.inputs, case.target))
    what = f"relative L2 error against {judge.name}"
    return spread_figure(errors, case.rows, GRADIENT_TOLERANCE, what)


def as_figure(case: Case, judgement: Judgement) -> dict[str, Any]:
    """A judgement as a figure."""
    return figure(judgement.errors, case.rows, judgement.tolerance, judgement.what).to_dict()


def completeness(case: Case, method: str, effort: Effort, pace: Pace) -> Any:
    """|Σφ − (f(x) − f(reference))| relative to the larger of |f(x) − f(reference)| and Σ|φ|, over the rows.

    Methods that are complete by no theorem are not judged; that they answer is found out all the same.
    """
    if method not in COMPLETENESS:
        case.first(1).explained(method, **few(case, method))
        return unjudged("its values are not meant to add up")
    parameters = usual(case, method, effort)
    quick = effort.seconds is None and "background" in explain.METHODS[method].needs
    count = max(1, pace.rows(effort, SAMPLED_ROWS if quick else effort.rows, method, **parameters))
    part = case.first(count, BACKGROUND if quick else None)
    quality = part.explained(method, **parameters).quality
    gaps = np.array([item["completeness_gap_relative"] for item in quality], dtype=np.float64)
    rounded = "gradient" in explain.METHODS[method].needs and case.rounds
    tolerance = max(COMPLETENESS[method], ROUNDED) if rounded else COMPLETENESS[method]
    found = spread_figure(np.abs(gaps), case.rows, tolerance, "relative completeness gap")
    return found | {"parameters": parameters}


def _players(case: Case) -> int:
    if case.manifest.explanation.groups is True:
        return players(case.manifest.inputs, case.manifest.features) or 1
    return sum(array[0].size for array in case.inputs.values())


def _differences(case: Case) -> dict[str, Any]:
    """⟨gradient, u⟩ against central differences of the served model along random u, worst row.

    Nothing compiled is on the other side: see `Served`. Directions are drawn in units of each input's spread. Rows are
    first moved by a hundredth of that: flat parts of a picture put max-pools exactly on a tie, where no derivative
    exists.
    """
    refuse_steps(case)
    case = case.moved({name: _nudge(case, name) for name, array in case.inputs.items() if array.dtype.kind == "f"})
    served = Served.of(case)
    gradient = case.explained("saliency", absolute=False, target=served.target, space=served.space).values
    errors = [_row_error(served, row, gradient) for row in range(len(case.rows))]
    what = "disagreement with central differences of the served model along random directions"
    return spread_figure(np.array(errors), case.rows, DIFFERENCE_TOLERANCE, what)


def _row_error(served: Served, row: int, gradient: dict[str, Array]) -> float:
    """The worst disagreement of one row over its floating-point inputs, each by the step that suits it best.

    Long steps cross kinks and short ones drown in rounding; a wrong gradient is wrong by all of them. Smooth networks
    come to 1e-4, deep ones of ReLU and max-pool in float32 to 1e-1; a wrong rule gives about 1.
    """
    worst, case = 0.0, served.case
    for name, array in case.inputs.items():
        if array.dtype.kind != "f" or name not in gradient:
            continue
        width = spread(case, name)

        def f(moved: Any, name: str = name, width: Array = width) -> Array:
            point = {key: value[row : row + 1] for key, value in case.inputs.items()}
            point[name] = (point[name] + width * moved[name]).astype(point[name].dtype)
            return np.asarray(served.value(point, np.array([row]))[0])

        origin = {name: np.zeros(array[row : row + 1].shape, dtype=np.float64)}
        slope = gradient[name][row : row + 1] * width
        worst = max(worst, min(explain.dot_test(f, slope, origin, name, step=step, seed=row) for step in _STEPS))
    return worst


def _nudge(case: Case, name: str) -> Array:
    noise = np.random.default_rng(0).standard_normal(case.inputs[name].shape)
    return np.asarray(case.inputs[name] + (_NUDGE * spread(case, name) * noise).astype(case.inputs[name].dtype))
