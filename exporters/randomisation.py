"""Does an explanation depend on what the model has learned? The randomisation test, as a figure of a certificate."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import explain

from .case import Case
from .checks import few, unjudged, usual
from .effort import Effort, Pace
from .parity import spread_figure
from .running import run

BAR = 0.5
LEAST = 4
ROWS = 16  # of the background: the ranking of attributions is what is compared


def randomisation(case: Case, method: str, effort: Effort, pace: Pace) -> Any:
    """Spearman's correlation of |φ| with that of networks of random weights, which should be low.

    `passed` is whether the median row is below the bar; a method that carries a caution is known to fail and has
    None. Source: Adebayo et al. (2018), arXiv 1810.03292.
    """
    if not effort.random_rows:
        return unjudged("`glasshouse verify` measures it")
    parameters = usual(case, method, effort)
    if pace.seconds(method, **parameters) * LEAST * (1 + effort.draws) > 4 * (effort.seconds or np.inf):
        parameters = few(case, method)
    count = max(LEAST, pace.rows(effort, effort.random_rows, method, 1.0 + effort.draws, **parameters))
    part = case.first(count, ROWS)
    try:
        found = explain.mprt(
            part.model,
            part.inputs,
            method=method,
            run=partial(run, part.engine),
            draws=effort.draws,
            output=part.output,
            outputs=part.outputs,
            target=part.aim,
            **part.references(method),
            **parameters,
        )
    except explain.MethodUnavailable as error:
        return unjudged(str(error))
    return _figure(part, method, found) | {"parameters": parameters}


def _figure(case: Case, method: str, found: explain.Mprt) -> dict[str, Any]:
    draws = found.correlation[found.kind][0]
    known = np.isfinite(draws)
    each = np.where(known.any(axis=0), np.nanmedian(np.where(known, draws, np.nan), axis=0), np.nan)
    rows = [row for row, value in zip(case.rows, each, strict=False) if np.isfinite(value)]
    if not rows:
        return {"what": "no row has a correlation", "n": 0, "flagged": False, "passed": None}
    what = f"Spearman correlation with random weights of |attribution|, {found.kind}; the bar is on the median"
    figure = spread_figure(each[np.isfinite(each)], rows, BAR, what)
    flagged = explain.METHODS[method].caution is not None
    passed = None if flagged else figure["median"] < BAR
    published = found.medians("absolute")[0]
    told = {"median_spearman": figure["median"], "median_absolute": published, "flagged": flagged, "passed": passed}
    return figure | told
