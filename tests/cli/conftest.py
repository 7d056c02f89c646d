"""A store with two small models of known formulas, and the command run in this process or in its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

import model_store
from cli.entry import front

ROOT = Path(__file__).parents[2]
WEIGHT = np.array([[1.0], [-2.0], [0.5]], dtype=np.float32)
BACKGROUND = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=np.float32)


def linear_model() -> bytes:
    """y = x @ WEIGHT, for x [N, 3]."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    return _bytes(graph)


def brightness_model() -> bytes:
    """p = softmax([mean of the picture, 0]), for pictures [N, 1, 2, 2] in 0..255."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["p"], axis=1),
        ],
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 2, 2])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.array([[0.01, 0.0]] * 4, dtype=np.float32), "w")],
    )
    return _bytes(graph)


def _bytes(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def publish_linear(store: model_store.Store) -> model_store.ModelVersion:
    background = io.BytesIO()
    np.savez(background, allow_pickle=False, x=BACKGROUND)
    names = ("age", "height", "[bold]weight[/bold]")
    manifest = model_store.Manifest(
        name="linear",
        description="a plane",
        inputs=[model_store.InputSpec("x", "tabular", "float32", ["N", 3], 0)],
        outputs=[model_store.OutputSpec("y", "value", "float32", ["N", 1], 0, unit="points", label="score")],
        features=[model_store.Feature(name=name, input="x", index=place) for place, name in enumerate(names)],
        explanation=model_store.ExplanationDefaults(
            method="exact_shap",
            methods=["exact_shap", "saliency", "integrated_gradients"],
            refused={"grad_cam": "the model has no layer of maps"},
            baseline=model_store.Baseline("background_mean"),
        ),
        metrics={"test_r2": 0.5},
    )
    return store.publish(manifest, {"model": linear_model(), "background": background.getvalue()})


def publish_brightness(store: model_store.Store) -> model_store.ModelVersion:
    picture = model_store.ImageSpec(2, 2, "L")
    manifest = model_store.Manifest(
        name="brightness",
        inputs=[model_store.InputSpec("image", "image", "float32", ["N", 1, 2, 2], 0, picture)],
        outputs=[model_store.OutputSpec("p", "probabilities", "float32", ["N", 2], 0, class_names=["bright", "dark"])],
        explanation=model_store.ExplanationDefaults(method="saliency", methods=["saliency"]),
    )
    return store.publish(manifest, {"model": brightness_model()})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, without settings from outside."""
    for name in [name for name in os.environ if name.startswith("GLASSHOUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(home: Path) -> model_store.Store:
    """The store that the default settings name, with `linear` and `brightness`."""
    made = model_store.Store(home / "var" / "store")
    publish_linear(made)
    publish_brightness(made)
    return made


@pytest.fixture
def glasshouse(home: Path) -> Callable[..., Result]:
    """The command in this process."""

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(front, [str(argument) for argument in arguments], input=stdin)

    return run


def environment() -> dict[str, str]:
    """Of a process that finds the rooms."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GLASSHOUSE_")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


@pytest.fixture
def process(home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command in a process of its own."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli", *arguments]
        env = {**environment(), **more}
        return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture
def started(home: Path) -> Callable[..., subprocess.Popen[str]]:
    """The command started in a process of its own, ended at the end."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "cli", *arguments],
                cwd=home,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[-1]

    yield start
    for one in running:
        if one.poll() is None:
            one.terminate()
        one.communicate(timeout=60)


@pytest.fixture
def onnx_file(home: Path) -> Path:
    """`linear` as a file."""
    path = home / "linear.onnx"
    path.write_bytes(linear_model())
    return path
