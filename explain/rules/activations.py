"""Activations: elementwise, most with a kink, at which the conventions of this package hold."""

from weakref import WeakKeyDictionary

from ..emit import Emitter
from ..graph import Graph, Node
from ..registry import Gradients, vjp
from .elementwise import one_minus_square, only_where


@vjp("Tanh")
def tanh(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.mul(grad, one_minus_square(emit, node.outputs[0]))


@vjp("Sigmoid")
def sigmoid(emit: Emitter, node: Node, grad: str) -> Gradients:
    y = node.outputs[0]
    return emit.mul(grad, emit.sub(y, emit.mul(y, y)))


# Behind these a slope is finite, or it is infinite for whole neighbourhoods: 0 * slope is no worse than a choice.
MIXING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Relu"})
PASSING = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Concat", "Dropout", "Flatten", "GlobalAveragePool", "Identity"}
    | {"MaxPool", "ReduceMean", "Reshape", "Squeeze", "Sum"}
)
STEEP = 2.0**126


@vjp("Relu")
def relu(emit: Emitter, node: Node, grad: str) -> Gradients:
    """The mask is taken from the output, so that a runtime may keep Conv+Relu fused.

    Among convolutions it is a number by which the gradient is multiplied, min(2^126 y, 1), which is 0 or 1 for every
    y that is no subnormal number: runtimes have both operators in the blocked layout of their convolutions, which
    Greater and Where would have to leave. Elsewhere the gradient may be infinite where the mask is 0.
    """
    y = node.outputs[0]
    if emit.dtype(y) == "float32" and len(node.graph.type(y).shape or ()) == 4 and _among_convolutions(node):
        return emit.mul(grad, emit.hard_sigmoid(y, alpha=STEEP, beta=0.0))
    return only_where(emit, emit.greater(y, 0.0), grad)


_MIXED: WeakKeyDictionary[Graph, set[str]] = WeakKeyDictionary()


def _among_convolutions(node: Node) -> bool:
    """Whether what reads the output, seen through sums and poolings, mixes neighbours again."""
    if node.graph not in _MIXED:
        _MIXED[node.graph] = _mixed(node.graph)
    return node.outputs[0] in _MIXED[node.graph]


def _mixed(graph: Graph) -> set[str]:
    """Values of which every reader mixes, or passes on what is mixed; told from the end, once for a graph."""
    found: set[str] = set()

    def mixes(reader: Node) -> bool:
        return reader.op in MIXING or (reader.op in PASSING and found.issuperset(filter(None, reader.outputs)))

    for node in reversed(graph.nodes):
        found.update(name for name in node.outputs if all(map(mixes, graph.consumers.get(name, ()))))
    return found


@vjp("LeakyRelu")
def leaky_relu(emit: Emitter, node: Node, grad: str) -> Gradients:
    alpha = float(node.attr("alpha", 0.01))
    return emit.where(emit.greater(node.inputs[0], 0.0), grad, emit.mul(grad, alpha))


@vjp("PRelu", broadcasts="all")
def prelu(emit: Emitter, node: Node, grad: str) -> Gradients:
    x, slope = node.inputs
    positive = emit.greater(x, 0.0)
    zero = emit.sub(grad, grad)
    return emit.where(positive, grad, emit.mul(grad, slope)), emit.where(positive, zero, emit.mul(grad, x))


@vjp("Elu")
def elu(emit: Emitter, node: Node, grad: str) -> Gradients:
    alpha = float(node.attr("alpha", 1.0))
    return emit.where(emit.greater(node.inputs[0], 0.0), grad, emit.mul(grad, emit.add(node.outputs[0], alpha)))


@vjp("Selu")
def selu(emit: Emitter, node: Node, grad: str) -> Gradients:
    alpha = float(node.attr("alpha", 1.6732631921768188))
    gamma = float(node.attr("gamma", 1.0507010221481323))
    negative = emit.mul(grad, emit.add(node.outputs[0], alpha * gamma))
    return emit.where(emit.greater(node.inputs[0], 0.0), emit.mul(grad, gamma), negative)


@vjp("Celu")
def celu(emit: Emitter, node: Node, grad: str) -> Gradients:
    alpha = float(node.attr("alpha", 1.0))
    negative = emit.mul(grad, emit.add(emit.mul(node.outputs[0], 1.0 / alpha), 1.0))
    return emit.where(emit.greater(node.inputs[0], 0.0), grad, negative)


@vjp("ThresholdedRelu")
def thresholded_relu(emit: Emitter, node: Node, grad: str) -> Gradients:
    return only_where(emit, emit.greater(node.inputs[0], float(node.attr("alpha", 1.0))), grad)


@vjp("Softplus")
def softplus(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.mul(grad, emit.sigmoid(node.inputs[0]))


@vjp("Softsign")
def softsign(emit: Emitter, node: Node, grad: str) -> Gradients:
    denominator = emit.add(emit.abs(node.inputs[0]), 1.0)
    return emit.div(grad, emit.mul(denominator, denominator))


@vjp("HardSigmoid")
def hard_sigmoid(emit: Emitter, node: Node, grad: str) -> Gradients:
    y, alpha = node.outputs[0], float(node.attr("alpha", 0.2))
    inside = emit.logical_and(emit.greater(y, 0.0), emit.less(y, 1.0))
    return only_where(emit, inside, emit.mul(grad, alpha))


@vjp("HardSwish")
def hard_swish(emit: Emitter, node: Node, grad: str) -> Gradients:
    """x * clip(x/6 + 1/2, 0, 1): 0 below -3, 1 above 3, x/3 + 1/2 between."""
    x = node.inputs[0]
    between = emit.mul(grad, emit.add(emit.mul(x, 1.0 / 3.0), 0.5))
    return emit.where(emit.greater_or_equal(x, 3.0), grad, only_where(emit, emit.greater(x, -3.0), between))


@vjp("Mish")
def mish(emit: Emitter, node: Node, grad: str) -> Gradients:
    """x tanh(s), s = softplus(x): tanh(s) + x (1 - tanh(s)^2) sigmoid(x)."""
    x = node.inputs[0]
    t = emit.tanh(emit.softplus(x))
    slope = emit.add(t, emit.mul(emit.mul(x, one_minus_square(emit, t)), emit.sigmoid(x)))
    return emit.mul(grad, slope)
