"""Manifests and model files that the tests of this room share."""

import io
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from model_store import Feature, ImageSpec, InputSpec, Level, Manifest, OutputSpec, Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def mixed() -> Manifest:
    """Two numbers (in reversed order) in a float input, one category in an int64 input."""
    return Manifest(
        name="mixed",
        inputs=[
            InputSpec("numbers", "tabular", "float32", ["rows", 2], 0),
            InputSpec("codes", "tabular", "int64", ["rows", 1], 0),
        ],
        outputs=[OutputSpec("y", "logits", "float32", ["rows", 2], 0, class_names=["good", "bad"])],
        features=[
            Feature(name="age", input="numbers", index=1, unit="years"),
            Feature(
                name="job", input="codes", index=0, kind="category", levels=[Level("A1", "none"), Level("A2", "some")]
            ),
            Feature(name="sum", input="numbers", index=0),
        ],
    )


@pytest.fixture
def grey() -> Manifest:
    """A grey picture of 4 x 6 pixels (height x width), NCHW, x = pixel / 255 - 0.5."""
    spec = ImageSpec(4, 6, "L", "NCHW", scale=1 / 255, offset=-0.5)
    return Manifest(
        name="grey",
        inputs=[InputSpec("x", "image", "float32", [None, 1, 4, 6], 0, spec)],
        outputs=[OutputSpec("y", "tensor", "float32", [None, 3], 0)],
    )


@pytest.fixture
def tensor() -> Callable[..., Manifest]:
    """A manifest of one tensor input `x` of a given dtype, shape and batch axis."""

    def make(dtype: str = "float32", shape: tuple = (None, 2, "t"), batch_axis: int | None = 0, **more) -> Manifest:
        return Manifest(
            name="tensor",
            inputs=[InputSpec("x", "tensor", dtype, list(shape), batch_axis)],
            outputs=[OutputSpec("y", "tensor", "float32", [None], 0)],
            **more,
        )

    return make


def as_file(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    body = io.BytesIO()
    picture.save(body, kind, **options)
    return body.getvalue()


@pytest.fixture(scope="session")
def picture_file() -> Callable[..., bytes]:
    return as_file


def make_model(nodes, *, weights=(), inputs=("x",), outputs=("y",), domains=(), functions=(), width=3):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in inputs]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "g", values, results, list(weights))
    imports = [helper.make_opsetid("", 18), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=10)


@pytest.fixture(scope="session")
def onnx_model() -> Callable[..., onnx.ModelProto]:
    return make_model


@pytest.fixture
def linear() -> bytes:
    """y = x · w, three columns to two."""
    weight = numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "w")
    return make_model([helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], weights=[weight]).SerializeToString()
