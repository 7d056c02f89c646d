"""Rules between two points for operators with a kink: the slope that leads from one end to the other.

A network of such operators has a gradient that jumps along a path. How far along a stretch an operand crosses its kink
follows from the operand at both ends, if it changes evenly between them; so the jump is placed inside the stretch
instead of at the next point that happened to be evaluated. For one operator this is the rescale rule of DeepLIFT
(Shrikumar et al. 2017, arXiv:1704.02685). Each rule here is exact: slope times change of the operands is the change
of the output. Where an operand does not change, the conventions for a gradient at a point hold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np

from ..between import Chord, halfway
from ..emit import Emitter
from ..graph import Node
from ..registry import REGISTRY, Gradients, Registry
from . import gru, lstm, rnn
from .activations import prelu
from .elementwise import clip, only_where
from .gates import activations_of
from .pool import POOL_ATTRIBUTES
from .recurrent import swept
from .reduce import is_identity, kept

SECANT = Registry(REGISTRY)
secant = SECANT.vjp
SWEEPS = {
    "GRU": (gru.sweep_gru, gru.ACTIVATIONS),
    "LSTM": (lstm.sweep_lstm, lstm.ACTIVATIONS),
    "RNN": (rnn.sweep_rnn, rnn.ACTIVATIONS),
}


def jumps(node: Node, moving: Collection[str]) -> bool:
    """Whether the node's gradient may jump when the values in `moving` change: it has a rule here, and Where only
    between conditions, a recurrent node only in its activations."""
    if node.op in SWEEPS and not _bends(node):
        return False
    changing = node.inputs[:1] if node.op == "Where" else node.inputs
    return ("", node.op) in SECANT.rules and not node.domain and not set(changing).isdisjoint(moving)


def positive_share(emit: Emitter, start: str, stop: str) -> str:
    """The share of the way from `start` to `stop` on which a number is positive: (relu b - relu a) / (b - a)."""
    tiny = np.array(np.finfo(emit.dtype(stop)).tiny, dtype=emit.dtype(stop))
    change = emit.max(emit.abs(emit.sub(stop, start)), tiny)
    zero, one = (np.array(bound, dtype=emit.dtype(stop)) for bound in (0, 1))
    return emit.clip(emit.div(emit.max(start, stop), change), zero, one)


@secant("Relu")
def relu(emit: Emitter, node: Chord, grad: str) -> Gradients:
    return emit.mul(grad, positive_share(emit, *node.ends()))


@secant("LeakyRelu")
def leaky_relu(emit: Emitter, node: Chord, grad: str) -> Gradients:
    alpha = float(node.attr("alpha", 0.01))
    share = positive_share(emit, *node.ends())
    return emit.mul(grad, emit.add(emit.mul(share, 1.0 - alpha), alpha))


@secant("PRelu", broadcasts="all")
def parametric_relu(emit: Emitter, node: Chord, grad: str) -> Gradients:
    slope, share = node.inputs[1], positive_share(emit, *node.ends())
    one = np.ones((), dtype=emit.dtype(slope))
    bent = emit.add(slope, emit.mul(share, emit.sub(one, slope)))
    return emit.mul(grad, bent), prelu(emit, node, grad)[1]  # type: ignore[index]  # it gives a pair


@secant("Elu", "Selu")
def elu(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """gamma x above 0, gamma alpha (e^x - 1) below: the share of gamma, the rest of gamma alpha e^x halfway below."""
    alpha = float(node.attr("alpha", 1.0 if node.op == "Elu" else 1.6732631921768188))
    gamma = 1.0 if node.op == "Elu" else float(node.attr("gamma", 1.0507010221481323))
    zero, one = (np.array(number, dtype=emit.dtype(grad)) for number in (0, 1))
    share = positive_share(emit, *node.ends())
    below = halfway(emit, *(emit.min(end, zero) for end in node.ends()))
    curved = emit.mul(emit.mul(emit.exp(below), alpha), emit.sub(one, share))
    return emit.mul(grad, emit.mul(emit.add(share, curved), gamma))


@secant("ThresholdedRelu")
def thresholded_relu(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """Its jump carries no gradient, as everywhere."""
    alpha = float(node.attr("alpha", 1.0))
    return emit.mul(grad, positive_share(emit, *(emit.sub(end, alpha) for end in node.ends())))


@secant("Abs")
def absolute(emit: Emitter, node: Chord, grad: str) -> Gradients:
    negative = positive_share(emit, *(emit.neg(end) for end in node.ends()))
    return emit.mul(grad, emit.sub(positive_share(emit, *node.ends()), negative))


@secant("HardSigmoid")
def hard_sigmoid(emit: Emitter, node: Chord, grad: str) -> Gradients:
    return emit.mul(grad, _ramp(emit, node, float(node.attr("alpha", 0.2)), float(node.attr("beta", 0.5))))


def _ramp(emit: Emitter, node: Chord, alpha: float, beta: float) -> str:
    """The slope of clip(alpha x + beta, 0, 1): alpha times the share of the way on which it is between 0 and 1."""
    one = np.ones((), dtype=emit.dtype(node.inputs[0]))
    z = [emit.add(emit.mul(end, alpha), beta) for end in node.ends()]
    below_one = positive_share(emit, *(emit.sub(one, end) for end in z))
    return emit.mul(emit.sub(emit.add(positive_share(emit, *z), below_one), one), alpha)


@secant("HardSwish")
def hard_swish(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """x h(x) with h(x) = clip(x/6 + 1/2, 0, 1): each factor halfway times the slope of the other."""
    h = [emit.hard_sigmoid(end, alpha=1.0 / 6.0, beta=0.5) for end in node.ends()]
    x = halfway(emit, *node.ends())
    return emit.mul(grad, emit.add(halfway(emit, *h), emit.mul(x, _ramp(emit, node, 1.0 / 6.0, 0.5))))


@secant("Clip", broadcasts="all")
def clipped(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """What is beyond a fixed bound, and for how much of the way."""
    bounds = [node.input(index) for index in (1, 2)]
    if any(bound and node.start.input(index) != bound for index, bound in enumerate(bounds, 1)):
        return clip(emit, node, grad)
    slope = emit.constant(np.ones((), dtype=emit.dtype(grad)))
    low, high = bounds
    if low:
        slope = emit.sub(slope, positive_share(emit, *(emit.sub(low, end) for end in node.ends())))
    if high:
        slope = emit.sub(slope, positive_share(emit, *(emit.sub(end, high) for end in node.ends())))
    slope = emit.max(slope, np.zeros((), dtype=emit.dtype(grad)))  # bounds that cross leave nothing
    return emit.mul(grad, slope), *[None] * (len(node.inputs) - 1)


@secant("Where", broadcasts="all")
def where(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """A condition may change on the way: half and half."""
    conditions = node.ends()
    yes = halfway(emit, *(only_where(emit, condition, grad) for condition in conditions))
    return None, yes, emit.sub(grad, yes)


def _lead(emit: Emitter, first: tuple[str, str], second: tuple[str, str]) -> str:
    """For how much of the way the first of two numbers leads, which leads at the start, and the second at the stop.

    Both change evenly, each from and to what is given: ahead by p at the start and behind by q at the stop, the first
    leads for p / (p + q) of the way; for half of it, where they are one and the same.
    """
    p, q = (emit.abs(emit.sub(one, other)) for one, other in zip(first, second, strict=True))
    return _share(emit, p, q, 0.5)


def _share(emit: Emitter, p: str, q: str, neither: float) -> str:
    """p / (p + q), or what is said where both are 0."""
    total = emit.add(p, q)
    instead, one = (np.array(number, dtype=emit.dtype(total)) for number in (neither, 1))
    apart = emit.greater(total, np.zeros_like(one))
    return emit.where(apart, emit.div(p, emit.where(apart, total, one)), instead)


def _handed_over(
    emit: Emitter,
    grad: str,
    y: tuple[str, str],
    operands: list[tuple[str, str]],
    add_up: Callable[[list[str]], str],
    top: Callable[[list[str]], str],
) -> list[str]:
    """What leads at the start has the gradient until what leads at the stop takes it, or one between them does.

    `y` is the extreme at both ends, `operands` what it is the extreme of; `add_up` and `top` add operands up to its
    shape and take their extreme. Ties count as one, and share. Of those that lead between the two, the one counts that
    leads where they cross.
    """
    masks = [[emit.equal(pair[end], y[end]) for pair in operands] for end in (0, 1)]
    here = [_mean(emit, masks[0], [pair[end] for pair in operands], add_up) for end in (0, 1)]
    there = [_mean(emit, masks[1], [pair[end] for pair in operands], add_up) for end in (0, 1)]
    cross = _lead(emit, (y[0], here[1]), (there[0], y[1]))
    crossing = [emit.add(start, emit.mul(cross, emit.sub(stop, start))) for start, stop in operands]
    highest = top(crossing)
    masks.insert(1, [emit.equal(operand, highest) for operand in crossing])
    between = [_mean(emit, masks[1], [pair[end] for pair in operands], add_up) for end in (0, 1)]
    level = emit.add(y[0], emit.mul(cross, emit.sub(here[1], y[0])))
    above, one = emit.abs(emit.sub(highest, level)), np.ones((), dtype=emit.dtype(grad))
    begins = emit.mul(cross, _share(emit, emit.abs(emit.sub(y[0], between[0])), above, 1.0))
    lasts = _share(emit, above, emit.abs(emit.sub(y[1], between[1])), 0.0)
    ends = emit.add(cross, emit.mul(emit.sub(one, cross), lasts))
    shares = begins, emit.sub(ends, begins), emit.sub(one, ends)
    parts = [
        emit.div(emit.mul(grad, share), _count(emit, side, add_up, grad))
        for share, side in zip(shares, masks, strict=True)
    ]
    each = zip(*masks, strict=True)
    return [
        emit.node("Sum", [only_where(emit, m, part) for m, part in zip(own, parts, strict=True)])[0] for own in each
    ]


def _count(emit: Emitter, masks: list[str], add_up: Callable[[list[str]], str], like: str) -> str:
    return add_up([emit.cast_like_value(mask, like) for mask in masks])


def _mean(emit: Emitter, masks: list[str], operands: list[str], add_up: Callable[[list[str]], str]) -> str:
    """The mean of the operands that are marked."""
    picked = [only_where(emit, mask, operand) for mask, operand in zip(masks, operands, strict=True)]
    return emit.div(add_up(picked), _count(emit, masks, add_up, operands[0]))


@secant("Max", "Min", broadcasts="all")
def extreme(emit: Emitter, node: Chord, grad: str) -> Gradients:
    operands = [node.ends(index) for index in range(len(node.inputs))]
    y = node.results()
    add_up, top = (lambda values, op=op: emit.node(op, values)[0] for op in ("Sum", node.op))
    return _handed_over(emit, grad, y, operands, add_up, top)


@secant("ReduceMax", "ReduceMin", "GlobalMaxPool")
def reduced_extreme(emit: Emitter, node: Chord, grad: str) -> Gradients:
    pooled = node.op == "GlobalMaxPool"
    if not pooled and is_identity(node):
        return grad
    axes: list[Any] = [list(range(2, node.rank()))] if pooled else list(filter(None, node.inputs[1:2]))
    shaped = (lambda value: value) if pooled else partial(kept, emit, node)
    y = shaped(node.results()[0]), shaped(node.results()[1])
    reducing = emit.reduce_min if node.op == "ReduceMin" else emit.reduce_max
    add_up, top = (lambda values, f=f: f(values[0], *axes, keepdims=1) for f in (emit.reduce_sum, reducing))
    return _handed_over(emit, shaped(grad), y, [node.ends()], add_up, top)[0]


@secant("MaxPool", many=True)
def max_pool(emit: Emitter, node: Chord, grads: list[str | None]) -> Gradients:
    """In each window, as for two numbers: the maximum at the start and the one at the stop."""
    own, (start, stop) = partial(_own_places, emit), node.ends()
    one_row = emit.reduce_prod(emit.dims(stop, 1), keepdims=1)
    begins = emit.reshape(emit.mul(emit.arange(emit.dim(stop, 0)), one_row), emit.join(-1, *[1] * (node.rank() - 1)))
    places = [emit.reshape(emit.add(place, begins), [-1]) for place in node.both(own)]
    flat, y = ([emit.reshape(end, [-1]) for end in ends] for ends in ((start, stop), node.results()))
    grad = emit.reshape(grads[0] or emit.zeros_like(node.outputs[0]), [-1])
    first, second = (y[0], emit.gather(flat[1], places[0], axis=0)), (emit.gather(flat[0], places[1], axis=0), y[1])
    early = emit.mul(grad, _lead(emit, first, second))
    total = emit.zeros(emit.reshape(emit.size(stop), [1]), stop)
    for place, part in zip(places, (early, emit.sub(grad, early)), strict=True):
        total = emit.scatter_elements(total, place, part, axis=0, reduction="add")
    return emit.reshape(total, emit.shape(stop))


def _own_places(emit: Emitter, node: Node) -> str:
    """Where each window has its maximum, counted from the start of the row it is in: [rows, C, spatial...]."""
    x = node.inputs[0]
    _, places = emit.node("MaxPool", [x], {name: node.attr(name) for name in POOL_ATTRIBUTES}, 2)
    return emit.mod(places, emit.reduce_prod(emit.dims(x, 1), keepdims=1))


@secant("GRU", "LSTM", "RNN", many=True)
def recurrent(emit: Emitter, node: Chord, grads: list[str | None]) -> Gradients:
    """With kinks placed in its activations, or the gradient halfway where those are smooth."""
    if not _bends(node):
        return REGISTRY.find(node).rule(emit, node, grads)
    sweep, activations = SWEEPS[node.op]
    return swept(emit, node, grads, sweep, activations, SECANT, (node.start, node.stop))


def _bends(node: Node) -> bool:
    """Whether an activation of a recurrent node has a kink."""
    each = activations_of(node, SWEEPS[node.op][1])
    return any(("", step.op) in SECANT.rules for activation in each for step in activation)
