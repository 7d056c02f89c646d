"""A value of the graph as one sum over trees: which ensembles it is made of, and what each leaf adds to it.

Behind the ensembles there may be arithmetic that is affine in all of them (means, scales, a second class), and, where
an ensemble has a single tree, anything at all on its way there: what follows from one leaf is one constant. So the
depth that an isolation forest computes for each of its trees is a sum over leaves, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from onnx import helper
from onnx.reference import ReferenceEvaluator

from ..affine import is_affine
from ..errors import MethodUnavailable, UnsupportedOperator
from ..graph import Graph, Node, reads
from .ensembles import Ensemble, is_ensemble, read_ensemble


@dataclass(frozen=True)
class Forest(Ensemble):
    """All trees behind one value, with the columns of their inputs beside each other.

    `sources`: the values [N, p] that hold the columns, in order; `leaves` [L, C] and `offset` [C] are in the elements
    of the value after its item axis.
    """

    sources: tuple[str, ...]


@dataclass(frozen=True)
class Term:
    """A value that is one ensemble's outputs, or a function of the single leaf of one.

    `origin` is the ensemble's output and `source` its input; `leaves` [L, C] and `offset` [C] are the term's own.
    """

    value: str
    origin: str
    source: str
    ensemble: Ensemble
    leaves: np.ndarray
    offset: np.ndarray


def read_forest(graph: Graph, value: str) -> Forest:
    """The trees behind `value` [N, ...]; raises MethodUnavailable, naming what is no sum over trees."""
    nodes = [node for node in _behind(graph, value) if is_ensemble(node)]
    if not nodes:
        raise MethodUnavailable("the explained output is not made by a tree ensemble")
    try:
        ensembles = {node.outputs[-1]: read_ensemble(node) for node in nodes}
    except UnsupportedOperator as error:
        raise MethodUnavailable(str(error)) from error
    _refuse_shortcuts(graph, nodes, value)
    terms = [_term(graph, name, ensembles[origin], origin) for name, origin in _ends(graph, ensembles, value)]
    matrices, offset = _coefficients(graph, terms, value)
    return _joined(graph, terms, matrices, offset)


def _behind(graph: Graph, value: str) -> list[Node]:
    wanted = graph.upstream([value])
    return [node for node in graph.nodes if any(name in wanted for name in node.outputs)]


def _refuse_shortcuts(graph: Graph, nodes: list[Node], value: str) -> None:
    """Nothing of an input may reach the value beside the trees, nor trees that stand behind trees."""
    ends = {name for node in nodes for name in node.outputs}
    beside = graph.downstream(graph.inputs, through=lambda node: not is_ensemble(node))
    for node in _behind(graph, value):
        used = reads(node.proto)
        if any(name in ends for name in used) and is_ensemble(node):
            raise MethodUnavailable(f"{_named(node)} stands behind other trees; a sum over trees is explained")
        mixed = any(name in beside for name in used) and not is_ensemble(node)
        if mixed and _leads_beside(graph, node, value):
            raise MethodUnavailable(f"{_named(node)} takes an input to the explained output beside the trees")


def _leads_beside(graph: Graph, node: Node, value: str) -> bool:
    """Whether a node's results reach `value` on a way without an ensemble."""
    return value in graph.downstream(node.outputs, through=lambda other: not is_ensemble(other))


def _named(node: Node) -> str:
    return f"operator {node.op} (node {node.name or node.outputs[0]!r})"


def _ends(graph: Graph, ensembles: Mapping[str, Ensemble], value: str) -> list[tuple[str, str]]:
    """Values at which the affine arithmetic before `value` begins, each with the output of its ensemble."""
    origins: dict[str, set[str]] = {name: {name} for name in ensembles}
    for node in graph.nodes:
        found = set().union(*(origins.get(name, set()) for name in reads(node.proto)))
        if found:
            origins |= {name: found for name in node.outputs if name not in origins}
    ends: dict[str, str] = {}
    open_values, seen = [value], set()
    while open_values:
        name = open_values.pop()
        if name in seen or name not in origins:
            continue
        seen.add(name)
        node = graph.producers[name]
        if name in ensembles:
            ends[name] = name
        elif is_affine(node, origins):
            open_values.extend(reads(node.proto))
        elif len(origins[name]) == 1 and len(ensembles[origin := next(iter(origins[name]))].roots) == 1:
            ends[name] = origin
        else:
            raise MethodUnavailable(f"{_named(node)} is not affine in the trees: no sum over trees is explained")
    return sorted(ends.items())


def _term(graph: Graph, name: str, ensemble: Ensemble, origin: str) -> Term:
    source = graph.producers[origin].inputs[0]
    if name == origin:
        return Term(name, origin, source, ensemble, ensemble.leaves, ensemble.offset)
    rows = evaluate(graph, {origin: _cast(graph, origin, ensemble.leaves + ensemble.offset)}, name)
    leaves = rows.reshape(len(rows), -1).astype(np.float64)
    return Term(name, origin, source, ensemble, leaves, np.zeros(leaves.shape[1]))


