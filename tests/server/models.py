"""Small models made by hand, published in a store: what the tests of the server predict and explain.

``flowers`` takes two numbers and a category (one-hot inside the graph) and answers three logits; ``patch`` takes a 4x4
grey image and answers two; ``price`` is a regression; ``broken`` answers NaN where its first number is negative;
``single`` has a fixed batch of one. Every answer can be computed by hand from the weights below.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from model_store import (
    Baseline,
    Batching,
    ExplanationDefaults,
    Feature,
    ImageSpec,
    InputSpec,
    Level,
    Manifest,
    OutputSpec,
    Store,
)

GRADIENT_METHODS = ["saliency", "input_x_gradient", "integrated_gradients"]
SHAP_METHODS = ["kernel_shap", "exact_shap"]
RNG = np.random.default_rng(7)
HIDDEN_W = RNG.normal(size=(4, 6)).astype(np.float32)
HIDDEN_B = RNG.normal(size=6).astype(np.float32)
OUT_W = RNG.normal(size=(6, 3)).astype(np.float32)
OUT_B = RNG.normal(size=3).astype(np.float32)
PATCH_W = RNG.normal(size=(1, 2, 3, 3)).astype(np.float32)
PRICE_W = np.array([[2.0], [-1.0], [0.5]], dtype=np.float32)
BACKGROUND = np.column_stack([RNG.normal(size=(12, 3))]).astype(np.float32)


def serialize(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: Mapping[str, np.ndarray]) -> bytes:
    """An ONNX model of opset 18, checked."""
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def tabular_model() -> bytes:
    """logits = relu(x W + b) V + c, x = three numbers scaled by 1, 1, 1 and one constant column."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v", "c"], ["logits"]),
    ]
    weights = {"w": HIDDEN_W[:3], "b": HIDDEN_B, "v": OUT_W, "c": OUT_B}
    return serialize(nodes, [value("x", ["N", 3])], [value("logits", ["N", 3])], weights)


def tabular_logits(rows: np.ndarray) -> np.ndarray:
    """What ``flowers`` answers, by numpy."""
    return np.maximum(rows @ HIDDEN_W[:3] + HIDDEN_B, 0) @ OUT_W + OUT_B


def patch_model() -> bytes:
    """A convolution, a ReLU and a mean: logits of two classes for a 4x4 grey image in 0..1."""
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["h"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("ReduceMean", ["r", "axes"], ["logits"], keepdims=0),
    ]
    weights = {"k": PATCH_W.reshape(2, 1, 3, 3), "axes": np.array([2, 3], dtype=np.int64)}
    return serialize(nodes, [value("x", ["N", 1, 4, 4])], [value("logits", ["N", 2])], weights)


def tabular_price(factor: float = 1) -> bytes:
    """price = factor · (2, -1, 0.5) · x."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["price"])]
    weights = {"w": np.asarray(PRICE_W * factor, dtype=np.float32)}
    return serialize(nodes, [value("x", ["N", 3])], [value("price", ["N", 1])], weights)


def broken_model() -> bytes:
    """The square root of the first number: NaN where it is negative; the second output is always finite."""
    nodes = [
        helper.make_node("Sqrt", ["x"], ["root"]),
        helper.make_node("Neg", ["x"], ["negative"]),
    ]
    return serialize(nodes, [value("x", ["N", 2])], [value("root", ["N", 2]), value("negative", ["N", 2])], {})


def single_model() -> bytes:
    """A fixed batch of one: served row by row."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return serialize(nodes, [value("x", [1, 3])], [value("y", [1, 3])], {"w": np.eye(3, dtype=np.float32) * 3})


def number(name: str, index: int, **more: Any) -> Feature:
    return Feature(name=name, input="x", index=index, **more)


def tabular_input(columns: int = 3, batch: Any = "N", kind: Any = "tabular") -> InputSpec:
    return InputSpec(name="x", kind=kind, dtype="float32", shape=[batch, columns], batch_axis=0)


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


