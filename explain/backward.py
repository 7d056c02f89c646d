"""The reverse walk: adjoints of outputs in, gradients of chosen values out.

It names no operator, nor what nodes hold inside. It visits only nodes on a path from the values asked for to the
outputs, asks the registry for each node's rule, and accumulates and un-broadcasts in one place. Only gradients with
respect to values that depend on the inputs exist: weights are constants and carry no adjoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from .dtypes import FLOATS, Shape
from .emit import Emitter
from .graph import Graph, Node, reads
from .registry import REGISTRY, Broadcasts, Gradients, Registry, Within


class View(Protocol):
    """What a rule is shown, where that is not the graph itself (see between.py)."""

    def node(self, node: Node) -> Node:
        """The node in the place of a node of the graph."""

    def value(self, name: str) -> str:
        """The value that has the shape of the gradient of a value of the graph."""


class _AsItIs:
    def node(self, node: Node) -> Node:
        return node

    def value(self, name: str) -> str:
        return name


AS_IT_IS: View = _AsItIs()


def backward(
    emit: Emitter,
    graph: Graph,
    cotangents: Mapping[str, str],
    wrt: Sequence[str],
    registry: Registry = REGISTRY,
    view: View = AS_IT_IS,
) -> dict[str, str]:
    """Names of the gradients of sum(cotangent * output) with respect to the values in `wrt`, by value.

    A value the outputs do not depend on gets zeros. Raises UnsupportedOperator, naming operator, node and opset,
    where a rule is missing or refuses.
    """
    path = differentiable_path(graph, wrt, cotangents, registry)
    adjoints: dict[str, list[str]] = {name: [grad] for name, grad in cotangents.items()}
    for node in reversed(graph.nodes):
        grads = [_total(emit, view.value(name), adjoints.get(name, [])) for name in node.outputs]
        if all(grad is None for grad in grads) or path.isdisjoint(_passed(node, registry)):
            continue
        if not registry.carries(node):
            continue
        entry = registry.find(node)
        if entry.inside is not None:
            within = Within(frozenset(path.intersection(reads(node.proto))), registry)
            for name, whole in entry.inside(emit, view.node(node), grads, within):
                adjoints.setdefault(name, []).append(whole)
            continue
        results = _results(node, entry.rule(emit, view.node(node), grads if entry.many else grads[0]))
        inputs = node.inputs[:1] if entry.first else node.inputs
        for name, result in zip(inputs, results[: len(inputs)], strict=True):
            if name not in path:
                continue
            if result is None:
                raise node.refuse(f"the gradient with respect to its input {name!r} is not covered")
            whole = _unbroadcast(emit, graph, node, name, result, entry.broadcasts, view.value(name))
            adjoints.setdefault(name, []).append(whole)
    totals = {name: _total(emit, view.value(name), adjoints.get(name, [])) for name in wrt}
    return {n: total if total is not None else emit.zeros_like(view.value(n)) for n, total in totals.items()}


def differentiable_path(
    graph: Graph, wrt: Sequence[str], outputs: Mapping[str, str] | Sequence[str], registry: Registry = REGISTRY
) -> set[str]:
    """Floating-point values through which a change of `wrt` reaches `outputs` with a gradient.

    Integers carry none, unless an operator without a rule made them: what that means for the gradient is not known, so
    that operator stands in the way and is refused by name. So does what makes or takes a sequence, and what reads the
    integers of a quantisation, unless it makes numbers of them again.
    """

    def carried(node: Node, name: str) -> bool:
        if registry.first_alone(node):
            return name == node.outputs[0]
        known, dtype = registry.knows(node) and codes.isdisjoint(reads(node.proto)), graph.type(name).dtype
        return bool(name) and (dtype in _CARRIERS or dtype.endswith("_type") or not known)

    forward, codes = set(wrt), set[str]()
    for node in graph.nodes:
        if registry.carries(node) and not forward.isdisjoint(_passed(node, registry)):
            found = [name for name in node.outputs if carried(node, name)]
            forward.update(found)
            if registry.first_alone(node) or not codes.isdisjoint(reads(node.proto)):
                codes.update(name for name in found if graph.type(name).dtype not in _CARRIERS)
    path = forward & set(outputs)
    for node in reversed(graph.nodes):
        if any(name in path for name in node.outputs) and registry.carries(node):
            path.update(name for name in _passed(node, registry) if name in forward)
    return path


def _passed(node: Node, registry: Registry) -> Sequence[str]:
    """What a node reads of which a gradient may be asked."""
    return node.inputs[:1] if registry.first_alone(node) else reads(node.proto)


_CARRIERS = FLOATS | {"unknown"}


def _results(node: Node, results: Gradients) -> tuple[str | None, ...]:
    given = (results,) if results is None or isinstance(results, str) else tuple(results)
    missing = len(node.inputs) - len(given)
    if missing < 0:
        raise node.refuse(f"its rule gave {len(given)} gradients for {len(node.inputs)} inputs")
    return given + (None,) * missing


def _total(emit: Emitter, name: str, grads: list[str]) -> str | None:
    """The sum of the adjoints of one value, which has the shape of that value, as every one of them."""
    if not grads:
        return None
    total = grads[0]
    emit.like(total, name)
    for grad in grads[1:]:
        emit.like(grad, name)
        total = emit.add(total, grad)
        emit.like(total, name)
    grads[:] = [total]
    return total


def _unbroadcast(
    emit: Emitter, graph: Graph, node: Node, name: str, grad: str, broadcasts: Broadcasts, like: str
) -> str:
    """Sum a gradient over the axes along which the input `name` was broadcast, to the shape of `like`."""
    if broadcasts is None:
        return grad
    cut = 2 if broadcasts == "leading" else 0
    source, result = graph.type(name).shape, graph.type(node.outputs[0]).shape
    if source is None or result is None:
        raise node.refuse(f"the rank of {name!r} could not be inferred; export the model with shape information")
    if any(node.rank(i) < cut for i in range(len(node.inputs)) if cut):
        return grad  # beside a vector no matrix is broadcast, and for the vector the rule sums itself
    extra = len(result) - len(source)
    if extra > 0:
        grad = emit.reduce_sum(grad, list(range(extra)), keepdims=0)
    axes, unsure = _reduced_axes(source[: len(source) - cut], result[extra : len(result) - cut])
    if axes:
        grad = emit.reduce_sum(grad, axes, keepdims=1)
    return _unbroadcast_at_run_time(emit, grad, like) if unsure else grad


def _reduced_axes(source: Shape, result: Shape) -> tuple[list[int], bool]:
    """Axes that certainly were broadcast, and whether others may have been."""
    axes, unsure = [], False
    for axis, (before, after) in enumerate(zip(source, result, strict=True)):
        if before == 1 and after != 1:
            axes.append(axis)
        elif isinstance(before, int) or (before is not None and before == after):
            continue
        else:
            unsure = True
    return axes, unsure


def _unbroadcast_at_run_time(emit: Emitter, grad: str, name: str) -> str:
    mine, theirs = emit.shape(name), emit.shape(grad)
    stretched = emit.logical_not(emit.equal(mine, theirs))
    axes = emit.squeeze(emit.non_zero(stretched), [0])
    return emit.reduce_sum(grad, axes, keepdims=1, noop_with_empty_axes=1)
