"""Evaluation of a stored model: what cannot be judged is said to be so."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import explain
import exporters
import model_store


@pytest.fixture
def sums(tmp_path):
    """y = x1 + x2 + x3: a model without weights, without a background, without a baseline."""
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)],
        "sums",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 1])],
        [onnx.numpy_helper.from_array(np.array([1]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    manifest = model_store.Manifest(
        name="sums",
        description="a sum",
        inputs=[model_store.InputSpec("x", "tensor", "float32", ["N", 3], 0)],
        outputs=[model_store.OutputSpec("y", "value", "float32", ["N", 1], 0)],
        explanation=model_store.ExplanationDefaults(method="saliency", methods=["saliency"]),
    )
    return model_store.Store(tmp_path / "store", create=True).publish(manifest, {"model": model.SerializeToString()})


def test_a_model_without_weights_is_not_judged(sums, engine):
    report = exporters.evaluate(sums, [[1, 2, 3], [4, 5, 6]], engine, method="saliency", checks=["infidelity"], draws=2)
    assert report["figures"]["infidelity"]["worst"] == pytest.approx(0.0, abs=1e-9)
    assert "the model has no weights to randomise" in report["randomisation"]["not_judged"]


def test_without_a_reference_nothing_is_removed(sums, engine):
    with pytest.raises(
        explain.MethodUnavailable, match="check deletion_insertion: it needs a baseline or a background"
    ):
        exporters.evaluate(sums, [[1, 2, 3]], engine, method="saliency")
