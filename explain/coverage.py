"""What of a model can be explained, how, and what stands in the way: `coverage(model)`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from .backward import differentiable_path
from .compiler import compile as compile_program
from .errors import ExplainError, InvalidModel, MethodUnavailable, UnsupportedOperator
from .graph import Node, reads
from .inside import held
from .methods import METHODS
from .model import Explained, Model, ModelLike
from .programs import without_chord
from .programs.layers import spatial_layer
from .programs.linear_shap import encodings_of
from .programs.tree_shap import trees_of
from .registry import REGISTRY
from .rules.quantized import QUANTIZERS

STRAIGHT_THROUGH = "straight_through"


@dataclass(frozen=True)
class Blocker:
    """An operator that stands in the way of the gradient: which, at which node, at which opset, and why."""

    op: str
    node: str
    opset: int
    reason: str


@dataclass(frozen=True)
class Coverage:
    """What can be explained.

    `operators` counts those on the way from the inputs to the explained output that have a rule; `blocking` names
    those that have none or refuse; `methods` are offered, `refused` says why the others are not. Needs of a method
    that the caller supplies (baseline, background) are not judged here. `approximations` are what gradients of the
    model rest on where its own say nothing: "straight_through", past the rounding of a quantised model.
    """

    differentiable: bool
    operators: dict[str, int]
    blocking: tuple[Blocker, ...]
    methods: tuple[str, ...]
    refused: dict[str, str]
    explained: Explained
    batching: str
    approximations: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain lists and dicts."""
        return asdict(self)


def coverage(model: ModelLike, *, output: str | None = None, space: str | None = None) -> Coverage:
    """Say what of the model can be explained and how (once: a `Model` keeps it); raises InvalidModel."""
    handle = Model.of(model)
    return judged(handle, handle.explained(output, space))


def judged(model: Model, explained: Explained) -> Coverage:
    """`coverage` of a value that is known already."""
    return model.remember(f"coverage of {explained.output!r} as {explained.space}", lambda: _judged(model, explained))


def _judged(handle: Model, explained: Explained) -> Coverage:
    operators, blocking = _operators(handle, explained)
    if not blocking:
        blocking = _refusals(handle, explained)
    differentiable = not blocking
    offered, refused = [], {}
    for name, method in METHODS.items():
        reason = _reason(handle, explained, method.needs, blocking)
        if reason is None:
            offered.append(name)
        else:
            refused[name] = reason
    passed = (STRAIGHT_THROUGH,) if QUANTIZERS & operators.keys() else ()
    return Coverage(differentiable, operators, blocking, tuple(offered), refused, explained, _batching(handle), passed)


def _batching(model: Model) -> str:
    if not model.row_by_row:
        return "items are joined along axis 0"
    return f"row by row: {model.decided or 'one item is evaluated at a time'}"


def _operators(model: Model, explained: Explained) -> tuple[dict[str, int], tuple[Blocker, ...]]:
    """Operators a gradient would have to pass, and those without a rule."""
    graph = model.graph
    try:
        starts = [leaf.value for leaf in model.leaves(explained)]
    except MethodUnavailable as error:
        return {}, (Blocker("", "", model.opset, str(error)),)
    path = differentiable_path(graph, starts, [explained.value])
    counts: Counter[str] = Counter()
    blocking = []
    for node in graph.nodes:
        if not REGISTRY.carries(node) or not any(name in path for name in reads(node.proto)):
            continue
        if not any(name in path for name in node.outputs):
            continue
        try:
            REGISTRY.find(node)
            counts[node.op] += 1
            counts.update(_inside(node, path))
        except UnsupportedOperator as error:
            blocking.append(Blocker(error.op, error.node, model.opset, error.reason))
    return dict(counts), tuple(blocking)


def _inside(node: Node, path: set[str]) -> Counter[str]:
    """Operators with a rule on the way through the graphs that a node holds."""
    counts: Counter[str] = Counter()
    for body in held(node):
        starts = [name for name, kind in body.inputs.items() if kind.is_float]
        starts += [name for inner in body.nodes for name in reads(inner.proto) if name in path]
        within = differentiable_path(body, starts, list(body.outputs))
        for inner in body.nodes:
            if not within.isdisjoint(inner.outputs) and REGISTRY.carries(inner) and REGISTRY.knows(inner):
                counts[inner.op] += 1
                counts.update(_inside(inner, within))
    return counts


def _refusals(model: Model, explained: Explained) -> tuple[Blocker, ...]:
    """Rules that exist but refuse an attribute show themselves only when they are asked."""
    try:
        compile_program(model, "path_gradient", output=explained.output, space=explained.space)
    except UnsupportedOperator as error:
        return (Blocker(error.op, error.node, model.opset, error.reason),)
    except (InvalidModel, MethodUnavailable) as error:
        return (Blocker("", "", model.opset, str(error)),)
    return ()


def _reason(model: Model, explained: Explained, needs: frozenset[str], blocking: tuple[Blocker, ...]) -> str | None:
    """Why a method with these needs is not offered, or None."""
    if "gradient" in needs and blocking:
        first = blocking[0]
        if not first.op:
            return first.reason
        return f"operator {first.op} (node {first.node!r}, opset {first.opset}): {first.reason}"
    if "chords" in needs and not blocking and (error := without_chord(model, explained)):
        return str(error)
    if "numbers" in needs:
        codes = [leaf.input for leaf in model.leaves(explained) if leaf.value != leaf.input]
        if codes:
            return f"input {codes[0]!r} holds codes, to which no noise can be added"
    if "spatial" in needs:
        try:
            spatial_layer(model, explained)
        except ExplainError as error:
            return str(error)
    if model.held and needs & {"affine", "trees"}:
        return f"its closed form takes every input for a feature, and {sorted(model.held)[0]!r} is held"
    for need, found in (("affine", encodings_of), ("trees", trees_of)):
        if need in needs:
            try:
                found(model, explained)
            except ExplainError as error:
                return str(error)
    return None
