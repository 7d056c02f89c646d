"""`activation_map`: class activation maps from the gradient at a spatial layer.

`x` [N, ...] and a target in; `map` [N, h, w] and `value` [N] out. With A the activations [N, C, h, w] of the layer and
G the gradient of f there: Grad-CAM (Selvaraju et al. 2017) sum_c mean_hw(G)_c A_c, HiResCAM (Draelos & Carin 2020)
sum_c G_c A_c, LayerCAM (Jiang et al. 2021) sum_c relu(G_c) A_c. No Relu is applied to the map here. The tokens
[N, T, C] of a vision transformer are laid out as the square grid they came from, without the class token before them.
"""

from __future__ import annotations

from ..backward import backward
from ..errors import InvalidParameter
from ..model import Model
from .draft import Draft, Program
from .layers import spatial_layer
from .target import declare_target, select

KINDS = ("grad_cam", "hires_cam", "layer_cam")


def build_activation_map(
    model: Model,
    *,
    output: str | None = None,
    space: str | None = None,
    layer: str | None = None,
    kind: str = "grad_cam",
) -> Program:
    """Compile the program for the value or node named `layer`; `spatial_layer` finds one by default."""
    if kind not in KINDS:
        raise InvalidParameter(f"kind: came {kind!r}, expected one of {', '.join(KINDS)}")
    explained = model.explained(output, space)
    place = spatial_layer(model, explained, layer)
    draft = Draft(model, ("target", "target.weight", "map", "value"))
    items = draft.own_inputs()
    target, weight = declare_target(draft, explained)
    graph, emit = draft.place(items), draft.emit
    value, cotangent = select(emit, draft.explained(graph, explained), target, weight, None)
    a = graph.now(place.value)
    g = backward(emit, graph, {graph.now(explained.value): draft.to_layout(explained.output, cotangent)}, [a])[a]
    if place.grid is not None:
        a, g = (emit.transpose(tokens, perm=[0, 2, 1]) for tokens in (a, g))
    if kind == "grad_cam":
        g = emit.reduce_mean(g, list(range(2, place.rank)), keepdims=1)
    elif kind == "layer_cam":
        g = emit.relu(g)
    cam = emit.reduce_sum(emit.mul(g, a), [1], keepdims=0)
    if place.grid is not None:
        cam = emit.slice(cam, [place.prefix], [2**62], [1])
        cam = emit.reshape(cam, emit.join(emit.dim(cam, 0), place.grid, place.grid))
    draft.output("map", cam, emit.dtype(a), ("N", *[place.grid] * (2 if place.grid else place.rank - 2)))
    draft.output("value", value, explained.dtype, ("N",))
    options = {"output": explained.output, "space": explained.space, "layer": place.value, "kind": kind}
    return draft.finish("activation_map", explained, options)
