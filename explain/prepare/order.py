"""Nodes in the order in which they are computed. The specification asks a file for it and runtimes do not: tools that
put Casts around a node, to leave it in float32 or to feed it half precision, append them at the end."""

from __future__ import annotations

import onnx

from ..graph import reads


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those that make what it reads, in place; nodes in order stay as they are."""
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    needed = [[makers[name] for name in reads(node) if name in makers] for node in graph.node]
    if all(maker < place for place, own in enumerate(needed) for maker in own):
        return
    order = _order(needed)
    nodes = [graph.node[place] for place in order]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _order(needed: list[list[int]]) -> list[int]:
    """Places, each behind the places it needs and otherwise as they were; what needs itself stands where it is met."""
    order: dict[int, None] = {}
    begun: set[int] = set()
    for first in range(len(needed)):
        waiting = [first]
        while waiting:
            place = waiting[-1]
            missing = [] if place in begun else [other for other in needed[place] if other not in begun]
            begun.add(place)
            if missing:
                waiting.extend(reversed(missing))
            else:
                order.setdefault(waiting.pop())
    return list(order)
