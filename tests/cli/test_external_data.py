"""Models with external data: imported with their files, served, explained, certified, compiled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import model_store

WIDTH = 40
RANDOM = np.random.default_rng(0)
WEIGHTS = {name: RANDOM.standard_normal((WIDTH, WIDTH)).astype(np.float32) for name in ("first", "second")}
ROW = RANDOM.standard_normal(WIDTH).astype(np.float32)
FOLDER = "session.model_external_initializers_file_folder_path"


def answer(rows: np.ndarray) -> np.ndarray:
    """The formula of the model: tanh(x @ first) @ second."""
    return np.tanh(rows @ WEIGHTS["first"]) @ WEIGHTS["second"]


def slopes(row: np.ndarray) -> np.ndarray:
    """The gradient of its output 1."""
    return WEIGHTS["first"] @ ((1 - np.tanh(row @ WEIGHTS["first"]) ** 2) * WEIGHTS["second"][:, 1])


@pytest.fixture
def path(home: Path) -> Path:
    """The model, and its two matrices in two files beside it."""
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH]) for name in "xy"]
    tensors = [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (home / "made").mkdir()
    path = home / "made" / "big.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    assert sorted(file.name for file in path.parent.iterdir()) == ["big.onnx", "first", "second"]
    return path


def test_imported_predicted_explained_verified(glasshouse, path):
    done = glasshouse("import", path, "--name", "big")
    assert done.exit_code == 0, done.output
    version = model_store.Store("var/store", create=False).resolve("big")
    assert set(version.manifest.data_files) == {"first", "second"}
    assert version.manifest.batching.mode == "item"
    for file in path.parent.iterdir():
        file.unlink()
    row = json.dumps(ROW.tolist())
    done = glasshouse("predict", "big", "--row", row, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["predictions"] == [pytest.approx(answer(ROW).tolist(), abs=1e-4)]
    done = glasshouse("explain", "big", "--method", "saliency", "--target", "1", "--row", row, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    found = [entry["attribution"] for entry in told["explanations"][0]["attributions"]]
    assert found == pytest.approx(np.abs(slopes(ROW)).tolist(), rel=1e-3, abs=1e-4)
    assert told["model_digest"] == version.model_digest
    done = glasshouse("models", "verify")
    assert done.exit_code == 0, done.output


def test_certified_with_its_data(glasshouse, path, home):
    header = ",".join(f"c{place}" for place in range(WIDTH))
    lines = [",".join(map(str, row)) for row in RANDOM.standard_normal((12, WIDTH)).round(3)]
    (home / "rows.csv").write_text("\n".join([header, *lines]) + "\n")
    done = glasshouse("import", path, "--name", "big", "--background", "rows.csv", "--require-certificate")
    assert done.exit_code == 0, done.output
    version = model_store.Store("var/store", create=False).resolve("big")
    assert json.loads(version.certificate() or b"")["model"] == version.model_digest


def test_other_weights_are_another_model(glasshouse, path):
    assert glasshouse("import", path, "--name", "big").exit_code == 0
    data = bytearray((path.parent / "second").read_bytes())
    data[-1] ^= 1
    (path.parent / "second").write_bytes(data)
    assert glasshouse("import", path, "--name", "big").exit_code == 0
    one, two = model_store.Store("var/store", create=False).versions("big")
    assert one.manifest.files["model"] == two.manifest.files["model"]
    assert one.model_digest != two.model_digest


def test_without_its_data_it_is_refused(glasshouse, path):
    (path.parent / "second").unlink()
    done = glasshouse("import", path, "--name", "big")
    assert done.exit_code == 4, "refused by the gate"
    assert "its data file 'second' cannot be opened" in done.output
    done = glasshouse("coverage", path)
    assert done.exit_code != 0
    assert "the data file 'second' could not be read" in done.output


@pytest.mark.parametrize("stored", [False, True])
def test_compiled_beside_its_data(glasshouse, path, home, stored):
    if stored:
        assert glasshouse("import", path, "--name", "big").exit_code == 0
    source = "big" if stored else path
    (home / "out").mkdir()
    done = glasshouse("compile", source, "--program", "vjp", "-o", "out/vjp.onnx")
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in (home / "out").iterdir()) == ["first", "second", "vjp.onnx"]
    assert (home / "out" / "vjp.onnx").stat().st_size < 5000
    session = onnxruntime.InferenceSession(home / "out" / "vjp.onnx", providers=["CPUExecutionProvider"])
    cotangent = np.zeros((1, WIDTH), np.float32)
    cotangent[0, 1] = 1
    gradient, _ = session.run(["x.gradient", "y"], {"x": ROW[None], "y.cotangent": cotangent})
    np.testing.assert_allclose(gradient[0], slopes(ROW), rtol=1e-3, atol=1e-4)
    done = glasshouse("compile", path, "--program", "vjp", "-o", path.parent / "vjp.onnx")
    assert done.exit_code == 0, done.output
    assert "copied" not in done.output
    (home / "out" / "second").write_bytes(b"another")
    done = glasshouse("compile", source, "--program", "vjp", "-o", "out/vjp.onnx")
    assert done.exit_code == 2
    assert "needs the model's data file of that name" in done.output


def test_coverage_reads_beside_the_file(glasshouse, path):
    done = glasshouse("coverage", path)
    assert done.exit_code == 0, done.output
    assert "MatMul" in done.output
