"""Quantisation: rounding to one of so many numbers, and clipping to the range they have.

As a function it is a staircase, flat almost everywhere, and its derivative says nothing. The gradient here is the
straight-through estimator (Bengio, Leonard, Courville 2013, arXiv:1308.3432) as quantised networks are trained with it
(Jacob et al. 2018, arXiv:1712.05877): 1 where what is quantised stays inside the range, 0 where it is clipped, and the
scale is held. Between two points, for DeepLIFT too, the clipping has its kink where it is. The chord of the staircase
itself would add up to the last digit and say little: a change of less than a step comes out as none or as a whole one,
and such slopes multiply from layer to layer. So what rounding changes is left in the answer's completeness gap.

The adjoint of bytes is that of the numbers they stand for: DequantizeLinear hands it on, and QuantizeLinear decides.
"""

from __future__ import annotations

import numpy as np

from ..between import Chord
from ..emit import Emitter
from ..graph import Node
from ..prepare.expansions.registry import MICROSOFT
from ..registry import Gradients, vjp
from .secant import SECANT, positive_share

QUANTIZERS = frozenset({"DynamicQuantizeLinear", "QuantizeLinear"})


@vjp("DequantizeLinear", first=True)
@vjp("DequantizeLinear", domain=MICROSOFT, first=True)
def dequantize(emit: Emitter, node: Node, grad: str) -> Gradients:
    """What the bytes were made of is in the units of the numbers, unless other scales go in than come out."""
    maker = node.graph.producers.get(node.proto.input[0])
    if maker is None or maker.op not in QUANTIZERS:  # whose rule refuses, or that of what it reads
        return grad
    own, made = node.proto.input[1], _scale_of(maker)
    if own == made or _equal(node, own, made):
        return grad
    if node.inputs[1] != own:
        raise node.refuse("between two points its scale has to be that of QuantizeLinear")
    return emit.mul(grad, emit.div(_along(emit, node, own), _along(emit, node, made)))


def _scale_of(maker: Node) -> str:
    return maker.inputs[1] if maker.op == "QuantizeLinear" else maker.outputs[1]


def _equal(node: Node, one: str, other: str) -> bool:
    first, second = node.graph.constant(one), node.graph.constant(other)
    return first is not None and second is not None and np.array_equal(first, second)


def _along(emit: Emitter, node: Node, values: str) -> str:
    """Scales or zero points as they stand beside the elements: one for all, or for each place of the axis."""
    shape = node.graph.type(values).shape
    if shape in ((), (1,)):
        return emit.reshape(values, np.zeros(0, dtype=np.int64))
    if shape is None or len(shape) != 1:
        raise node.refuse(f"scales or zero points {values!r} are neither one nor along one axis")
    rank = node.rank()
    axis = int(node.attr("axis", 1)) % rank
    return emit.reshape(values, [-1 if place == axis else 1 for place in range(rank)])


def _bounds(emit: Emitter, node: Node) -> tuple[str, str]:
    """The least and the largest whole number of steps from 0 that the bytes hold, as floats."""
    zero, x = node.input(2), node.inputs[0]
    kind = np.iinfo(node.graph.type(zero).dtype if zero else "uint8")
    if not zero:
        least, largest = (np.array(bound, dtype=emit.dtype(x)) for bound in (kind.min, kind.max))
        return emit.constant(least), emit.constant(largest)
    offset = emit.cast_like_value(_along(emit, node, zero), x)
    least, largest = (np.array(bound, dtype=emit.dtype(x)) for bound in (kind.min, kind.max))
    return emit.sub(least, offset), emit.sub(largest, offset)


def _only_numbers_read(node: Node) -> None:
    """Refuse what reads the bytes as such: no gradient would pass there, and nobody would know."""
    readers = node.graph.consumers.get(node.proto.output[0], [])
    other = next((reader for reader in readers if reader.op != "DequantizeLinear"), None)
    if other is not None:
        raise node.refuse(f"its bytes are read by {other.op} (node {other.name or other.outputs[0]!r})")


@vjp("QuantizeLinear", first=True)
@vjp("QuantizeLinear", domain=MICROSOFT, first=True)
def quantize(emit: Emitter, node: Node, grad: str) -> Gradients:
    """1 where round(x / scale) is one of the numbers that bytes stand for."""
    _only_numbers_read(node)
    least, largest = _bounds(emit, node)
    steps = emit.round(emit.div(node.inputs[0], _along(emit, node, node.inputs[1])))
    inside = emit.logical_and(emit.greater_or_equal(steps, least), emit.less_or_equal(steps, largest))
    return emit.where(inside, grad, np.zeros((), dtype=emit.dtype(grad)))


@vjp("DynamicQuantizeLinear", many=True, first=True)
def dynamic_quantize(emit: Emitter, node: Node, grads: list[str | None]) -> Gradients:
    """Nothing is outside of the range that it has itself."""
    _only_numbers_read(node)
    return grads[0]


@SECANT.vjp("QuantizeLinear", first=True)
@SECANT.vjp("QuantizeLinear", domain=MICROSOFT, first=True)
def clipped_share(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """For how much of the way it is inside the range, half a step at either end included."""
    _only_numbers_read(node)
    scale = _along(emit, node, node.inputs[1])
    least, largest = _bounds(emit, node)
    low, high = emit.mul(emit.sub(least, 0.5), scale), emit.mul(emit.add(largest, 0.5), scale)
    below = positive_share(emit, *(emit.sub(low, end) for end in node.ends()))
    above = positive_share(emit, *(emit.sub(end, high) for end in node.ends()))
    one = np.ones((), dtype=emit.dtype(grad))
    return emit.mul(grad, emit.sub(one, emit.add(below, above)))
