"""Partition SHAP: Owen values of a hierarchy of groups."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InvalidParameter
from ..plans import Budget, MaskPlan, OwenPlan, Tree
from ..request import Request
from .base import BUDGET, TOLERANCE, Method, Parameter, by_group
from .permutations import alone

EVALS = 500


def _partition_shap(request: Request) -> OwenPlan | MaskPlan:
    leaves = request.groups.count
    if leaves == 1:
        return alone(request)
    declared = request.parameters["hierarchy"]
    children = balanced(leaves) if declared is None else _checked(declared, leaves)
    budget = Budget.of(request.parameters, request.parameters["max_evals"])
    return OwenPlan(request, [Tree(children, leaves)], budget, by_group(request))


def balanced(leaves: int) -> np.ndarray:
    """Children [G - 1, 2] of a tree that halves the groups in their order."""
    made: list[tuple[int, int]] = []

    def node(start: int, stop: int) -> int:
        if stop - start == 1:
            return start
        middle = (start + stop + 1) // 2
        made.append((node(start, middle), node(middle, stop)))
        return leaves + len(made) - 1

    node(0, leaves)
    return np.array(made, dtype=np.int64)


def _checked(declared: Any, leaves: int) -> np.ndarray:
    """Children as they came, if they are a tree over all groups."""
    try:
        children = np.asarray(declared)
    except ValueError:
        children = np.asarray(None)
    whole = children.dtype.kind in "iu" and children.shape == (leaves - 1, 2)
    below = whole and (children < leaves + np.arange(leaves - 1)[:, None]).all()
    if not below or not np.array_equal(np.sort(children.reshape(-1)), np.arange(2 * leaves - 2)):
        raise InvalidParameter(
            f"parameter 'hierarchy': expected {leaves - 1} pairs of children, groups 0 to {leaves - 1} and pair k "
            f"being node {leaves} + k, each node but the last once"
        )
    return children.astype(np.int64)


PARTITION_SHAP = Method(
    "partition_shap",
    "Shapley values within a hierarchy of groups (Owen values), the largest parts divided first; adds up exactly.",
    "Owen 1977, doi:10.1007/978-3-642-45494-3_7; Lundberg & Lee 2017, arXiv:1705.07874",
    frozenset({"background", "masks"}),
    "max_evals F per background row",
    (
        Parameter("max_evals", EVALS, {"type": "integer", "minimum": 2, "maximum": 1 << 20}, "most coalitions"),
        Parameter("hierarchy", None, {"type": ["array", "null"]}, "G - 1 pairs of children; default: halves, in order"),
        Parameter(
            "tolerance", 0.0, TOLERANCE.schema, "stop when no part is larger than this share of max |attribution|"
        ),
        BUDGET,
    ),
    _partition_shap,
)