def _cast(graph: Graph, name: str, rows: np.ndarray) -> np.ndarray:
    return rows.astype(graph.type(name).dtype if graph.type(name).is_float else "float32")


def _coefficients(graph: Graph, terms: list[Term], value: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Matrices [C_t, C] by term and the offset [C], read off the rows 0 and those of the unit matrix."""
    sizes = [term.leaves.shape[1] for term in terms]
    rows = np.vstack([np.zeros((1, sum(sizes))), np.eye(sum(sizes))])
    places = np.cumsum([0, *sizes])
    feeds = {}
    for term, (start, stop) in zip(terms, pairwise(places), strict=True):
        single = [1] * (len(graph.type(term.value).shape or (0, 0)) - 1)
        item = [stop - start] if len(single) == 1 else single
        feeds[term.value] = _cast(graph, term.value, rows[:, start:stop].reshape(len(rows), *item))
    found = evaluate(graph, feeds, value)
    if len(found) != len(rows):
        raise MethodUnavailable(f"the value {value!r} does not hold one row for each row of the trees' outputs")
    flat = found.reshape(len(rows), -1).astype(np.float64)
    matrix, offset = flat[1:] - flat[0], flat[0]
    matrices = [matrix[start:stop] for start, stop in pairwise(places)]
    return matrices, offset + sum(term.offset @ part for term, part in zip(terms, matrices, strict=True))


def evaluate(graph: Graph, feeds: Mapping[str, np.ndarray], output: str) -> np.ndarray:
    """A value of the graph from arrays for values before it, by the reference implementation of ONNX."""
    if output in feeds:
        return feeds[output]
    needed, nodes, constants = {output}, [], []
    for node in reversed(graph.nodes):
        if any(name in needed for name in node.outputs) and not any(name in feeds for name in node.outputs):
            nodes.append(node.proto)
            needed.update(reads(node.proto))
    constants = [graph.stored(name) for name in needed if name in graph.constants and name not in feeds]
    inputs = [helper.make_empty_tensor_value_info(name) for name in feeds]
    body = helper.make_graph(nodes[::-1], "part", inputs, [helper.make_empty_tensor_value_info(output)], constants)
    opsets = [helper.make_opsetid("", graph.opset), helper.make_opsetid("ai.onnx.ml", 3)]
    evaluator = ReferenceEvaluator(helper.make_model(body, opset_imports=opsets))
    results: Any = evaluator.run(None, dict(feeds))
    return np.asarray(results[0])


def _joined(graph: Graph, terms: list[Term], matrices: list[np.ndarray], offset: np.ndarray) -> Forest:
    """The trees of all terms as one forest; terms of one ensemble are its leaves together, and equal inputs of
    ensembles hold their columns once."""
    added: dict[str, np.ndarray] = {}
    for term, matrix in zip(terms, matrices, strict=True):
        added[term.origin] = added.get(term.origin, np.zeros(1)) + term.leaves @ matrix
    terms = list({term.origin: term for term in terms}.values())
    sources: dict[str, tuple[str, int]] = {}
    parts, width, branches, leaves = [], 0, 0, 0
    for term in terms:
        key, trees = _spelled(graph, term.source), term.ensemble
        if key not in sources:
            sources[key] = (term.source, width)
            width += _width(graph, term.source)
        sides = (np.where(side >= 0, side + branches, side - leaves) for side in (trees.yes, trees.no, trees.roots))
        parts.append((trees.column + sources[key][1], *sides, added[term.origin]))
        branches, leaves = branches + len(trees.column), leaves + len(term.leaves)
    column, yes, no, roots, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    dtypes = {term.ensemble.dtype for term in terms}
    steps = tuple(step for term in terms for step in term.ensemble.steps)
    names = tuple(name for name, _ in sources.values())
    dtype = "float64" if "float64" in dtypes else "float32"
    return Forest(column, steps, yes, no, roots, values, offset, dtype, sources=names)


def _spelled(graph: Graph, value: str) -> str:
    """How a value is made, the same for values that are made alike."""
    node = graph.producers.get(value)
    if node is None:
        return value
    made = [_spelled(graph, name) for name in node.inputs]
    return f"{node.domain}:{node.op}({made}){sorted(node.attributes.items())!r}#{node.outputs.index(value)}"


def _width(graph: Graph, value: str) -> int:
    shape = graph.type(value).shape
    if shape is None or len(shape) != 2 or not isinstance(shape[1], int):
        raise MethodUnavailable(f"the number of columns of {value!r}, which trees read, is not declared")
    return shape[1]
