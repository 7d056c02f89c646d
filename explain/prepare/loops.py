"""Shapes of what a Loop hands from step to step: onnx's inference leaves them open, since a step may change them.

A state is taken to keep the shape it begins with; what inference then finds behind one step says which axes do not, and
they are given symbols of their own, until nothing changes; these tell whether a length is known to change. A state
whose rank changes has no shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper, shape_inference

from ..dtypes import Dim
from ..graph import bodies
from ..inside import all_bodies, all_nodes

ROUNDS = 64
GROWN = " grown"
DOMAINS = ("", "ai.onnx")
Shapes = dict[str, list[Dim]]


@dataclass(frozen=True)
class _State:
    """One state of a Loop: where it is in the walk, how it begins, and its entries in the body and behind the node."""

    place: tuple[int, int]
    first: list[Dim]
    before: onnx.ValueInfoProto
    after: onnx.ValueInfoProto
    behind: str
    body: onnx.GraphProto
    graph: onnx.GraphProto


def infer_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with types inferred, those of the states of Loops included."""
    model = shape_inference.infer_shapes(model, data_prop=True)
    stated: dict[tuple[int, int], list[Dim] | None] = {}
    lost: set[tuple[int, int]] = set()
    for _ in range(ROUNDS if any(node.op_type == "Loop" for node in all_nodes(model.graph)) else 0):
        changed = [_settle(state, stated, lost) for state in _states(model.graph)]
        if not any(changed):
            break
        model = shape_inference.infer_shapes(model, data_prop=True)
    return model


def _states(graph: onnx.GraphProto) -> Iterator[_State]:
    """States that begin with a known shape, of all Loops."""
    number = 0
    todo = [(graph, dict[str, list[Dim]]())]
    while todo:
        here, around = todo.pop()
        known = around | _shapes(here)
        for node in here.node:
            todo.extend((body, known) for body in bodies(node))
            if node.op_type != "Loop" or node.domain not in DOMAINS:
                continue
            (body,), number = bodies(node), number + 1
            ends = zip(node.input[2:], node.output, body.input[2:], body.output[1:], strict=False)
            for place, (first, behind, before, after) in enumerate(ends):
                if first in known and before.type.HasField("tensor_type"):
                    yield _State((number, place), known[first], before, after, behind, body, here)


def _settle(state: _State, stated: dict[tuple[int, int], list[Dim] | None], lost: set[tuple[int, int]]) -> bool:
    """Bring the shapes of a state one step closer to what holds for every step; says whether that changed any.

    `stated` has what the file says of the sizes behind a step, of the states that were looked at, `lost` those whose
    rank changes.
    """
    if state.place in lost:
        return False
    before, after = _shape(state.before), _shape(state.after)
    if state.place not in stated:
        _forget(state.body, sizes=False)  # a file may name open sizes as it likes
        stated[state.place] = _shape(state.after)
        declared = before if before is not None and len(before) == len(state.first) else state.first
        first = [b if _is_open(a) else a for a, b in zip(state.first, declared, strict=True)]
        _state_shape(state.before, _opened(first, first, state))
        return True
    if before is None:
        return False
    if len(before) != len(state.first) or (after is not None and len(before) != len(after)):
        lost.add(state.place)
        state.before.type.tensor_type.ClearField("shape")
        _forget(state.body, ranks=True)
        return True
    wide = _opened(before, state.first, state) if after is None else _opened(before, after, state)
    if wide != before:
        _forget(state.body)
        _state_shape(state.before, wide)
        behind = stated[state.place]
        if behind is not None:
            _state_shape(state.after, behind)
        return True
    return bool(state.behind) and _state_behind(state, before)


def _state_behind(state: _State, shape: Sequence[Dim]) -> bool:
    """State what the node gives, if nothing does."""
    values = {value.name: value for value in (*state.graph.output, *state.graph.value_info)}
    value = values.get(state.behind)
    if value is None:
        value = state.graph.value_info.add(name=state.behind)
        value.type.tensor_type.elem_type = state.before.type.tensor_type.elem_type
    if _shape(value) is not None:
        return False
    _state_shape(value, shape)
    return True


def _opened(shape: Sequence[Dim], other: Sequence[Dim], state: _State) -> list[Dim]:
    """The shape with symbols where another one differs, or is open itself."""
    pairs = enumerate(zip(shape, other, strict=True))
    return [a if a is not None and a == b else _symbol(state, axis, a, b) for axis, (a, b) in pairs]


def _symbol(state: _State, axis: int, before: Dim, after: Dim) -> str:
    own = f"{state.before.name} {state.place[0]} axis {axis}"
    if isinstance(before, str) and before.startswith(own):
        return before
    return own + GROWN if isinstance(before, int) and not _is_open(after) else own


def _is_open(dim: Dim) -> bool:
    """Whether a size is not known to be that of anything else; onnx's inference gives such sizes names of its own."""
    return dim is None or (isinstance(dim, str) and dim.startswith("unk__"))


def grows(dim: Dim) -> bool:
    """Whether an axis of a state has a length that the first step changes."""
    return isinstance(dim, str) and dim.endswith(GROWN)


def _forget(body: onnx.GraphProto, *, sizes: bool = True, ranks: bool = False) -> None:
    """Take back names of sizes in a body, or sizes, or ranks too, since they were inferred from others."""
    for graph in (body, *all_bodies(body)):
        if ranks:
            del graph.value_info[:]
        for value in (*graph.value_info, *graph.output):
            if ranks:
                value.type.tensor_type.ClearField("shape")
            for dim in value.type.tensor_type.shape.dim:
                if sizes or dim.HasField("dim_param"):
                    dim.Clear()


def _shapes(graph: onnx.GraphProto) -> Shapes:
    found = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    held: Shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    return {name: shape for name, shape in found.items() if shape is not None} | held


def _shape(value: onnx.ValueInfoProto) -> list[Dim] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim]


def _state_shape(value: onnx.ValueInfoProto, shape: Sequence[Dim]) -> None:
    value.type.CopyFrom(helper.make_tensor_type_proto(value.type.tensor_type.elem_type, shape))
