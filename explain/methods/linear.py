"""SHAP of models that are affine in their (encoded) inputs: a slope times the distance from the background's mean."""

from __future__ import annotations

import numpy as np

from ..compiler import compile as compile_program
from ..plans import Outcome, PairPlan, PathPlan, filled
from ..request import Arrays, Request
from .base import Method


def _linear_shap(request: Request) -> PathPlan | PairPlan:
    """w (x - mean of the background), at the two ends of one path; the slope w is the same everywhere.

    Codes have no mean, their encodings have: there, the mean over the background of w (e(x) - e(b)).
    """
    explained, background, share = request.explained, request.background or {}, request.background_weight
    options = {"output": explained.output, "space": explained.space}
    if any(leaf.value != leaf.input for leaf in request.model.leaves(explained)):
        return PairPlan(request, compile_program(request.model, "deeplift", **options), background)

    def reduce(totals: Arrays, along: np.ndarray) -> Outcome:
        values = {name: total[:, 0] for name, total in totals.items()}
        return Outcome(filled(request, values), along[:, -1], along[:, 0], complete=True)

    program = compile_program(request.model, "path_gradient", **options)
    baselines = {}
    for name, array in request.inputs.items():
        if f"{name}.baseline" in program.inputs:
            mean = np.tensordot(share, background[name].astype(np.float64), axes=1).astype(array.dtype)
            baselines[name] = np.broadcast_to(mean, array.shape)[:, None]
    ends = np.array([0.0, 1.0])
    return PathPlan(request, program, ends, ends[:, None], baselines, "attribution", reduce)


LINEAR_SHAP = Method(
    "linear_shap",
    "Exact Shapley values of a model that is affine in its (encoded) inputs, features taken as independent.",
    "Lundberg & Lee 2017, arXiv:1705.07874, corollary 1",
    frozenset({"background", "gradient", "affine"}),
    "about 4 F; with codes 2 B F for a background of B rows",
    (),
    _linear_shap,
)
