"""Tree ensembles of the tests: fitted by scikit-learn, or made node by node; and what they are worth by enumeration."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from skl2onnx import to_onnx

Worth = Callable[[np.ndarray], np.ndarray]
OPSETS = {"": 18, "ai.onnx.ml": 3}


def rows(count: int, features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, features)).astype(np.float32)


def smooth(x: np.ndarray) -> np.ndarray:
    """A target with interactions, to fit."""
    return np.asarray(x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + x[:, 3])


def exported(estimator: Any, x: np.ndarray) -> onnx.ModelProto:
    """The fitted estimator as scikit-learn's converter writes it."""
    options = {"zipmap": False} if hasattr(estimator, "classes_") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = to_onnx(estimator, x[:1], options=options, target_opset=OPSETS)
    assert isinstance(proto, onnx.ModelProto)
    return proto


def stump(modes: Sequence[str], splits: Sequence[float], missing: Sequence[int], **more: Any) -> dict[str, Any]:
    """Attributes of a tree of three branches on columns 0, 1 and 0 with leaves 1, 2, 4 and 8, of ai.onnx.ml 3."""
    return {
        "nodes_treeids": [0] * 7,
        "nodes_nodeids": list(range(7)),
        "nodes_featureids": [0, 1, 0, 0, 0, 0, 0],
        "nodes_modes": [*modes, *["LEAF"] * 4],
        "nodes_values": [*splits, 0.0, 0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 3, 5, 0, 0, 0, 0],
        "nodes_falsenodeids": [2, 4, 6, 0, 0, 0, 0],
        "nodes_missing_value_tracks_true": [*missing, 0, 0, 0, 0],
        **more,
    }


def targets(weights: Sequence[float] = (1.0, 2.0, 4.0, 8.0), ids: Sequence[int] = (0, 0, 0, 0)) -> dict[str, Any]:
    """What the leaves of a stump add."""
    return {
        "target_treeids": [0] * len(ids),
        "target_nodeids": [3 + i * 4 // len(ids) for i in range(len(ids))],
        "target_ids": list(ids),
        "target_weights": list(weights),
        "n_targets": 1,
    }


def classes(weights: Sequence[float], ids: Sequence[int], labels: int) -> dict[str, Any]:
    """The same of a classifier."""
    given = {
        name.replace("target", "class"): value for name, value in targets(weights, ids).items() if name != "n_targets"
    }
    return given | {"classlabels_int64s": list(range(labels))}


def ensemble(op: str, attributes: dict[str, Any], outputs: int, dtype: str = "float32", version: int = 3) -> Any:
    """A model of one ensemble on x [N, 2]."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    results = ["label", "y"] if op == "TreeEnsembleClassifier" else ["y"]
    declared = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])]
    if len(results) == 2:
        declared.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    node = helper.make_node(op, ["x"], results, domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph([node], "trees", [helper.make_tensor_value_info("x", kind, ["n", 2])], declared)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def worths(f: Worth, row: np.ndarray, background: np.ndarray, weights: np.ndarray | None = None) -> dict[int, Any]:
    """The mean of f [B, C] over the background for every coalition (bits) of the row's elements: [C] each."""
    players, found = row.size, {}
    for coalition in range(1 << players):
        kept = [player for player in range(players) if coalition >> player & 1]
        blend = background.copy()
        blend[:, kept] = row[kept]
        found[coalition] = np.average(f(blend).astype(np.float64), axis=0, weights=weights)
    return found


def shapley(worth: dict[int, Any]) -> np.ndarray:
    """Shapley's formula: [C, players]."""
    players = len(worth).bit_length() - 1
    phi = []
    for player in range(players):
        total = 0.0
        for size in range(players):
            share = factorial(size) * factorial(players - size - 1) / factorial(players)
            for others in combinations([p for p in range(players) if p != player], size):
                without = sum(1 << p for p in others)
                total = total + share * (worth[without | 1 << player] - worth[without])
        phi.append(total)
    return np.stack(phi, axis=-1)


def interactions(worth: dict[int, Any]) -> np.ndarray:
    """Half the Shapley interaction index of each pair, and on the diagonal the rest of a player's value: [C, F, F]."""
    players, phi = len(worth).bit_length() - 1, shapley(worth)
    result = np.zeros((*phi.shape, players))
    for i, j in combinations(range(players), 2):
        rest = [p for p in range(players) if p not in (i, j)]
        total = 0.0
        for size in range(players - 1):
            share = factorial(size) * factorial(players - size - 2) / factorial(players - 1)
            for others in combinations(rest, size):
                s = sum(1 << p for p in others)
                both, one, other = s | 1 << i | 1 << j, s | 1 << i, s | 1 << j
                total = total + share * (worth[both] - worth[one] - worth[other] + worth[s])
        result[:, i, j] = result[:, j, i] = total / 2
    for i in range(players):
        result[:, i, i] = phi[:, i] - result[:, i].sum(axis=1)
    return result
