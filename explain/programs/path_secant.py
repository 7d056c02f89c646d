"""`path_secant`: slopes over M stretches of the path between a baseline and x, contracted with R weightings.

K points lie at baseline + alpha_k d, with d = x - baseline, and the m-th stretch leads from point `start`_m to point
`stop`_m. Its slope s_m is the gradient of f averaged over the stretch to second order: gradients that jump (networks of
Relu) are averaged where they jump (see between.py and rules/secant.py), smooth ones are taken halfway.
`x.attribution` [N, R, ...] = sum_m weight_mr d s_m; `value` [N, M] = f at the starts, `value.stop` [N, M] at the stops.
For a network of Relu, max pooling and linear layers, d s_m times the length of the stretch adds up to the change of f
exactly: one stretch from baseline to x is DeepLIFT's rescale rule (Shrikumar et al. 2017, arXiv:1704.02685), many are
integrated gradients.

Where the rows of every value on the way can be told apart, the model runs once at each point (`points` is "shared"
among the program's options); elsewhere it runs at the start and at the stop of each stretch ("paired").
"""

from __future__ import annotations

from ..backward import backward, differentiable_path
from ..between import NO_CHORD, Between, Placements, Rows, rows_lead
from ..errors import InvalidParameter, UnsupportedOperator
from ..graph import Node, bodies
from ..model import Explained, Model
from ..rules.rescale import RESCALE
from ..rules.secant import SECANT, jumps
from .draft import Draft, Program, shapes_hold
from .paths import Path, contract, declare, place_at, walk
from .target import select

STRETCHES = ("N", "M")
RULES = {"secant": SECANT, "rescale": RESCALE}


def build_path_secant(
    model: Model,
    *,
    output: str | None = None,
    space: str | None = None,
    rules: str = "secant",
    points: str | None = None,
) -> Program:
    """Compile the program; `rules` are "secant" (exact for kinks, halfway for the rest) or "rescale" (DeepLIFT's).

    `points` is "paired" where stretches share no points, so that nothing is gained by telling rows apart.
    """
    if rules not in RULES:
        raise InvalidParameter(f"rules: came {rules!r}, expected one of {', '.join(RULES)}")
    if points not in (None, "paired"):
        raise InvalidParameter(f"points: came {points!r}, expected 'paired', or none for what the model allows")
    explained = model.explained(output, space)
    dtype, stretches = explained.dtype, ("int64", STRETCHES)
    arrays = {"alpha": (dtype, ("N", "K")), "start": stretches, "stop": stretches, "weight": (dtype, (*STRETCHES, "R"))}
    draft = declare(model, explained, arrays, ("value", "value.stop"))
    paths = [walk(draft, leaf) for leaf in model.leaves(explained)]
    shared = points is None and rows_are_apart(model, explained)
    between = _shared(draft, paths) if shared else _paired(draft, paths)
    graph, emit, repeat = between.graph, draft.emit, draft.emit.dim("start", 1)
    rank, ends = len(model.graph.type(explained.value).shape or ()), between.ends(graph.now(explained.value))
    for end, name in zip(ends, ("value", "value.stop"), strict=True):
        y = draft.from_layout(explained.output, end, rank)
        f, cotangent = select(emit, y, "target", "target.weight", repeat)
        draft.output(name, emit.reshape(f, emit.shape("start")), dtype, STRETCHES)
    wrt = [graph.now(path.leaf.value) for path in paths]
    seeds = {graph.now(explained.value): draft.to_layout(explained.output, cotangent)}
    slopes = backward(emit, graph, seeds, wrt, RULES[rules], between)
    contract(draft, paths, {path.leaf.value: slopes[name] for path, name in zip(paths, wrt, strict=True)}, of="start")
    laid = "shared" if shared else "paired"
    options = {"output": explained.output, "space": explained.space, "rules": rules, "points": laid}
    return draft.finish("path_secant", explained, options)


def has_kinks(model: Model, explained: Explained) -> bool:
    """Whether a node between the inputs and the explained value has a gradient that jumps, and chords tell where."""
    moving = model.graph.downstream(leaf.value for leaf in model.leaves(explained))
    nodes = _between(model, explained)
    return any(jumps(node, moving) for node in nodes) and not any(bodies(node.proto) for node in nodes)


def without_chord(model: Model, explained: Explained) -> UnsupportedOperator | None:
    """What refuses slopes between two points: a node between the inputs and the explained value that holds graphs."""
    held = (node for node in _between(model, explained) if bodies(node.proto))
    return next((node.refuse(NO_CHORD) for node in held), None)


def _between(model: Model, explained: Explained) -> list[Node]:
    graph, wrt = model.graph, [leaf.value for leaf in model.leaves(explained)]
    path = differentiable_path(graph, wrt, [explained.value])
    return [node for node in graph.nodes if not path.isdisjoint(node.outputs)]


def rows_are_apart(model: Model, explained: Explained) -> bool:
    """Whether the rows of a run can be told apart everywhere between the inputs and the explained value."""
    moved = any(model.batch_axis(name) != 0 for name in (*model.graph.inputs, explained.output))
    wrt = [leaf.value for leaf in model.leaves(explained)]
    return not moved and shapes_hold(model) and rows_lead(model.graph, wrt, explained.value)


def _shared(draft: Draft, paths: list[Path]) -> Between:
    """One row for each of the N * K points."""
    graph, emit = place_at(draft, paths, "alpha"), draft.emit
    first = emit.mul(emit.arange(emit.dim("alpha", 0)), emit.dim("alpha", 1))
    start, stop = (emit.reshape(emit.add(end, emit.unsqueeze(first, [1])), [-1]) for end in ("start", "stop"))
    return Rows(emit, graph, [graph.now(path.leaf.value) for path in paths], start, stop)


def _paired(draft: Draft, paths: list[Path]) -> Between:
    """Two rows for each of the N * M stretches."""
    ends = [draft.emit.gather_elements("alpha", end, axis=1) for end in ("start", "stop")]
    start, stop = (place_at(draft, paths, end, f"{name}/") for end, name in zip(ends, ("start", "stop"), strict=True))
    return Placements(draft.emit, start, stop, [stop.now(path.leaf.value) for path in paths])
