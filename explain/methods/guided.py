"""Guided backpropagation: offered because people ask for it, flagged because it fails sanity checks."""

from __future__ import annotations

import numpy as np

from ..compiler import compile as compile_program
from ..errors import MethodUnavailable
from ..plans import Outcome, PathPlan
from ..request import Arrays, Request
from .base import Method


def _guided_backprop(request: Request) -> PathPlan:
    """The modified gradient at x: a path of no length, walked with other rules."""
    explained = request.explained
    options = {"output": explained.output, "space": explained.space, "rules": "guided"}
    program = compile_program(request.model, "path_gradient", **options)
    walked = [name for name in request.inputs if f"{name}.baseline" in program.inputs]
    for name in walked:
        if request.inputs[name].dtype.kind != "f":
            raise MethodUnavailable(f"guided_backprop: codes like {name!r} have no gradient of their own")

    def reduce(totals: Arrays, along: np.ndarray) -> Outcome:
        return Outcome({name: total[:, 0] for name, total in totals.items()}, along[:, -1])

    baselines = {name: request.inputs[name][:, None] for name in walked}
    return PathPlan(request, program, np.ones(1), np.ones((1, 1)), baselines, "gradient", reduce)


GUIDED_BACKPROP = Method(
    "guided_backprop",
    "The gradient with every Relu passing only positive adjoints.",
    "Springenberg et al. 2014, arXiv:1412.6806",
    frozenset({"gradient"}),
    "about 2 F",
    (),
    _guided_backprop,
    caution="fails sanity checks: it hardly depends on the weights (Adebayo et al. 2018, arXiv:1810.03292)",
    states="slope",
)
