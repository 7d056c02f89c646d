"""Class activation maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..compiler import compile as compile_program
from ..plans import MapPlan, Outcome
from ..request import Request
from .base import Method, Parameter


def _map(kind: str) -> Callable[[Request], MapPlan]:
    def plan(request: Request) -> MapPlan:
        explained, layer = request.explained, request.parameters["layer"]
        options = {"output": explained.output, "space": explained.space, "layer": layer, "kind": kind}
        program = compile_program(request.model, "activation_map", **options)
        image = _image(request, str(program.options["layer"]))

        def reduce(found: np.ndarray, value: np.ndarray) -> Outcome:
            return Outcome({image: np.maximum(found, 0) if request.parameters["relu"] else found}, value)

        return MapPlan(request, program, reduce)

    return plan


def _image(request: Request, layer: str) -> str:
    """The input a map at `layer` is about: the first that reaches it, one of the layer's rank before others."""
    graph = request.model.graph
    behind = graph.upstream([layer])
    reaching = [leaf.input for leaf in request.model.leaves(request.explained) if leaf.value in behind]
    rank = len(graph.type(layer).shape or ())
    alike = [name for name in reaching if len(graph.inputs[name].shape or ()) == rank]
    return (alike or reaching)[0]


def _method(name: str, summary: str, source: str) -> Method:
    return Method(
        name,
        summary,
        source,
        frozenset({"gradient", "spatial"}),
        "about 1.1 F",
        (
            Parameter(
                "layer", None, {"type": ["string", "null"]}, "value or node [N, C, h, w]; default: last convolution"
            ),
            Parameter("relu", True, {"type": "boolean"}, "keep only what speaks for the target, as the paper has it"),
        ),
        _map(name),
        states="importance",
    )


GRAD_CAM = _method(
    "grad_cam",
    "Where the last spatial layer speaks for the target; a map [h, w] at that layer's resolution.",
    "Selvaraju et al. 2017, arXiv:1610.02391",
)
HIRES_CAM = _method(
    "hires_cam",
    "As Grad-CAM, with the gradient of every place instead of its mean: only places the model used can light up.",
    "Draelos & Carin 2020, arXiv:2011.08891",
)
LAYER_CAM = _method(
    "layer_cam",
    "As Grad-CAM, with the positive gradient of every place: finer in earlier layers.",
    "Jiang et al. 2021, doi:10.1109/TIP.2021.3089943",
)
