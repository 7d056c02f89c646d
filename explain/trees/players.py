"""Which element of the model's own inputs each column of the trees is made of.

The numbers of the elements are sent through the nodes in front of the trees in the place of values: what moves data
moves them, what computes element by element keeps them, and where several elements meet in one value there is no
single one. So scalers, imputers, encoders and one-hot blocks are looked through, whatever they are made of.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import helper
from onnx.reference import ReferenceEvaluator

from ..affine import MOVES
from ..errors import MethodUnavailable
from ..graph import Graph, Node

NONE, MIXED = -1, -2
BLOCKS = frozenset({"OneHot", "OneHotEncoder"})
ALONG = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ArgMax", "ArgMin"})
ELEMENTWISE = frozenset(
    {"Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Div", "Equal", "Erf", "Exp", "Floor", "Greater"}
    | {"GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mod", "Mul", "Neg"}
    | {"Not", "Or", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sqrt", "Sub", "Sum", "Tanh", "Where"}
    | {"Xor", "Binarizer", "Imputer", "LabelEncoder", "Scaler"}
)


class Owners:
    """Arrays of player numbers [1, ...] by value; NONE where nothing of an input is in it, MIXED where several are."""

    def __init__(self, graph: Graph, players: Mapping[str, np.ndarray]) -> None:
        """`players` holds the numbers [item...] by input."""
        self.graph = graph
        self.found = {name: index[None].astype(np.int64) for name, index in players.items()}
        self.mixing: dict[str, Node] = {}

    def of(self, value: str) -> np.ndarray:
        """Players of a value; raises MethodUnavailable where a node is not seen through."""
        if value not in self.found:
            node = self.graph.producers.get(value)
            if node is None:
                tensor = self.graph.constants.get(value)
                return np.broadcast_to(np.int64(NONE), (1,) if tensor is None else tuple(tensor.dims))
            self._follow(node)
        return self.found[value]

    def _follow(self, node: Node) -> None:
        given = [self.of(name) for name in node.inputs if name]
        if all(map(_nobodys, given)) and not any(name in self.graph.inputs for name in node.inputs):
            results = [np.full((), NONE)] * len(node.outputs)
        elif node.op == "Gather" and node.constant(0) is not None:
            results = [_looked_up(node, given[1])]
        elif node.op in MOVES or node.op in ("Gather", "ArrayFeatureExtractor"):
            results = _moved(self.graph, node, given[0] if node.op != "Concat" else None, given)
        elif node.op in ELEMENTWISE:
            results = [_together(given)]
        elif node.op in BLOCKS:
            results = [_block(node, given[0])]
        elif node.op in ALONG:
            results = [_reduced(node, given[0])]
        elif node.op in ("MatMul", "Gemm") and node.input(1) in self.graph.constants:
            results = [_product(node, given[0])]
        else:
            raise MethodUnavailable(f"{_named(node)} is between an input and the trees, and is not looked through")
        for name, result in zip(node.outputs, results, strict=False):
            self.found[name] = result
            if (result == MIXED).any() and not any((array == MIXED).any() for array in given):
                self.mixing[name] = node

    def columns(self, sources: tuple[str, ...], used: np.ndarray) -> np.ndarray:
        """The player of each column of the sources; raises MethodUnavailable where a used one has several."""
        owners = np.concatenate([self.of(source).reshape(-1) for source in sources])
        if (owners[used] == MIXED).any():
            name = next((f" ({_named(node)})" for node in self.mixing.values()), "")
            raise MethodUnavailable(f"a column of the trees is made of several elements of the inputs{name}")
        return owners


def _named(node: Node) -> str:
    return f"operator {node.op} (node {node.name or node.outputs[0]!r})"


def _nobodys(array: np.ndarray) -> bool:
    """Whether nothing of an input is in it; a constant says so in one place for all."""
    return array.size == 0 or (array.flat[0] == NONE and (not any(array.strides) or bool((array == NONE).all())))


def _joint(stacked: np.ndarray) -> np.ndarray:
    """The one player along axis 0, NONE where there is none, MIXED where there are several."""
    top = stacked.max(axis=0)
    others = (stacked != top) & (stacked != NONE)
    return np.where((stacked == MIXED).any(axis=0) | others.any(axis=0), MIXED, top)


def _together(given: list[np.ndarray]) -> np.ndarray:
    return _joint(np.stack(np.broadcast_arrays(*given)))


def _moved(graph: Graph, node: Node, data: np.ndarray | None, given: list[np.ndarray]) -> list[np.ndarray]:
    """The node itself, run on players in the place of data."""
    names = [name for name in node.inputs if name]
    moving = names if data is None else names[:1]
    feeds = dict(zip(moving, given, strict=False))
    for name in names[len(moving) :]:
        constant = graph.constant(name)
        if constant is None:
            raise MethodUnavailable(f"{_named(node)} takes elements from computed places, and is not looked through")
        feeds[name] = constant
    inputs = [helper.make_empty_tensor_value_info(name) for name in feeds]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.outputs]
    opsets = [helper.make_opsetid("", graph.opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(helper.make_graph([node.proto], "move", inputs, outputs), opset_imports=opsets)
    results = ReferenceEvaluator(model).run(None, feeds)
    return [np.asarray(result) for result in results]


def _looked_up(node: Node, owners: np.ndarray) -> np.ndarray:
    """Rows of a constant table by computed places: all that a place leads to is its player's."""
    table = node.constant(0)
    assert table is not None  # noqa: S101 - asked for before
    axis = int(node.attr("axis", 0)) % table.ndim
    spread = owners.reshape(*[1] * axis, *owners.shape, *[1] * (table.ndim - axis - 1))
    return np.broadcast_to(spread, (*table.shape[:axis], *owners.shape, *table.shape[axis + 1 :]))


