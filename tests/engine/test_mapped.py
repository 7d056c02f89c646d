"""Constants in files: mapped once for all sessions of a process, and named, not sent, to engine processes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import engine
from engine.frames import ask, asked
from engine.sessions import Runtime
from engine.weights import mapped_bytes, place_of

WIDTH = 64
MATRIX = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)


@pytest.fixture
def matrix(tmp_path: Path) -> np.memmap:
    """The matrix, 16 bytes into a file."""
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(16) + MATRIX.tobytes())
    return np.memmap(path, np.float32, "r", 16, MATRIX.shape)


def product(op: str, matrix: np.memmap, transposed: bool = False) -> engine.StoredModel:
    """y = op(x @ matrix), whose graph refers to the matrix in its file."""
    path = Path(str(matrix.filename))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=MATRIX.shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": path.name, "offset": "16", "length": str(MATRIX.nbytes)}.items():
        tensor.external_data.add(key=key, value=value)
    nodes = [helper.make_node("MatMul", ["x", "m"], ["h"]), helper.make_node(op, ["h"], ["y"])]
    turn = helper.make_node("Transpose" if transposed else "Identity", ["w"], ["m"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH]) for name in "xy"]
    graph = helper.make_graph([turn, *nodes], "g", ends[:1], ends[1:], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    payload = model.SerializeToString()
    digest = hashlib.sha256(payload).hexdigest()
    kinds: list[dict[str, engine.Kind]] = [{"x": "item"}, {"y": "item"}]
    folder = str(path.parent)
    return engine.StoredModel(digest, *kinds, lambda: payload, constants=lambda _: {"w": matrix}, data_folder=folder)


@pytest.mark.parametrize("bound", [0, 1 << 30])
def test_sessions_read_one_mapping(matrix: np.memmap, bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they pack or not, equal places are held once, and the numbers are those of the file."""
    monkeypatch.setattr("engine.sessions.UNPACKED", bound)
    runtime = Runtime(("cpu",), 1)
    other = np.memmap(str(matrix.filename), np.float32, "r", 16, MATRIX.shape)
    sessions = [
        runtime.open(product("Tanh", matrix)),
        runtime.open(product("Neg", other)),
        runtime.open(product("Exp", matrix, transposed=True)),
    ]
    assert len(runtime.weights) == 1
    expected = (np.tanh(X @ MATRIX), -(X @ MATRIX), np.exp(X @ MATRIX.T))
    for session, values in zip(sessions, expected, strict=True):
        np.testing.assert_allclose(session.run(["y"], {"x": X})[0], values, rtol=1e-4, atol=1e-5)


def test_a_changed_file_is_another_constant(matrix: np.memmap) -> None:
    """The place alone says nothing of a file that was replaced."""
    runtime, path = Runtime(("cpu",), 1), Path(str(matrix.filename))
    sessions = [runtime.open(product("Neg", matrix))]
    path.rename(path.parent / "old")
    path.write_bytes(bytes(16) + (2 * MATRIX).tobytes())
    sessions.append(runtime.open(product("Neg", np.memmap(path, np.float32, "r", 16, MATRIX.shape))))
    assert len(runtime.weights) == 2
    for session, factor in zip(sessions, (1, 2), strict=True):
        np.testing.assert_allclose(session.run(["y"], {"x": X})[0], -factor * X @ MATRIX, rtol=1e-4, atol=1e-4)


def test_without_the_folder_the_runtime_refuses(matrix: np.memmap) -> None:
    """The folder is needed: the runtime looks for the file, handed the numbers or not."""
    model = product("Neg", matrix)
    lost = engine.StoredModel(model.digest, model.inputs, model.outputs, model.load, constants=model.constants)
    with pytest.raises(engine.LoadFailed, match="refused"):
        Runtime(("cpu",), 1).open(lost)


def test_the_place_of_an_array(matrix: np.memmap) -> None:
    """A part of a mapping, one that may be written, and an array in memory have none."""
    assert place_of(matrix) == (str(matrix.filename), 16)
    written = np.memmap(str(matrix.filename), np.float32, "c", 16, MATRIX.shape)
    for other in (matrix[1:], matrix.T, matrix + 0, written, MATRIX):
        assert place_of(other) is None
    assert mapped_bytes({"a": matrix, "b": MATRIX, "c": matrix[1:]}) == MATRIX.nbytes


def test_to_engine_processes_goes_the_place(matrix: np.memmap) -> None:
    """Of constants in files no content is sent; of what a run is fed it is, wherever that lies."""
    model = product("Neg", matrix)
    frames = ask(model, {"x": matrix}, "predict", None, "", model.serialize())
    assert sum(len(frame) == MATRIX.nbytes for frame in frames) == 1
    _, received, feeds = asked(frames)
    assert received.data_folder == model.data_folder
    assert not isinstance(feeds["x"], np.memmap)
    arrived = received.constants(b"")["w"]
    assert place_of(arrived) == place_of(matrix)
    np.testing.assert_array_equal(arrived, MATRIX)


def test_an_engine_process_reads_the_file(matrix: np.memmap) -> None:
    """The same answer from there."""
    processes = engine.EngineProcesses([engine.EngineSettings(threads=1)], {"predict": 1, "explain": 1})
    remote = engine.RemoteEngine(processes.places)
    try:
        y = remote.run(product("Neg", matrix), {"x": X}).outputs["y"]
    finally:
        remote.close()
        processes.close()
    np.testing.assert_allclose(y, -X @ MATRIX, rtol=1e-4, atol=1e-4)


def test_the_model_of_these_tests_is_one(matrix: np.memmap) -> None:
    """Checked whole, with its file; and not without it."""
    path = Path(str(matrix.filename))
    (path.parent / "m.onnx").write_bytes(product("Neg", matrix).serialize())
    onnx.checker.check_model(path.parent / "m.onnx")
    path.unlink()
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(path.parent / "m.onnx")
