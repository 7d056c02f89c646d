"""The figures of a certificate that are about explanations: gradients, completeness, and the distance from a judge."""

from __future__ import annotations

from typing import Any

import numpy as np

import explain

from .case import Case
from .exported import Array
from .judges import TorchJudge, attribution_errors, gradient_errors
from .offers import players
from .parity import figure
from .running import predict

NOT_JUDGED = "not judged"
SAMPLED_ROWS = 2
IG_STEPS = 50
GRADIENT_TOLERANCE = 1e-4
ATTRIBUTION_TOLERANCE = 1e-4
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
# Complete with any number of evaluations, or only asked whether they answer: few are as good a test as many.
FEW: dict[str, dict[str, Any]] = {
    "permutation_shap": {"n_permutations": 2, "averaged": True},
    "sampling_shap": {"n_permutations": 2},
    "partition_shap": {"max_evals": 64},
    "lime": {"n_samples": 64},
    "rise": {"n_masks": 32},
}
_STEPS = (1e-2, 1e-3, 3e-4, 1e-4)
_NUDGE = 1e-2


def gradients(case: Case, judge: TorchJudge | None) -> dict[str, Any]:
    """The compiled gradient against autograd, and against finite differences of the served model."""
    report: dict[str, Any] = {"autograd": NOT_JUDGED}
    if judge is not None:
        found = case.explained("saliency", absolute=False).values
        errors = gradient_errors(found, judge.gradient(case.inputs, case.target))
        report["autograd"] = _judged(case, errors, GRADIENT_TOLERANCE, f"relative L2 error against {judge.name}")
    report["finite_difference"] = _differences(case)
    return report


def examined(case: Case, method: str, judge: TorchJudge | None) -> dict[str, Any]:
    """What could be measured of one method: that it answers, its completeness, and its distance from a judge.

    A method that refuses a real row says why under ``refused``.
    """
    report: dict[str, Any] = {"completeness": NOT_JUDGED, "judge": NOT_JUDGED}
    if "baseline" in explain.METHODS[method].needs and case.baseline is None:
        return report
    try:
        if method in COMPLETENESS:
            report["completeness"] = _completeness(case, method)
        else:
            case.first(1).explained(method, **FEW.get(method, {}))
        if judge is not None and all(array.dtype.kind == "f" for array in case.inputs.values()):
            report["judge"] = _by_judge(case, method, judge)
    except explain.ExplainError as error:
        report["refused"] = str(error)
    return report


def _by_judge(case: Case, method: str, judge: TorchJudge) -> Any:
    """The distance from the methods' formulas as torch computes them without us.

    Where torch's own float32 is further from its float64 than the tolerance, as after thousands of ReLUs and max-pools
    at path points that no one chose, ten times that distance is allowed: no float32 program can be held to less.
    """
    exact = _by_torch(case, method, judge)
    if exact is None:
        return NOT_JUDGED
    parameters: dict[str, dict[str, Any]] = {
        "saliency": {"absolute": True},
        "integrated_gradients": {"n_steps": IG_STEPS},
    }
    found = case.explained(method, **parameters.get(method, {})).values
    rounded = _by_torch(case, method, judge.rounded()) or exact
    tolerance = max(ATTRIBUTION_TOLERANCE, 10 * float(attribution_errors(rounded, exact).max()))
    return _judged(case, attribution_errors(found, exact), tolerance, f"attribution error against {judge.name}")


def _by_torch(case: Case, method: str, judge: TorchJudge) -> dict[str, Array] | None:
    """The attribution by torch; None for methods whose formula it cannot repeat."""
    if method == "integrated_gradients" and case.baseline is not None:
        return judge.integrated_gradients(case.inputs, case.baseline, case.target, IG_STEPS)
    if method == "saliency":
        return {name: np.abs(array) for name, array in judge.gradient(case.inputs, case.target).items()}
    if method == "input_x_gradient":
        return {name: g * case.inputs[name] for name, g in judge.gradient(case.inputs, case.target).items()}
    return None


def _completeness(case: Case, method: str) -> dict[str, Any]:
    """|Σφ − (f(x) − f(reference))| relative to the larger of |f(x) − f(reference)| and Σ|φ|, worst row."""
    parameters = dict(FEW.get(method, {}))
    if method == "kernel_shap" and isinstance(case.manifest.explanation.groups, bool):
        parameters["n_samples"] = 2 * _players(case) + 64
    if "background" in explain.METHODS[method].needs:
        case = case.first(SAMPLED_ROWS)
    quality = case.explained(method, **parameters).quality
    gaps = np.array([item["completeness_gap_relative"] for item in quality], dtype=np.float64)
    return _judged(case, np.abs(gaps), COMPLETENESS[method], "relative completeness gap")


