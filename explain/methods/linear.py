"""SHAP of models that are affine in their encoded inputs: a slope times the distance from the background's mean."""

from __future__ import annotations

from ..plans import TreePlan
from ..request import Request
from .base import Method
from .trees import bound


def _linear_shap(request: Request) -> TreePlan:
    """Every item in one run; the mean of the background's encodings is in the program."""
    return TreePlan(request, bound(request, "linear_shap"))


LINEAR_SHAP = Method(
    "linear_shap",
    "Exact Shapley values of a model that is affine in its (encoded) inputs, features taken as independent.",
    "Lundberg & Lee 2017, arXiv:1705.07874, corollary 1",
    frozenset({"background", "affine"}),
    "about 1 F, whatever the size of the background",
    (),
    _linear_shap,
)
