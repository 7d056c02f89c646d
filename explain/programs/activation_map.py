"""`activation_map`: class activation maps from the gradient at a spatial layer.

`x` [N, ...] and a target in; `map` [N, h, w] and `value` [N] out. With A the activations [N, C, h, w] of the layer and
G the gradient of f there: Grad-CAM (Selvaraju et al. 2017) sum_c mean_hw(G)_c A_c, HiResCAM (Draelos & Carin 2020)
sum_c G_c A_c, LayerCAM (Jiang et al. 2021) sum_c relu(G_c) A_c. No Relu is applied to the map here.
"""

from __future__ import annotations

from ..backward import backward, differentiable_path
from ..errors import InvalidParameter, MethodUnavailable
from ..model import Explained, Model
from .draft import Draft, Program
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
    """Compile the program for the value named `layer` (by default the last convolution before the output)."""
    if kind not in KINDS:
        raise InvalidParameter(f"kind: came {kind!r}, expected one of {', '.join(KINDS)}")
    explained = model.explained(output, space)
    layer = spatial_layer(model, explained, layer)
    rank = len(model.graph.type(layer).shape or ())
    draft = Draft(model, ("target", "target.weight", "map", "value"))
    items = draft.own_inputs()
    target, weight = declare_target(draft, explained)
    graph, emit = draft.place(items), draft.emit
    value, cotangent = select(emit, draft.explained(graph, explained), target, weight, None)
    a = graph.now(layer)
    g = backward(emit, graph, {graph.now(explained.value): draft.to_layout(explained.output, cotangent)}, [a])[a]
    if kind == "grad_cam":
        g = emit.reduce_mean(g, list(range(2, rank)), keepdims=1)
    elif kind == "layer_cam":
        g = emit.relu(g)
    cam = emit.reduce_sum(emit.mul(g, a), [1], keepdims=0)
    draft.output("map", cam, emit.dtype(a), ("N", *[None] * (rank - 2)))
    draft.output("value", value, explained.dtype, ("N",))
    options = {"output": explained.output, "space": explained.space, "layer": layer, "kind": kind}
    return draft.finish("activation_map", explained, options)


def spatial_layer(model: Model, explained: Explained, layer: str | None = None) -> str:
    """The value at which the map is taken.

    `layer` is the name of a value or of a node with spatial axes [N, C, h, ...]; by default the output of the last
    convolution on the way to the explained value. Raises InvalidParameter or MethodUnavailable.
    """
    graph = model.graph
    path = differentiable_path(graph, [leaf.value for leaf in model.leaves(explained)], [explained.value])
    spatial = {name for name in path if len(graph.type(name).shape or ()) in (3, 4, 5)}
    if layer is not None:
        by_node = {node.name: node.outputs[0] for node in graph.nodes if node.name}
        value = layer if layer in graph.producers else by_node.get(layer, layer)
        if value not in spatial:
            raise InvalidParameter(f"layer: {layer!r} is no value [N, C, h, w] on the way to {explained.output!r}")
        return value
    convolutions = [node.outputs[0] for node in graph.nodes if node.op == "Conv" and node.outputs[0] in spatial]
    if not convolutions:
        raise MethodUnavailable("the model has no convolution between its inputs and the explained output")
    return convolutions[-1]
