"""`masked_layer` and `masked_rest`: `masked_forward` in two parts, for models whose first layer adds up the groups.

Where every input reaches the explained output through one matrix product, and everything in front of it treats each
element alone (scaling, encodings), that product h is a sum over the groups of what is present: for masks of 0 and 1,
h(mask) = h(0) + sum over g of mask_g (h(g alone) - h(0)). `masked_layer` gives h [N, K, B, H] under K masks; the G + 1
masks 0 and "g alone" tell all others. `masked_rest` goes on from there: `mask` [N, K, G], `layer.base` [N, B, H] = h(0)
and `layer.group` [N, G, B, H], the differences, give `value` [N, K, C] as `masked_forward` does. However many masks
there are, the model's inputs are blended and encoded G + 1 times.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..dtypes import Dim, Shape
from ..errors import MethodUnavailable
from ..graph import Graph, Node, reads
from ..model import Explained, Model
from .draft import Draft, Program
from .masked_forward import Background, Groups, masked_draft, masked_rows, state_means

PRODUCTS = ("MatMul", "Gemm")
# Each result depends on one element of what comes in: whatever they do to it, a mask of 0 or 1 chooses between two.
# fmt: off
EACH = {
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Greater",
    "GreaterOrEqual", "Identity", "IsNaN", "LabelEncoder", "LeakyRelu", "Less", "LessOrEqual", "Log", "Mul", "Neg",
    "Not", "Or", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sqrt", "Sub", "Tanh", "Where",
}
MOVED = {
    "Concat", "Expand", "Flatten", "Gather", "OneHot", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}
# fmt: on


def first_layer(model: Model, explained: Explained) -> str | None:
    """The value [rows, H] that adds up the groups and through which every input passes, or None."""

    def find() -> str:
        return _found(model.graph, explained) or ""

    plain = all(model.batch_axis(name) == 0 for name in model.graph.inputs) and not model.row_by_row
    plain = plain and not model.held
    return (model.remember(f"first layer of {explained.value!r}", find) or None) if plain else None


def _found(graph: Graph, explained: Explained) -> str | None:
    # Of each value that treats elements alone, the value whose elements it has, in their places.
    places = {name: name for name in graph.inputs}
    for node in graph.nodes:
        read = {places[name] for name in reads(node.proto) if name in places}
        if read and node.op in PRODUCTS:
            value = node.outputs[0]
            fits = _by_constants(graph, node) and _rows_stay(graph, value) and _cuts(graph, value, explained.value)
            return value if fits else None
        if not read or not all(name in places or name in graph.constants for name in node.inputs if name):
            continue
        if node.op in EACH and len(read) == 1:
            places |= dict.fromkeys(node.outputs, read.pop())
        elif node.op == "Concat" or (node.op in MOVED and _moves(node, places)):
            places |= {name: name for name in node.outputs}
    return None


def _moves(node: Node, places: Mapping[str, str]) -> bool:
    """Whether only what is moved comes from the inputs, or only the places in a constant table, but not both."""
    come = [at for at, name in enumerate(node.inputs) if name in places]
    return come == [0] or (node.op == "Gather" and come == [1])


def _rows_stay(graph: Graph, value: str) -> bool:
    """Whether the value is [rows, H] with the rows of the inputs."""
    shape = graph.type(value).shape
    firsts = {(kind.shape or (None,))[0] for kind in graph.inputs.values()}
    return shape is not None and len(shape) == 2 and isinstance(shape[1], int) and {shape[0]} == firsts != {None}


def _by_constants(graph: Graph, node: Node) -> bool:
    """Whether rows come in first and meet a constant matrix (and bias)."""
    given = all(name in graph.constants for name in node.inputs[1:] if name)
    return given and not node.attr("transA", 0) and graph.type(node.inputs[0]).shape is not None and node.rank() == 2


def _cuts(graph: Graph, value: str, end: str) -> bool:
    """Whether the end depends on the inputs through this value alone."""
    reached = graph.downstream(graph.inputs, through=lambda node: value not in node.outputs)
    return end not in reached and end in graph.downstream([value])


def _width(model: Model, value: str) -> Dim:
    return (model.graph.type(value).shape or (None,))[-1]


def _require(model: Model, explained: Explained) -> str:
    value = first_layer(model, explained)
    if value is None:
        raise MethodUnavailable(
            f"the inputs of {explained.output!r} do not pass one matrix product that adds up their groups; "
            "use program 'masked_forward'"
        )
    return value


def build_masked_layer(
    model: Model,
    *,
    output: str | None = None,
    space: str | None = None,
    groups: Groups = "shared",
    background: Background = "shared",
) -> Program:
    """Compile the first part: `layer` [N, K, B, H], the first layer under K masks; inputs as `masked_forward` has."""
    explained = model.explained(output, space)
    value = _require(model, explained)
    draft = masked_draft(model, explained.dtype, ("layer",), groups, background)
    items, sizes = masked_rows(draft, groups, background)
    placed = draft.place(items, keep=model.graph.upstream([value]))
    shape: Shape = ("N", "K", "B", _width(model, value))
    layer = draft.emit.reshape(placed.now(value), draft.emit.join(sizes, -1))
    draft.output("layer", layer, model.graph.type(value).dtype, shape)
    options = {"output": explained.output, "space": explained.space, "groups": groups, "background": background}
    return draft.finish("masked_layer", explained, options)


def build_masked_rest(model: Model, *, output: str | None = None, space: str | None = None) -> Program:
    """Compile the second part: from the first layer's parts to `value` [N, K, C]."""
    explained = model.explained(output, space)
    value = _require(model, explained)
    kind, width = model.graph.type(value), _width(model, value)
    draft = Draft(model, ("mask", "layer.base", "layer.group", "background.weight", "value"))
    emit = draft.emit
    mask = draft.input("mask", kind.dtype, ("N", "K", "G"))
    base = draft.input("layer.base", kind.dtype, ("N", "B", width))
    group = draft.input("layer.group", kind.dtype, ("N", "G", "B", width))
    weight = draft.input("background.weight", explained.dtype, ("B",), "shared")
    present = emit.matmul(mask, emit.reshape(group, emit.join(emit.dims(group, 0, 2), -1)))
    summed = emit.add(present, emit.reshape(base, emit.join(emit.dim(base, 0), 1, -1)))
    rows = emit.reshape(summed, emit.join(-1, emit.dim(base, 2)))
    given = model.graph.upstream([explained.value]) - model.graph.downstream(model.graph.inputs)
    placed = draft.place({}, values={value: rows}, keep=given | model.graph.downstream([value]))
    sizes = emit.join(emit.dims(mask, 0, 2), emit.dim(base, 1))
    state_means(draft, emit.reshape(draft.explained(placed, explained), emit.join(sizes, -1)), weight, explained.dtype)
    return draft.finish("masked_rest", explained, {"output": explained.output, "space": explained.space})
