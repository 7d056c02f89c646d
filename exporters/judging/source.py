"""Methods by the source network: gradients, chords, guided gradients and class activation maps, all in torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

import explain

from ..case import Case
from ..exported import Array
from .by_slopes import ROWS, SLOPE_METHODS, judged_by_slopes
from .torch_judge import TorchJudge
from .verdict import Judgement, Unjudged, attribution_errors

if TYPE_CHECKING:
    from torch import nn

TOLERANCE = 1e-4
MAPS = ("grad_cam", "hires_cam", "layer_cam")
SOURCE_METHODS = (*SLOPE_METHODS, "deeplift", "deep_shap", "guided_backprop", *MAPS)


class SourceSlopes:
    """Gradients of each row's predicted logit or value by autograd."""

    name = TorchJudge.name
    tolerance = TOLERANCE
    exact = True

    def __init__(self, judge: TorchJudge, case: Case) -> None:
        self._judge, self._target, self.version = judge, case.target, version("torch")

    @property
    def options(self) -> dict[str, object]:
        """Nothing: what is explained by default is what is judged."""
        return {}

    def encoded(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Codes by their embedding."""
        return self._judge.encoded(inputs)

    def gradient(self, inputs: Mapping[str, Array], items: Array) -> dict[str, Array]:
        """See `TorchJudge.gradient`."""
        return self._judge.gradient(inputs, self._target[items])


def judged_by_source(case: Case, method: str, network: nn.Module) -> Judgement:
    """The method's errors on the case's rows. Raises Unjudged."""
    names = [spec.name for spec in case.manifest.inputs]
    if method in SLOPE_METHODS:
        judge = TorchJudge(network, names)
        return judged_by_slopes(case, method, SourceSlopes(judge, case), SourceSlopes(judge.rounded(), case))
    if method in ("deeplift", "deep_shap"):
        return _chords(case, method, TorchJudge(network, names, "rescale"))
    if method == "guided_backprop":
        judge = TorchJudge(network, names, "guided")
        found = case.explained(method).values
        exact, near = (each.gradient(case.inputs, case.target) for each in (judge, judge.rounded()))
        return _held(found, exact, near, "guided gradients in torch")
    if method in MAPS:
        return _maps(case, method, network, TorchJudge(network, names))
    raise Unjudged("no independent implementation of it is at hand")


def _chords(case: Case, method: str, judge: TorchJudge) -> Judgement:
    """Σ over rows b of multiplier · (x − b), divided by their number; the multipliers are autograd's, with chords.

    Source: Shrikumar, Greenside, Kundaje (2017), arXiv 1704.02685.
    """
    case = case.first(len(case.rows), ROWS)
    given = case.baseline if method == "deeplift" else case.background
    if given is None:
        raise Unjudged("there is nothing to compare with")
    judges = (judge, judge.rounded())
    exact, near = (_multiplied(case, each, given) for each in judges)
    return _held(case.explained(method).values, exact, near, "the rescale rule in torch")


def _multiplied(case: Case, judge: TorchJudge, rows: Mapping[str, Array]) -> dict[str, Array]:
    x, n, count = judge.encoded(case.inputs), len(case.rows), len(next(iter(rows.values())))
    total = {name: np.zeros(case.inputs[name].shape) for name in x}
    for row in range(count):
        one = {name: np.repeat(array[row : row + 1], n, axis=0) for name, array in rows.items()}
        b = judge.encoded(one)
        both = {name: np.concatenate([x[name], b[name]]) for name in x}
        slopes = judge.gradient(both, np.tile(case.target, 2))
        for name, slope in slopes.items():
            part = slope[:n] * (x[name] - b[name])
            total[name] += part.sum(axis=tuple(range(total[name].ndim, part.ndim))) / count
    return total


def _maps(case: Case, method: str, network: nn.Module, judge: TorchJudge) -> Judgement:
    """Σ_c of activation times its gradient's mean (grad_cam), its gradient (hires_cam), or the positive part of that
    (layer_cam); then the positive part."""
    from . import torch_rules  # imports torch

    if case.manifest.explanation.layer is not None:
        raise Unjudged("the manifest names a layer of the graph, and which module that is is not known")
    ops = {layer.op for layer in explain.weight_layers(case.model, case.output)}
    module = torch_rules.last_convolution(network.eval(), folded="BatchNormalization" not in ops)
    found = case.explained(method).values
    (name,) = found

    def drawn(who: TorchJudge) -> dict[str, Array]:
        a, g = who.layer(case.inputs, case.target, module)
        if method == "grad_cam":
            g = g.mean(axis=(2, 3), keepdims=True)
        weight = np.maximum(g, 0) if method == "layer_cam" else g
        return {name: np.maximum((weight * a).sum(axis=1), 0)}

    return _held(found, drawn(judge), drawn(judge.rounded()), f"activations and gradients of {module} in torch")


def _held(found: Mapping[str, Array], exact: Mapping[str, Array], near: Mapping[str, Array], by: str) -> Judgement:
    tolerance = max(TOLERANCE, 10 * float(attribution_errors(near, exact).max()))
    what = f"attribution error against {by}"
    return Judgement(attribution_errors(found, exact), tolerance, what, f"{by}, float64", version("torch"))
