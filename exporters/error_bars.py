"""Do the error bars of sampled methods hold the true value, and does the seed change the reasons?"""

from __future__ import annotations

from typing import Any

import numpy as np

import explain

from .case import Case
from .checks import unjudged, usual
from .effort import Effort, Pace
from .exported import Array
from .judging.verdict import joined
from .parity import figure

BAR = 0.9  # of intervals that state 95 %: their own number varies, and neighbouring values err together
REASONS, REASONS_BAR = 4, 0.99
OTHER_SEED = 1_000_003
ROUNDING = 1e-5  # of the largest value of a row: float32 of the model, where the interval itself is nothing
LEAST, LEAST_SEEDS = 2, 5
SAMPLES = ("n_samples", "n_permutations", "n_masks")


def error_bars(case: Case, method: str, effort: Effort, pace: Pace) -> Any:
    """The share of 95 % intervals that hold the mean over other seeds, over rows, features and seeds; and how many rows
    have the same reasons whatever the seed.

    A mean over seeds is what an answer varies around, and where the method is not biased, the value it estimates.
    """
    if not effort.seeded_rows:
        return unjudged("`glasshouse verify` measures it")
    names = explain.METHODS[method].parameters["properties"]
    size = next((name for name in SAMPLES if name in names), None)
    if size is None:
        return unjudged("it draws nothing")
    if usual(case, method, effort):
        return unjudged("too many values share too little time to draw them again and again")
    part, seeds = _part(case, method, effort, pace)
    if part is None:
        return unjudged("one explanation takes too long to make it again and again")
    answers = [part.explained(method, seed=seed) for seed in range(seeds)]
    if answers[0].half_widths is None:
        return unjudged("it states no interval")
    others = [part.explained(method, seed=OTHER_SEED + k) for k in range(effort.more)]
    true = np.mean([joined(other.values, answers[0].values) for other in others], axis=0)
    return _coverage(part, answers, true) | {"reasons": _reasons(part, method, answers), "seeds": seeds}


def _part(case: Case, method: str, effort: Effort, pace: Pace) -> tuple[Case | None, int]:
    """The rows there is time for, and over how many seeds."""
    for seeds in (effort.seeds, min(effort.seeds, LEAST_SEEDS)):
        count = pace.rows(effort, effort.seeded_rows, method, seeds + effort.more)
        if count >= LEAST:
            return case.first(count), seeds
    return None, 0


def _coverage(case: Case, answers: list[explain.Attribution], exact: Array) -> dict[str, Any]:
    held = []
    for answer in answers:
        values = joined(answer.values, answer.values)
        half = joined(answer.half_widths or {}, answer.values)
        slack = ROUNDING * np.abs(exact).max(axis=1, keepdims=True)
        moving = np.abs(exact).max(axis=1) > 0
        held.append(np.where(moving[:, np.newaxis], np.abs(values - exact) <= half + slack, True))
    share = np.mean(held, axis=(0, 2))
    what = "share of 95 % intervals that do not hold the mean over other seeds; the bar is on all rows together"
    found = figure(1 - share, case.rows, 1 - BAR, what).to_dict()
    total = float(np.mean(held))
    return found | {"share": total, "passed": total >= BAR}


def _reasons(case: Case, method: str, answers: list[explain.Attribution]) -> Any:
    """The share of rows whose largest values are the same features over all seeds; a verdict on the default method
    alone, whose reasons are given unless somebody chooses another."""
    count = _count(answers[0])
    if explain.METHODS[method].states != "contribution":
        return unjudged("its values are no contributions")
    if not case.manifest.features or count <= REASONS:
        return unjudged("the model has no named features, or so few that all are reasons")
    tops = np.stack([_top(joined(answer.values, answer.values)) for answer in answers])
    alike = (tops[:, np.newaxis] == tops[np.newaxis]).all(axis=3).mean(axis=1).max(axis=0)
    share = float((alike == 1).mean())
    what = f"share of seeds with other {REASONS} reasons than most; the bar is on rows that have the same with all"
    found = figure(1 - alike, case.rows, 1 - REASONS_BAR, what).to_dict()
    held = method == case.manifest.explanation.method
    return found | {"share": share, "passed": share >= REASONS_BAR if held else None}


def _top(values: Array) -> Array:
    """The places of the largest |values| of each row, in the order of places."""
    return np.sort(np.argsort(-np.abs(values), axis=1, kind="stable")[:, :REASONS], axis=1)


def _count(answer: explain.Attribution) -> int:
    return sum(array[0].size for array in answer.values.values())
