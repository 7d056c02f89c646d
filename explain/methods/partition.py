"""Partition SHAP: Owen values of a hierarchy of groups."""

from __future__ import annotations

from ..groups import holding
from ..plans import Budget, MaskPlan, OwenPlan, Tree
from ..request import Request
from ..segments import hierarchy, resolve
from .base import BUDGET, TOLERANCE, Method, Parameter, by_group
from .permutations import alone

EVALS = 500


def _partition_shap(request: Request) -> OwenPlan | MaskPlan:
    leaves = request.groups.count
    if leaves == 1:
        return alone(request)
    declared = request.parameters["hierarchy"]
    background = None if request.removal is None or request.removal.per_item else request.removal.rows
    groups = request.groups if request.groups.names else holding(resolve("elements", request.features), request.inputs)
    children = hierarchy(groups, request.inputs, background=background, declared=declared)
    trees = [Tree(one, leaves) for one in (children if children.ndim == 3 else children[None])]
    budget = Budget.of(request.parameters, request.parameters["max_evals"])
    return OwenPlan(request, trees, budget, by_group(request))


PARTITION_SHAP = Method(
    "partition_shap",
    "Shapley values within a hierarchy of groups (Owen values), the largest parts divided first; adds up exactly.",
    "Owen 1977, doi:10.1007/978-3-642-45494-3_7; Lundberg & Lee 2017, arXiv:1705.07874",
    frozenset({"background", "masks"}),
    "max_evals F per background row",
    (
        Parameter("max_evals", EVALS, {"type": "integer", "minimum": 2, "maximum": 1 << 20}, "most coalitions"),
        Parameter(
            "hierarchy", None, {"type": ["array", "null"]}, "G - 1 pairs of children; else by place or correlation"
        ),
        Parameter(
            "tolerance", 0.0, TOLERANCE.schema, "stop when no part is larger than this share of max |attribution|"
        ),
        BUDGET,
    ),
    _partition_shap,
)
