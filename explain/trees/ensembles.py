"""One tree ensemble of ai.onnx.ml (TreeEnsembleClassifier, TreeEnsembleRegressor, TreeEnsemble) as typed arrays.

Every branch is a condition on one column of the ensemble's input (steps.py); every leaf says what it adds to each of
the node's outputs, before any `post_transform`. Where the specification leaves open what two classes with one score
mean, this follows ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ..graph import Node
from .steps import Step, branch

TREES = frozenset({"TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"})
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@dataclass(frozen=True)
class Ensemble:
    """Trees of one node.

    Of M branches: `column` [M] of the input, `steps` what goes to the true side, `yes` and `no` [M], the branch that
    follows, or -1 - the leaf. `roots` [T] alike. `leaves` [L, C] float64: what a leaf adds to the C outputs; `offset`
    [C] is added once. `dtype`: columns are compared in it.
    """

    column: np.ndarray
    steps: tuple[Step, ...]
    yes: np.ndarray
    no: np.ndarray
    roots: np.ndarray
    leaves: np.ndarray
    offset: np.ndarray
    dtype: str


def is_ensemble(node: Node) -> bool:
    """Whether a node is made of trees."""
    return node.domain == "ai.onnx.ml" and node.op in TREES


def transform(node: Node) -> str:
    """What is done to the sums of the leaves, by name."""
    value = node.attr("post_transform", 0 if node.op == "TreeEnsemble" else b"NONE")
    return TRANSFORMS[value] if isinstance(value, int) else str(value.decode())


def one_score(node: Node) -> bool:
    """Whether two classes share one score, that of the second; all weights are then said to be of class 0."""
    if node.op != "TreeEnsembleClassifier":
        return False
    return class_count(node) == 2 and set(node.attr("class_ids", ())) == {0}


def class_count(node: Node) -> int:
    """How many classes are told apart."""
    return len(node.attr("classlabels_int64s") or node.attr("classlabels_strings") or ())


def read_ensemble(node: Node) -> Ensemble:
    """The node as arrays; raises UnsupportedOperator, naming the attribute."""
    if transform(node) != "NONE" and not (transform(node) == "SOFTMAX" and one_score(node)):
        raise node.refuse(f"attribute post_transform={transform(node)!r} is not covered")
    column, steps, yes, no, roots, leaves = _nodes_5(node) if node.op == "TreeEnsemble" else _nodes_3(node)
    match _aggregate(node):
        case "AVERAGE":
            leaves = leaves / len(roots)
        case "SUM":
            pass
        case other:
            raise node.refuse(f"attribute aggregate_function={other!r} is no sum over trees and is not covered")
    spread, offset = _outputs(node, leaves)
    wide = "float64" if node.graph.type(node.inputs[0]).dtype == "float64" else "float32"
    return Ensemble(column, steps, yes, no, roots, leaves @ spread, offset, wide)


def _aggregate(node: Node) -> str:
    value = node.attr("aggregate_function", 1 if node.op == "TreeEnsemble" else b"SUM")
    return AGGREGATES[value] if isinstance(value, int) else str(value.decode())


def _outputs(node: Node, leaves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How sums of leaves [R] become outputs [C]: a matrix [R, C], and what is added."""
    base = numbers(node, "base_values").astype(np.float64)
    scores = leaves.shape[1]
    if one_score(node) and len(base) < 2:
        rest = 1.0 if transform(node) != "LOGISTIC" and (numbers(node, "class_weights") >= 0).all() else 0.0
        s = base.sum()
        return np.array([[-1.0, 1.0], [0.0, 0.0]]), np.array([rest - s, s])
    if node.op == "TreeEnsembleClassifier" and scores == 2 and len(base):
        raise node.refuse(f"attribute base_values with {len(base)} numbers for two classes is not covered")
    if len(base) not in (0, scores):
        raise node.refuse(f"attribute base_values has {len(base)} numbers; {scores} outputs expect as many")
    return np.eye(scores), base if len(base) else np.zeros(scores)


def numbers(node: Node, name: str) -> np.ndarray:
    """An attribute of numbers, float32 unless it comes as a tensor of another dtype."""
    tensor = node.attr(f"{name}_as_tensor", node.attr(name))
    if isinstance(tensor, onnx.TensorProto):
        return np.asarray(numpy_helper.to_array(tensor)).reshape(-1)
    return np.array(tensor if tensor is not None else (), dtype=np.float32)