PIXELS = (np.arange(16, dtype=np.uint8) * 16).reshape(4, 4)


def flowers() -> Manifest:
    return Manifest(
        name="flowers",
        description="Three flowers by two lengths and a colour",
        inputs=[tabular_input()],
        outputs=[
            OutputSpec(
                name="logits",
                kind="logits",
                dtype="float32",
                shape=["N", 3],
                batch_axis=0,
                class_names=["rose", "lily", "iris"],
            )
        ],
        features=[
            number("petal", 0, label="Petal length", unit="cm"),
            number("sepal", 1, label="Sepal length", unit="cm"),
            number(
                "colour",
                2,
                label="Colour",
                kind="category",
                levels=[Level(value="r", label="red"), Level(value="w", label="white"), Level(value="b", label="blue")],
            ),
        ],
        explanation=ExplanationDefaults(
            method="exact_shap",
            baseline=Baseline(kind="constant", value=0.0),
            methods=[*GRADIENT_METHODS, *SHAP_METHODS],
            refused={"grad_cam": "the model has no feature maps"},
        ),
        metrics={"accuracy": 0.5},
    )


def publish_all(root: Path) -> Store:
    """A store with every model of this module."""
    store = Store(root)
    background = np.concatenate([BACKGROUND[:, :2], np.arange(12).reshape(12, 1) % 3], axis=1).astype(np.float32)
    examples = [{"instance": {"petal": 1.5, "sepal": -0.5, "colour": "w"}, "label": "lily"}]
    store.publish(
        flowers(),
        {"model": tabular_model(), "background": npz(x=background), "examples": json.dumps(examples).encode()},
    )
    store.publish(patch(), {"model": patch_model()})
    store.publish(price(), {"model": tabular_price()})
    store.publish(broken(), {"model": broken_model()})
    store.publish(single(), {"model": single_model()})
    return store


def patch() -> Manifest:
    return Manifest(
        name="patch",
        inputs=[
            InputSpec(
                name="x",
                kind="image",
                dtype="float32",
                shape=["N", 1, 4, 4],
                batch_axis=0,
                image=ImageSpec(height=4, width=4, mode="L", scale=1 / 255),
            )
        ],
        outputs=[
            OutputSpec(
                name="logits",
                kind="logits",
                dtype="float32",
                shape=["N", 2],
                batch_axis=0,
                class_names=["even", "odd"],
            )
        ],
        explanation=ExplanationDefaults(
            method="integrated_gradients",
            baseline=Baseline(kind="constant", value=0.0),
            methods=[*GRADIENT_METHODS, "grad_cam"],
        ),
    )


def price() -> Manifest:
    return Manifest(
        name="price",
        inputs=[tabular_input()],
        outputs=[
            OutputSpec(
                name="price", kind="value", dtype="float32", shape=["N", 1], batch_axis=0, unit="EUR", label="Price"
            )
        ],
        features=[number("rooms", 0), number("age", 1, unit="years"), number("size", 2, unit="m2")],
        explanation=ExplanationDefaults(
            method="input_x_gradient", baseline=Baseline(kind="constant"), methods=GRADIENT_METHODS
        ),
    )


def broken() -> Manifest:
    outputs = [
        OutputSpec(name=name, kind="tensor", dtype="float32", shape=["N", 2], batch_axis=0)
        for name in ("root", "negative")
    ]
    return Manifest(
        name="broken",
        inputs=[tabular_input(2, kind="tensor")],
        outputs=outputs,
        explanation=ExplanationDefaults(method="saliency", methods=GRADIENT_METHODS),
    )


def single() -> Manifest:
    return Manifest(
        name="single",
        inputs=[tabular_input(3, 1)],
        outputs=[OutputSpec(name="y", kind="value", dtype="float32", shape=[1, 3], batch_axis=0)],
        features=[number("a", 0), number("b", 1), number("c", 2)],
        batching=Batching(mode="row", reason="the batch is fixed at 1"),
        explanation=ExplanationDefaults(method="saliency", methods=GRADIENT_METHODS),
    )
