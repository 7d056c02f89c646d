"""Graphs inside of nodes, as the write side makes them: what a Scan does at each step.

A body reads what stands around it by name, constants included, so only what changes from step to step is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
from onnx import helper

from .emit import Emitter
from .graph import elem_type

Step = Callable[[Emitter, Sequence[str], Sequence[str]], tuple[Sequence[str], Sequence[str]]]


def scan(
    emit: Emitter, step: Step, states: Sequence[str], sequences: Sequence[str], *, backwards: bool = False
) -> tuple[str, ...]:
    """Walk along axis 0 of the sequences; gives the last states, then what each step gave, stacked along axis 0.

    `step(body, states, slices)` emits one step into `body` and gives the next states and what is kept of the step.
    `backwards` walks from the last slice to the first; what is kept lies at the place of its slice either way. ONNX
    Runtime refuses sequences of no elements.
    """
    body = emit.inside()
    held = [body.take(body.fresh("state"), emit.dtype(name)) for name in states]
    slices = [body.take(body.fresh("slice"), emit.dtype(name)) for name in sequences]
    after, kept = step(body, held, slices)
    given = [_own(body, name) for name in (*after, *kept)]
    results = [emit.take(emit.fresh("scan"), body.dtype(name)) for name in given]
    inner = graph(body, [*held, *slices], given)
    node = helper.make_node("Scan", [*states, *sequences], results, body=inner, num_scan_inputs=len(sequences))
    for end, number in (("input", len(sequences)), ("output", len(kept))):
        if number:
            node.attribute.append(helper.make_attribute(f"scan_{end}_directions", [int(backwards)] * number))
    emit.nodes.append(node)
    return tuple(results)


def graph(body: Emitter, inputs: Sequence[str], outputs: Sequence[str], name: str = "body") -> onnx.GraphProto:
    """The body as a node's attribute: inputs and outputs of open shapes, without what no output needs."""
    nodes, _ = body.finish(outputs)  # constants are read from around it
    first, last = (
        [helper.make_tensor_value_info(name, elem_type(body.dtype(name)), None) for name in names]
        for names in (inputs, outputs)
    )
    return helper.make_graph(nodes, name, first, last)


def _own(body: Emitter, name: str) -> str:
    """A name for an output: runtimes want each once, made by a node of the body."""
    own = body.take(body.fresh("next"), body.dtype(name))
    body.nodes.append(helper.make_node("Identity", [name], [own]))
    return own