Read = tuple[np.ndarray, tuple[Step, ...], np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _whole(node: Node, name: str, count: int | None = None) -> np.ndarray:
    value = node.attr(name)
    array = np.array(value if value is not None else [0] * (count or 0), dtype=np.int64)
    if count is not None and len(array) != count:
        raise node.refuse(f"attribute {name} has {len(array)} numbers; {count} nodes expect as many")
    return array


def _nodes_3(node: Node) -> Read:
    """ai.onnx.ml 1 and 3: branches and leaves in one list, by tree and number."""
    modes = [mode.decode() for mode in node.attr("nodes_modes", ())]
    count = len(modes)
    trees, ids = _whole(node, "nodes_treeids", count), _whole(node, "nodes_nodeids", count)
    splits, missing = numbers(node, "nodes_values"), _whole(node, "nodes_missing_value_tracks_true", count)
    places = {key: i for i, key in enumerate(zip(trees.tolist(), ids.tolist(), strict=True))}
    inner = [i for i, mode in enumerate(modes) if mode != "LEAF"]
    outer = [i for i, mode in enumerate(modes) if mode == "LEAF"]
    number = {place: i for i, place in enumerate(inner)} | {place: -1 - i for i, place in enumerate(outer)}

    def follow(name: str) -> np.ndarray:
        children = _whole(node, name, count)
        keys = ((int(trees[i]), int(children[i])) for i in inner)
        try:
            return np.array([number[places[key]] for key in keys], dtype=np.int64)
        except KeyError as error:
            raise node.refuse(f"attribute {name} names the node {error.args[0]}, which does not exist") from None

    yes, no = follow("nodes_truenodeids"), follow("nodes_falsenodeids")
    steps = tuple(_step(node, modes[i], splits[i], (), bool(missing[i])) for i in inner)
    followed = {*yes.tolist(), *no.tolist()}
    roots = np.array([number[i] for i in range(count) if number[i] not in followed], dtype=np.int64)
    kind = "class" if node.op == "TreeEnsembleClassifier" else "target"
    outputs = class_count(node) if kind == "class" else int(node.attr("n_targets", 1))
    leaves = np.zeros((len(outer), outputs))
    given = zip(node.attr(f"{kind}_treeids", ()), node.attr(f"{kind}_nodeids", ()), strict=True)
    at = [-1 - number[places[key]] for key in given]
    np.add.at(leaves, (at, list(node.attr(f"{kind}_ids", ()))), numbers(node, f"{kind}_weights").astype(np.float64))
    return _whole(node, "nodes_featureids", count)[inner], steps, yes, no, roots, leaves


def _nodes_5(node: Node) -> Read:
    """ai.onnx.ml 5: branches and leaves apart."""
    modes = numbers(node, "nodes_modes").astype(int)
    count, splits = len(modes), numbers(node, "nodes_splits")
    missing, sets = _whole(node, "nodes_missing_value_tracks_true", count), _member_sets(node, modes)
    steps = tuple(_step(node, MODES[modes[i]], splits[i], sets[i], bool(missing[i])) for i in range(count))

    def follow(side: str) -> np.ndarray:
        children, final = _whole(node, f"nodes_{side}nodeids", count), _whole(node, f"nodes_{side}leafs", count)
        return np.where(final != 0, -1 - children, children)

    targets = _whole(node, "leaf_targetids")
    leaves = np.zeros((len(targets), int(node.attr("n_targets", 1))))
    leaves[np.arange(len(targets)), targets] = numbers(node, "leaf_weights")
    yes, no, roots = follow("true"), follow("false"), _whole(node, "tree_roots")
    return _whole(node, "nodes_featureids", count), steps, yes, no, roots, leaves


def _member_sets(node: Node, modes: np.ndarray) -> list[tuple[float, ...]]:
    """The set of each BRANCH_MEMBER, in the order of the branches; NaN stands between two of them."""
    sets: list[tuple[float, ...]] = [()]
    for value in numbers(node, "membership_values"):
        sets[-1:] = [sets[-1], ()] if np.isnan(value) else [(*sets[-1], float(value))]
    rest = iter(sets)
    return [next(rest, ()) if MODES[mode] == "BRANCH_MEMBER" else () for mode in modes]


def _step(node: Node, mode: str, split: Any, members: tuple[float, ...], follows_missing: bool) -> Step:
    step = branch(mode, split, members, follows_missing)
    if step is None:
        raise node.refuse(f"attribute nodes_modes={mode!r} is not covered")
    return step
