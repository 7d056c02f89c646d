"""Graphs inside of nodes, as the write side makes them: what a Scan does at each step, the two branches of an If.

A body reads what stands around it by name, constants included, so only what changes from step to step is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import onnx
from onnx import helper

from .dtypes import elem_type
from .emit import Emitter
from .graph import bodies, reads

Step = Callable[[Emitter, Sequence[str], Sequence[str]], tuple[Sequence[str], Sequence[str]]]
Branch = Callable[[Emitter], Sequence[str]]


class Way(NamedTuple):
    """How a sequence is walked: along which axis, and whether from its last slice to its first."""

    axis: int = 0
    backwards: bool = False


def scan(
    emit: Emitter,
    step: Step,
    states: Sequence[str],
    sequences: Sequence[str],
    *,
    backwards: bool = False,
    ways: Sequence[Way] | None = None,
    kept_ways: Sequence[Way] | None = None,
    ranks: Sequence[int | None] = (),
) -> tuple[str, ...]:
    """Walk along the sequences; gives the last states, then what each step gave, stacked.

    `step(body, states, slices)` emits one step into `body` and gives the next states and what is kept of the step.
    Sequences and what is kept have axis 0; `backwards` walks from the last slice to the first; what is kept lies at
    the place of its slice either way. `ways` of the sequences and `kept_ways` say otherwise. Sequences that no step
    reads are left out, but for the first if there is no other. ONNX Runtime refuses sequences of no elements, and what
    a step gives of unknown rank: `ranks` says the ranks of states and of what is kept, where it could not see them.
    """
    body = emit.inside()
    held = [body.take(body.fresh("state"), emit.dtype(name)) for name in states]
    slices = [body.take(body.fresh("slice"), emit.dtype(name)) for name in sequences]
    after, kept = step(body, held, slices)
    _lift(emit, body, {*held, *slices})
    given = [_own(body, name) for name in (*after, *kept)]
    results = [emit.take(emit.fresh("scan"), body.dtype(name)) for name in given]
    inner = graph(body, [*held, *slices], given)
    for value, rank in zip(inner.output, ranks, strict=False):
        _state_rank(value, rank)
    used = {name for node in inner.node for name in reads(node)}
    left = [place for place, name in enumerate(slices) if name in used] or [0]
    del inner.input[len(held) :]
    inner.input.extend(_open(body, slices[place]) for place in left)
    read = [sequences[place] for place in left]
    node = helper.make_node("Scan", [*states, *read], results, body=inner, num_scan_inputs=len(read))
    plain = Way(backwards=backwards)
    _state_ways(node, "input", [ways[place] if ways else plain for place in left])
    _state_ways(node, "output", kept_ways if kept_ways is not None else [plain] * len(kept))
    emit.nodes.append(node)
    return tuple(results)


def _lift(emit: Emitter, body: Emitter, changing: set[str]) -> None:
    """Compute around the steps what is the same in every one, such as matrices turned."""
    kept = []
    for node in body.nodes:
        read = reads(node)
        if read and changing.isdisjoint(read):
            emit.nodes.append(node)
            for name in filter(None, node.output):
                emit.take(name, body.dtype(name))
        else:
            changing.update(node.output)
            kept.append(node)
    body.nodes[:] = kept


def _state_ways(node: onnx.NodeProto, end: str, ways: Sequence[Way]) -> None:
    if ways:
        node.attribute.append(helper.make_attribute(f"scan_{end}_directions", [int(way.backwards) for way in ways]))
    if any(way.axis for way in ways):
        node.attribute.append(helper.make_attribute(f"scan_{end}_axes", [way.axis for way in ways]))


def choose(emit: Emitter, condition: str, then: Branch, otherwise: Branch) -> tuple[str, ...]:
    """An If on a scalar condition: what the branch gives that is emitted for it. Both give values of equal dtypes."""
    graphs, dtypes = [], list[str]()
    for make in (then, otherwise):
        body = emit.inside()
        given = [_own(body, name) for name in make(body)]
        dtypes = [body.dtype(name) for name in given]
        graphs.append(graph(body, [], given, "branch"))
    results = [emit.take(emit.fresh("if"), dtype) for dtype in dtypes]
    emit.nodes.append(helper.make_node("If", [condition], results, then_branch=graphs[0], else_branch=graphs[1]))
    return tuple(results)


def tape(emit: Emitter, name: str, values: Mapping[str, str], ranks: Mapping[str, int | None]) -> None:
    """Let the Scan or Loop that makes a value keep what values of its body are at each step.

    `values` has, by the name in the body, the name that the steps stacked along axis 0 are to have, `ranks` their
    ranks in the body.
    """

    def taped(placed: onnx.NodeProto) -> onnx.NodeProto:
        node = onnx.NodeProto()
        node.CopyFrom(placed)
        (body,) = bodies(node)
        for value, stacked in values.items():
            own = emit.take(emit.fresh("taped"), emit.dtype(value))
            body.node.append(helper.make_node("Identity", [value], [own]))
            body.output.append(_state_rank(_open(emit, own), ranks[value]))
            node.output.append(emit.take(stacked, emit.dtype(value)))
        for item in node.attribute:
            if item.name in ("scan_output_axes", "scan_output_directions"):
                item.ints.extend([0] * len(values))
        return node

    if values:
        emit.swap(name, taped)


def graph(body: Emitter, inputs: Sequence[str], outputs: Sequence[str], name: str = "body") -> onnx.GraphProto:
    """The body as a node's attribute: inputs and outputs of open shapes, without what no output needs."""
    nodes, _ = body.finish(outputs)  # constants are read from around it
    return helper.make_graph(nodes, name, [_open(body, name) for name in inputs], [_open(body, n) for n in outputs])


def _open(emit: Emitter, name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type(emit.dtype(name)), None)


def _state_rank(value: onnx.ValueInfoProto, rank: int | None) -> onnx.ValueInfoProto:
    if rank is not None:
        value.type.CopyFrom(helper.make_tensor_type_proto(value.type.tensor_type.elem_type, [None] * rank))
    return value


def _own(body: Emitter, name: str) -> str:
    """A name for an output: runtimes want each once, made by a node of the body."""
    own = body.take(body.fresh("next"), body.dtype(name))
    body.nodes.append(helper.make_node("Identity", [name], [own]))
    return own