def _block(node: Node, owners: np.ndarray) -> np.ndarray:
    """A one-hot block: a new axis of one player."""
    if node.op == "OneHotEncoder":
        width = len(node.attr("cats_int64s") or node.attr("cats_strings") or ())
        return np.repeat(owners[..., None], width, axis=-1)
    depth = node.constant(1)
    if depth is None:
        raise MethodUnavailable(f"{_named(node)} has a computed depth, and is not looked through")
    axis = node.attr("axis", -1)
    return np.repeat(np.expand_dims(owners, axis), int(depth.reshape(-1)[0]), axis=axis)


def _reduced(node: Node, owners: np.ndarray) -> np.ndarray:
    axes = node.attr("axes") or node.attr("axis") if node.op.startswith("Arg") else node.constant(1)
    if axes is None:
        raise MethodUnavailable(f"{_named(node)} sums over all axes, and is not looked through")
    result = owners
    for axis in np.atleast_1d(axes):
        result = np.expand_dims(_joint(np.moveaxis(result, int(axis), 0)), int(axis))
    return result if node.attr("keepdims", 1) else np.squeeze(result, tuple(int(axis) for axis in np.atleast_1d(axes)))


def _product(node: Node, owners: np.ndarray) -> np.ndarray:
    """Columns times a constant matrix: each result has the players whose weight is not 0. Where all columns are mixed
    already, the matrix, which may be large, is not looked at."""
    if (owners == MIXED).all():
        dims = node.graph.constants[node.inputs[1]].dims
        return np.full((*owners.shape[:-1], dims[-2] if node.attr("transB", 0) else dims[-1]), MIXED)
    weights = node.constant(1)
    assert weights is not None  # noqa: S101 - asked for before
    matrix = weights.T if node.attr("transB", 0) else weights
    rows = [_joint(np.where(column != 0, owners, NONE).T) for column in matrix.T]
    return np.stack(rows, axis=-1)
