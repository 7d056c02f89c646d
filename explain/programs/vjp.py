"""`vjp`: the model's own inputs and `<output>.cotangent` in; `<input>.gradient` and the model's own outputs out.

`forward` is the same without the backward half: the prepared model as a program, against which `forward_gap` is read.
"""

from __future__ import annotations

from ..backward import backward
from ..errors import MethodUnavailable
from ..graph import Graph
from ..model import Model
from .draft import Draft, Program, free, item_shape


def build_forward(model: Model) -> Program:
    """The prepared model itself; inputs and outputs have their items on axis 0. What is no tensor is left out."""
    draft = Draft(model, _moved_outputs(model))
    _own_outputs(draft, _placed_as_is(draft))
    return draft.finish("forward", None, {})


def build_vjp(model: Model, *, output: str | None = None, space: str = "output") -> Program:
    """Vector-Jacobian products of one output with respect to every input that carries a gradient.

    `<output>.cotangent` has the shape of the explained value: the output itself, or with space="logit" what enters
    its final Softmax or Sigmoid. For token and category inputs the gradient is that of their encoding; an input that
    is encoded in several places has no single one, and none is given.
    """
    explained = model.explained(output, space)
    leaves = model.leaves(explained)
    if not leaves:
        raise MethodUnavailable(f"no input reaches output {explained.output!r} through a gradient")
    seed = f"{explained.output}.cotangent"
    leaves = tuple(leaf for leaf in leaves if sum(leaf.input == other.input for other in leaves) == 1)
    draft = Draft(model, (seed, *(f"{leaf.input}.gradient" for leaf in leaves), *_moved_outputs(model)))
    graph = _placed_as_is(draft)
    shape = item_shape(model, explained.output, explained.value)
    cotangent = draft.to_layout(explained.output, draft.input(seed, explained.dtype, ("N", *free(shape))))
    wrt = [graph.now(leaf.value) for leaf in leaves]
    gradients = backward(draft.emit, graph, {graph.now(explained.value): cotangent}, wrt)
    for leaf, name in zip(leaves, wrt, strict=True):
        kind = graph.type(name)
        gradient = draft.from_layout(leaf.input, gradients[name], len(kind.shape or ()))
        item = item_shape(model, leaf.input, leaf.value)
        draft.output(f"{leaf.input}.gradient", gradient, kind.dtype, ("N", *free(item)))
    _own_outputs(draft, graph)
    return draft.finish("vjp", explained, {"output": explained.output, "space": explained.space})


def _placed_as_is(draft: Draft) -> Graph:
    """Declare the model's own inputs and place it on them."""
    return draft.place(draft.own_inputs())


def _own_outputs(draft: Draft, graph: Graph) -> None:
    for name, kind in draft.model.graph.outputs.items():
        if kind.dtype.endswith("_type"):  # a sequence or a map, as ONNX names them
            continue
        value = draft.from_layout(name, graph.now(name), len(kind.shape or ()))
        shape = None if kind.shape is None else ("N", *free(item_shape(draft.model, name)))
        draft.output(name, value, kind.dtype, shape)


def _moved_outputs(model: Model) -> tuple[str, ...]:
    """Outputs whose items are put on axis 0: the program's output of that name is another value than the model's."""
    return tuple(name for name in model.graph.outputs if model.batch_axis(name) != 0)
