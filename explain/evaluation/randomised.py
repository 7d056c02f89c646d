"""A model whose weights mean nothing any more: what an explanation of it may not look like (Adebayo et al. 2018).

The copy has the model's graph, shapes and interface; only constants differ. Weights and biases of linear layers are
drawn anew from a normal distribution of the tensor's own mean and deviation. Scales, shifts and statistics of
normalisations, which may have to be positive, and quantised weights are shuffled within their tensor. Constants that
are no weights (a preprocessing's means, factors, indices) stay. A draw depends on (seed, name) alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

from ..dtypes import FLOATS
from ..errors import InvalidParameter, MethodUnavailable
from ..graph import Graph, Node
from ..model import Model, ModelLike
from ..source import LIMIT

Order = Literal["all", "cascading", "independent"]
ORDERS = ("all", "cascading", "independent")
LINEAR = frozenset({"Conv", "ConvTranspose", "DeformConv", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN"})
NORMALISING = frozenset(
    {"BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization"}
)
MOVES = frozenset({"Cast", "DequantizeLinear", "Expand", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


@dataclass(frozen=True)
class Layer:
    """A node with weights: its name, its operator, and the constants that are its own; `shuffled`: not drawn anew."""

    name: str
    op: str
    constants: tuple[str, ...]
    shuffled: bool


def weight_layers(model: ModelLike, output: str | None = None) -> tuple[Layer, ...]:
    """The layers with weights that the explained output rests on, from the output down to the inputs.

    A constant that several layers share belongs to the first of them.
    """
    handle = Model.of(model)
    graph = handle.graph
    behind = graph.upstream([handle.explained(output).value])
    taken: set[str] = set()
    found: list[Layer] = []
    for node in reversed(graph.nodes):
        if not any(name in behind for name in node.outputs):
            continue
        own = tuple(name for name in dict.fromkeys(_weights(graph, node)) if name not in taken)
        if own:
            taken.update(own)
            name = node.name if node.name not in ("", *(layer.name for layer in found)) else node.outputs[0]
            found.append(Layer(name, node.op, own, node.op in NORMALISING))
    return tuple(found)


def _weights(graph: Graph, node: Node) -> Iterator[str]:
    """The constants of a node that are weights, the bias that is added right behind it included."""
    if node.op in LINEAR or node.op in NORMALISING or _is_embedding(graph, node):
        inputs = node.inputs[:1] if node.op == "Gather" else node.inputs
        yield from (name for value in inputs for name in _behind(graph, value))
    if node.op in LINEAR:
        for reader in graph.consumers.get(node.outputs[0], []):
            if reader.op == "Add":
                yield from (name for value in reader.inputs for name in _behind(graph, value))


def _is_embedding(graph: Graph, node: Node) -> bool:
    """Whether rows of a table of numbers are looked up by what comes in."""
    table = next(iter(_behind(graph, node.input(0))), None) if node.op == "Gather" else None
    return table is not None and len(graph.type(table).shape or ()) > 1 and not any(_behind(graph, node.input(1)))


def _behind(graph: Graph, value: str) -> Iterator[str]:
    """The constant that a value is, seen through what only moves it: numbers, more than one or a product's own."""
    producer = graph.producers.get(value)
    while value not in graph.constants and producer is not None and producer.op in MOVES:
        value = producer.inputs[0]
        producer = graph.producers.get(value)
    kind = graph.type(value)
    if value in graph.constants and (kind.is_float or kind.dtype in ("int8", "uint8")):
        yield value


def randomised(
    model: ModelLike, seed: int = 0, layers: Order | Sequence[Layer] = "all", *, output: str | None = None
) -> Iterator[tuple[str, Model]]:
    """Copies of a model with weights at random, each with a name, made one at a time.

    `layers`: "all" at once (one copy, named "all"); "cascading" from the output down, one layer more in each copy, or
    "independent", one layer in each copy, both named by the layer; or the layers of one copy. Raises MethodUnavailable
    where the model has no weights, as trees have none.
    """
    handle = Model.of(model)
    known = weight_layers(handle, output)
    if not known:
        raise MethodUnavailable("the model has no weights to randomise: no linear layer, embedding or normalisation")
    if isinstance(layers, str) and layers not in ORDERS:
        raise InvalidParameter(f"layers: came {layers!r}, expected one of {', '.join(ORDERS)}, or layers")
    if not isinstance(layers, str):
        yield "chosen", _copy(handle, tuple(layers), seed)
    elif layers == "all":
        yield "all", _copy(handle, known, seed)
    else:
        for place, layer in enumerate(known):
            yield layer.name, _copy(handle, known[: place + 1] if layers == "cascading" else (layer,), seed)


def _copy(model: Model, layers: tuple[Layer, ...], seed: int) -> Model:
    """The prepared model with the constants of these layers replaced."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.prepared)
    shuffled = {name: layer.shuffled for layer in layers for name in layer.constants}
    if 4 * sum(math.prod(model.graph.constants[name].dims) for name in shuffled) >= LIMIT:
        raise MethodUnavailable("the weights to randomise take 2 GiB or more, which a copy of the model cannot hold")
    for tensor in proto.graph.initializer:
        if tensor.name in shuffled:
            array = np.asarray(model.graph.constant(tensor.name))
            drawn = _drawn(array, tensor.name, seed, shuffled[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(drawn, tensor.name))
    files = model.external.paths or None
    return Model(proto, batch_axes=model.batch_axes, row_by_row=bool(model.row_by_row), data_files=files)


def _drawn(array: np.ndarray, name: str, seed: int, shuffled: bool) -> np.ndarray:
    """Other numbers of the same shape and dtype; where all are equal, a deviation of their size."""
    random = np.random.default_rng([seed, *hashlib.sha256(name.encode()).digest()[:8]])
    if shuffled or str(array.dtype) not in FLOATS:
        return random.permutation(array.reshape(-1)).reshape(array.shape)
    wide = array.astype(np.float64)
    mean, deviation = float(wide.mean()), float(wide.std())
    return (mean + (deviation or abs(mean)) * random.standard_normal(array.shape)).astype(array.dtype)
