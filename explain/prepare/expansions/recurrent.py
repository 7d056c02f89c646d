"""Recurrent operators in the one form that has a rule: time first, and all states written down."""

from collections.abc import Sequence

from ...emit import Emitter
from ...graph import Node
from .registry import expansion

BATCH_FIRST = {0: [2, 0, 1, 3]}  # of Y; the last states have the directions first


@expansion("GRU", "LSTM", "RNN", domain="")
def recurrent(emit: Emitter, node: Node) -> Sequence[str | None]:
    """`layout` 1 by transposing what goes in and comes out; Y, of which the rule makes use, becomes an output."""
    batch_first = bool(int(node.attr("layout", 0)))
    if not batch_first and node.outputs[0]:
        raise node.refuse("it has all states among its outputs, and time comes first")
    inputs, attributes = list(node.inputs), {**node.attributes, "layout": None}
    for place in (0, 5, 6) if batch_first else ():
        if node.input(place):
            inputs[place] = emit.transpose(inputs[place], perm=[1, 0, 2])
    results = emit.node(node.op, inputs, attributes, len(node.outputs))
    if not batch_first:
        return results
    return [emit.transpose(result, perm=BATCH_FIRST.get(i, [1, 0, 2])) for i, result in enumerate(results)]
