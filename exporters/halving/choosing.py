"""Which nodes of a float32 graph may compute in float16.

Half precision pays in matrix products and convolutions, and is passed on where it costs nothing to stay in it. So
products compute in float16, and after them whatever moves numbers, or makes each of its elements of one or two, as
long as everything it reads is in float16 already or constant. All else stays in float32 with a Cast between: what adds
up many numbers (Softmax, normalisations, means), squares and exponentials, what reads a raw input, loops and branches,
operators that are not known here. What is larger than half precision holds stays, too: constants, and values by the
largest that was seen of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto

from ..exported import Array

LARGEST = float(np.finfo(np.float16).max)
MARGIN = 8  # the largest value seen may be so much smaller than the largest there is
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# fmt: off
FOLLOWERS = frozenset({
    "Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "DepthToSpace", "Div", "Elu", "Erf", "Expand",
    "Flatten", "Gather", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "MaxPool", "Mul", "Neg", "PRelu", "Pad", "Relu", "Reshape", "Sigmoid", "Slice", "SpaceToDepth",
    "Split", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
})
# fmt: on
STANDARD = ("", "ai.onnx")
Constant = Callable[[str], Array]


@dataclass(frozen=True)
class Network:
    """A graph without local functions, the element type of each value, and its constants by name.

    `constant` gives the array of an initializer of the graph.
    """

    model: onnx.ModelProto
    kinds: Mapping[str, int]
    constant: Constant

    @cached_property
    def nodes(self) -> list[onnx.NodeProto]:
        """In topological order; the same objects each time."""
        return list(self.model.graph.node)

    @cached_property
    def constants(self) -> frozenset[str]:
        """The names of initializers, which nobody can hand in instead."""
        return frozenset(tensor.name for tensor in self.model.graph.initializer)

    @cached_property
    def captured(self) -> frozenset[str]:
        """What graphs inside of nodes read, of their own names and of those around them."""
        return frozenset(name for node in self.nodes for body in bodies(node) for name in read_in(body))

    def floats(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of a node that are float32."""
        return [name for name in node.input if name and self.kinds.get(name) == TensorProto.FLOAT]


def chosen(network: Network, largest: Mapping[str, float] | None = None) -> dict[str, onnx.NodeProto]:
    """Each value that is computed in float16, in order, with the node that computes it.

    largest  the largest magnitude that was seen of values, by name; what is not in it is taken to fit
    """
    found: dict[str, onnx.NodeProto] = {}
    for node in network.nodes:
        if _computes(network, node, found) and _fits(network, node, largest or {}):
            found |= {name: node for name in node.output if network.kinds.get(name) == TensorProto.FLOAT}
    return found


def _computes(network: Network, node: onnx.NodeProto, halves: Mapping[str, object]) -> bool:
    """Whether an operator is one for float16, by what it reads and where its results go."""
    if node.domain not in STANDARD or network.kinds.get(node.output[0]) != TensorProto.FLOAT:
        return False
    known = all(name in network.kinds for name in (*node.input, *node.output) if name)
    if not known or network.captured & set(node.output):
        return False
    if node.op_type in PRODUCTS:
        return True
    given = [name for name in network.floats(node) if name not in network.constants]
    return node.op_type in FOLLOWERS and bool(given) and all(name in halves for name in given)


def _fits(network: Network, node: onnx.NodeProto, largest: Mapping[str, float]) -> bool:
    """Whether float16 holds what a node reads and makes. An infinite constant stays what it is in any precision."""
    values = [*network.floats(node), *node.output]
    if any(largest.get(name, 0.0) * MARGIN > LARGEST for name in values):
        return False
    arrays = [network.constant(name) for name in network.floats(node) if name in network.constants]
    return all(array.size == 0 or magnitude(array) <= LARGEST for array in arrays)


def magnitude(array: Array) -> float:
    """The largest magnitude of what is finite in an array."""
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max(initial=0.0))


def seen(network: Network) -> list[str]:
    """The values of which the largest must be known: what the chosen nodes read and make, constants apart."""
    found = chosen(network)
    read = (name for node in found.values() for name in network.floats(node))
    return [name for name in dict.fromkeys([*read, *found]) if name not in network.constants]


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside of a node."""
    for attribute in node.attribute:
        yield from [attribute.g] if attribute.HasField("g") else []
        yield from attribute.graphs


def read_in(body: onnx.GraphProto) -> Iterator[str]:
    """Every name that a graph inside of a node reads or gives, those of graphs inside of it too."""
    yield from (value.name for value in body.output)
    for node in body.node:
        yield from node.input
        for inner in bodies(node):
            yield from read_in(inner)
