"""One method on the rows of a case: everything a certificate says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import explain

from .case import Case
from .checks import as_figure, completeness, unjudged
from .effort import Effort, Pace
from .error_bars import error_bars
from .judging import (
    COALITION_METHODS,
    SLOPE_METHODS,
    Differences,
    Judgement,
    Unjudged,
    judged_by_coalitions,
    judged_by_slopes,
    judged_by_windows,
)
from .randomisation import randomisation

if TYPE_CHECKING:
    from torch import nn


def examined(case: Case, method: str, effort: Effort, pace: Pace, network: nn.Module | None = None) -> dict[str, Any]:
    """Completeness, judge, randomisation and error bars of a method; under ``refused`` why it refuses a real row."""
    nothing = unjudged("it was not run")
    report: dict[str, Any] = {
        "completeness": nothing,
        "judge": nothing,
        "judged_by": None,
        "randomisation": nothing,
        "error_bars": nothing,
        "passed": None,
    }
    if "baseline" in explain.METHODS[method].needs and case.baseline is None:
        return report
    try:
        report["completeness"] = completeness(case, method, effort, pace)
        report |= _judged(case.first(effort.judged), method, network)
        report["randomisation"] = randomisation(case, method, effort, pace)
        report["error_bars"] = error_bars(case, method, effort, pace)
    except explain.ExplainError as error:
        report["refused"] = str(error)
    return report


def _judged(case: Case, method: str, network: nn.Module | None) -> dict[str, Any]:
    try:
        judgement = judge(case, method, network)
    except Unjudged as reason:
        return {"judge": unjudged(str(reason))}
    judged_by = {"name": judgement.judge, "version": judgement.version}
    return {"judge": as_figure(case, judgement), "judged_by": judged_by}


def judge(case: Case, method: str, network: nn.Module | None) -> Judgement:
    """What the best judge at hand says of a method on a case's rows. Raises Unjudged."""
    if method in COALITION_METHODS:
        return judged_by_coalitions(case, method)
    if method == "occlusion":
        return judged_by_windows(case)
    if network is not None:
        from .judging.source import judged_by_source  # imports torch

        return judged_by_source(case, method, network)
    if method in SLOPE_METHODS:
        return judged_by_slopes(case, method, Differences(case))
    raise Unjudged("it needs the source network, which is not here")
