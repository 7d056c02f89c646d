"""SHAP of tree ensembles, exact against a whole background: its tables are made once, with the program."""

from __future__ import annotations

from functools import partial

from ..compiler import compile as compile_program
from ..errors import MethodUnavailable
from ..plans import TreePlan
from ..programs import Program
from ..request import Request
from .base import Method


def bound(request: Request, name: str, **options: bool) -> Program:
    """A program that holds the request's background, and its groups where they are declared."""
    groups = request.groups
    if groups.per_item:
        raise MethodUnavailable(f"{name} takes the same groups for all items: they are part of its program")
    explained = request.explained
    return compile_program(
        request.model,
        name,
        background=request.background,
        weights=request.background_weight,
        groups=None if groups.names is None else groups.index,
        output=explained.output,
        space=explained.space,
        **options,
    )


def _tree_shap(request: Request, interactions: bool = False) -> TreePlan:
    """Every item in one run; the background is in the program."""
    return TreePlan(request, bound(request, "tree_shap", interactions=interactions))


TREE_SHAP = Method(
    "tree_shap",
    "Exact Shapley values of a tree ensemble against the whole background; sums to f(x) - mean f(background).",
    "Lundberg et al. 2020, arXiv:1905.04610; Nadel & Wettenstein 2025, arXiv:2511.09376",
    frozenset({"background", "trees"}),
    "some 10 F, whatever the size of the background",
    (),
    _tree_shap,
)
TREE_SHAP_INTERACTIONS = Method(
    "tree_shap_interactions",
    "What pairs of features of a tree ensemble do together, [F, F]; rows sum to tree_shap's values.",
    "Grabisch & Roubens 1999; Lundberg et al. 2020, arXiv:1905.04610",
    frozenset({"background", "trees"}),
    "some 50 F, whatever the size of the background",
    (),
    partial(_tree_shap, interactions=True),
)
