"""One small model of every kind that a method of explanation needs, each offering all it can be explained by."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import explain
from model_store import Baseline, ExplanationDefaults, ImageSpec, InputSpec, Manifest, OutputSpec, Store

RNG = np.random.default_rng(23)
ROWS = RNG.normal(size=(12, 3)).astype(np.float32)


def forest() -> bytes:
    """A regression of two trees of depth 2 on three numbers."""
    nodes: dict[str, list[Any]] = {
        name: [] for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(2):
        for node in range(7):
            inner = node < 3
            told = (tree, node, (node + tree) % 3, float(RNG.normal()) if inner else 0.0)
            for name, value in zip(("treeids", "nodeids", "featureids", "values"), told, strict=True):
                nodes[name].append(value)
            nodes["modes"].append("BRANCH_LEQ" if inner else "LEAF")
            nodes["truenodeids"].append(2 * node + 1 if inner else 0)
            nodes["falsenodeids"].append(2 * node + 2 if inner else 0)
            if not inner:
                for name, value in zip(leaves, (tree, node, 0, float(RNG.normal())), strict=True):
                    leaves[name].append(value)
    attributes = {f"nodes_{name}": value for name, value in nodes.items()}
    attributes |= {f"target_{name}": value for name, value in leaves.items()} | {"n_targets": 1}
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in (("x", 3), ("y", 1))]
    graph = helper.make_graph([node], "trees", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def publish(store: Store, models: ModuleType) -> dict[str, str]:
    """Publishes ``columns``, ``picture``, ``line`` and ``forest``; for each method the first of them that offers it."""
    picture = ImageSpec(height=4, width=4, mode="L")
    files = {
        "columns": (models.tabular_model(), [3], "logits", None),
        "picture": (models.patch_model(), [1, 4, 4], "logits", picture),
        "line": (models.tabular_price(), [3], "price", None),
        "forest": (forest(), [3], "y", None),
    }
    offers: dict[str, str] = {}
    for name, (model, shape, output, image) in files.items():
        offered = [method for method in explain.METHODS if method not in explain.coverage(model).refused]
        rows = RNG.random(size=(5, *shape)).astype(np.float32) if image else ROWS
        kind: Any = "image" if image else "tensor"
        outputs = {"logits": 2 if image else 3}.get(output, 1)
        manifest = Manifest(
            name=name,
            inputs=[InputSpec(name="x", kind=kind, dtype="float32", shape=["N", *shape], batch_axis=0, image=image)],
            outputs=[OutputSpec(name=output, kind="tensor", dtype="float32", shape=["N", outputs], batch_axis=0)],
            explanation=ExplanationDefaults(baseline=Baseline(kind="constant", value=0.0), methods=offered),
        )
        store.publish(manifest, {"model": model, "background": models.npz(x=rows)})
        offers = dict.fromkeys(offered, name) | offers
    return offers