def _players(case: Case) -> int:
    if case.manifest.explanation.groups is True:
        return players(case.manifest.inputs, case.manifest.features) or 1
    return sum(array[0].size for array in case.inputs.values())


def _differences(case: Case) -> Any:
    """⟨gradient, u⟩ against central differences of the served model along random u, worst row.

    Logits are not among the model's outputs, but their differences are: log p_a − log p_b is the logit of a less that
    of b. So each row's gradient is taken of its best class against its second, and nothing compiled is on the other
    side. Directions are drawn in units of each input's spread. Rows are first moved by a hundredth of that: flat parts
    of a picture put max-pools exactly on a tie, where no derivative exists.
    """
    case = case.moved({name: _nudge(case, name) for name, array in case.inputs.items() if array.dtype.kind == "f"})
    link = case.model.explained(case.manifest.outputs[0].name).link
    answer = case.outputs[case.manifest.outputs[0].name]
    classes = answer.reshape(len(answer), -1).shape[1]
    if answer.ndim > 2 or (link == "softmax" and classes < 2):
        return NOT_JUDGED
    ranked = np.argsort(-answer.reshape(len(answer), -1), axis=1, kind="stable")
    pair = ranked[:, :2] if link == "softmax" else ranked[:, :1]
    index = pair[:, :, np.newaxis] if answer.ndim == 2 else np.zeros((len(answer), 1, 0), dtype=np.int64)
    weight = np.tile(np.array([1.0, -1.0], dtype=np.float32)[: pair.shape[1]], (len(answer), 1))
    target = explain.Target(index.astype(np.int64), weight)
    gradient = case.explained("saliency", absolute=False, target=target).values
    errors = [_row_error(case, row, gradient, pair[row], link) for row in range(len(answer))]
    what = "disagreement with central differences of the served model along random directions"
    return _judged(case, np.array(errors), DIFFERENCE_TOLERANCE, what)


def _row_error(case: Case, row: int, gradient: dict[str, Array], pair: Array, link: str) -> float:
    """The worst disagreement of one row over its floating-point inputs, each by the step that suits it best.

    Long steps cross kinks and short ones drown in rounding; a wrong gradient is wrong by all of them. Smooth networks
    come to 1e-4, deep ones of ReLU and max-pool in float32 to 1e-1; a wrong rule gives about 1.
    """
    worst = 0.0
    for name, array in case.inputs.items():
        if array.dtype.kind != "f" or name not in gradient:
            continue
        spread = _spread(case, name)

        def f(moved: Any, name: str = name, spread: Array = spread) -> Array:
            point = {key: value[row : row + 1] for key, value in case.inputs.items()}
            point[name] = (point[name] + spread * moved[name]).astype(point[name].dtype)
            answer = predict(case.served, case.manifest, point, case.engine)[case.manifest.outputs[0].name]
            return np.asarray(_value(answer.astype(np.float64).reshape(-1), pair, link))

        origin = {name: np.zeros(array[row : row + 1].shape, dtype=np.float64)}
        slope = gradient[name][row : row + 1] * spread
        worst = max(worst, min(explain.dot_test(f, slope, origin, name, step=step, seed=row) for step in _STEPS))
    return worst


def _nudge(case: Case, name: str) -> Array:
    noise = np.random.default_rng(0).standard_normal(case.inputs[name].shape)
    return np.asarray(case.inputs[name] + (_NUDGE * _spread(case, name) * noise).astype(case.inputs[name].dtype))


def _value(answer: Array, pair: Array, link: str) -> float:
    """The explained value by the model's own output."""
    if link == "softmax":
        return float(np.log(answer[pair[0]]) - np.log(answer[pair[1]]))
    if link == "sigmoid":
        return float(np.log(answer[pair[0]]) - np.log1p(-answer[pair[0]]))
    return float(answer[pair[0]])


def _spread(case: Case, name: str) -> Array:
    """The deviation of each element over the background, or of all where an element hardly varies or none is known."""
    rows = (case.background or case.inputs)[name].astype(np.float64)
    overall = float(rows.std()) or 1.0
    if case.manifest.input(name).kind != "tabular":
        return np.full(rows.shape[1:], overall)
    deviation = rows.std(axis=0)
    return np.where(deviation > 0, deviation, 1.0)


def _judged(case: Case, errors: Array, tolerance: float, what: str) -> dict[str, Any]:
    return figure(errors, case.rows, tolerance, what).to_dict()
