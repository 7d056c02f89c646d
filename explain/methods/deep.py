"""DeepLIFT and DeepSHAP: one walk back from the output, with slopes of chords in the place of derivatives.

Layer-wise relevance propagation, which walks back much like it, is patented for commercial use and not offered.
"""

from __future__ import annotations

import numpy as np

from ..compiler import compile as compile_program
from ..plans import Outcome, PairPlan, SecantPlan, capacity, filled
from ..programs import Program, numbers_of_baseline
from ..request import Arrays, Request
from .base import Method

BOUND = 1 << 24  # numbers that a program may hold of a background: 64 MiB of float32


def _deeplift(request: Request) -> SecantPlan:
    """One stretch from the baseline to the item."""
    explained = request.explained
    options = {"output": explained.output, "space": explained.space, "rules": "rescale", "points": "paired"}
    program = compile_program(request.model, "path_secant", **options)
    walked = {name: rows for name, rows in (request.baseline or {}).items() if f"{name}.baseline" in program.inputs}
    baselines = {name: np.broadcast_to(rows, request.inputs[name].shape)[:, None] for name, rows in walked.items()}

    def reduce(totals: Arrays, along: np.ndarray) -> Outcome:
        values = {name: total[:, 0] for name, total in totals.items()}
        return Outcome(filled(request, values), along[:, -1], along[:, 0], complete=True)

    return SecantPlan(request, program, 1, baselines, reduce)


def _deep_shap(request: Request) -> PairPlan:
    """The mean of DeepLIFT from every row of the background."""
    return PairPlan(request, _between_rows(request), request.background or {})


def _between_rows(request: Request) -> Program:
    """`deeplift`, of the request's background where that is prepared, small enough and met in one run."""
    model, explained, background = request.model, request.explained, request.prepared
    options = {"output": explained.output, "space": explained.space}
    if background is not None and len(background) <= capacity(model, request.inputs):
        key = f"numbers of a baseline of {explained.output!r} as {explained.space}"
        numbers = model.remember(key, lambda: numbers_of_baseline(model, explained))
        if numbers is not None and len(background) * numbers <= BOUND:
            return compile_program(model, "deeplift", background=background, **options)
    return compile_program(model, "deeplift", **options)


DEEPLIFT = Method(
    "deeplift",
    "What each element's difference from a baseline contributes, by the rescale rule; sums to f(x) - f(baseline).",
    "Shrikumar, Greenside, Kundaje 2017, arXiv:1704.02685",
    frozenset({"gradient", "chords", "baseline"}),
    "about 3 F",
    (),
    _deeplift,
)
DEEP_SHAP = Method(
    "deep_shap",
    "DeepLIFT averaged over the background; sums to f(x) - mean f(background).",
    "Lundberg & Lee 2017, arXiv:1705.07874",
    frozenset({"gradient", "chords", "background"}),
    "about 2 B F for a background of B rows",
    (),
    _deep_shap,
)
