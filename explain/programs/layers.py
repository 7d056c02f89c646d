"""Which value of a network a class activation map is taken at."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from ..backward import differentiable_path
from ..dtypes import Shape
from ..errors import InvalidParameter, MethodUnavailable
from ..graph import Node
from ..model import Explained, Model

EXTRA_TOKENS = 5  # a class token, a distillation token, up to four registers


@dataclass(frozen=True)
class Layer:
    """A value [N, C, h, ...], or with `grid` the tokens [N, prefix + grid^2, C] of a vision transformer."""

    value: str
    rank: int
    grid: int | None = None
    prefix: int = 0


def spatial_layer(model: Model, explained: Explained, layer: str | None = None) -> Layer:
    """The value or node named `layer`; by default the last convolution on the way to the explained value.

    A vision transformer convolves only to make its patches: there it is the normalised input of the last attention,
    behind which the class token alone still reaches the output. Raises InvalidParameter or MethodUnavailable.
    """
    graph = model.graph
    leaves = model.leaves(explained)
    path = differentiable_path(graph, [leaf.value for leaf in leaves], [explained.value])
    spatial = {name: shape for name in path if len(shape := graph.type(name).shape or ()) in (3, 4, 5)}
    image = any(len(graph.type(leaf.value).shape or ()) == 4 for leaf in leaves)
    if layer is not None:
        by_node = {node.name: node.outputs[0] for node in graph.nodes if node.name}
        value = layer if layer in graph.producers else by_node.get(layer, layer)
        if value not in spatial:
            raise InvalidParameter(f"layer: {layer!r} is no value [N, C, h, w] on the way to {explained.output!r}")
        return _described(graph.producers.get(value), value, spatial[value], image)
    nodes = [node for node in graph.nodes if node.outputs[0] in spatial]
    convolutions = [node for node in nodes if node.op == "Conv"]
    found = _last_attended(nodes, convolutions) if image else None
    if found is not None:
        described = _described(found, found.outputs[0], spatial[found.outputs[0]], image)
        if described.grid is not None:
            return described
    if not convolutions:
        raise MethodUnavailable("the model has no convolution between its inputs and the explained output")
    value = convolutions[-1].outputs[0]
    return Layer(value, len(spatial[value]))


def _described(producer: Node | None, value: str, shape: Shape, image: bool) -> Layer:
    """Rank-3 values of an image model that no convolution made are tokens, if they fill a square."""
    tokens = shape[1] if len(shape) == 3 else None
    if image and isinstance(tokens, int) and (producer is None or producer.op != "Conv"):
        side = isqrt(tokens)
        if tokens - side * side <= EXTRA_TOKENS:
            return Layer(value, len(shape), side, tokens - side * side)
    return Layer(value, len(shape))


def _last_attended(nodes: list[Node], convolutions: list[Node]) -> Node | None:
    """The last layer normalisation before the last attention, if that comes after every convolution."""
    places = {node.outputs[0]: place for place, node in enumerate(nodes)}
    attentions = [places[node.outputs[0]] for node in nodes if node.op == "Softmax"]
    last = max((places[node.outputs[0]] for node in convolutions), default=-1)
    if not attentions or attentions[-1] < last:
        return None
    before = [node for node in nodes[: attentions[-1]] if node.op == "LayerNormalization"]
    return before[-1] if before and places[before[-1].outputs[0]] > last else None
