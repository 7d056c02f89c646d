"""The edge to the runtime: what it refuses comes out as one clear error of ours."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import engine
from engine.providers import PROVIDERS, Device, options_of, out_of_order
from engine.sessions import Runtime


def test_bytes_that_are_no_model_are_refused(make_engine):
    broken = engine.StoredModel("ab" * 32, {"x": "item"}, {"y": "item"}, lambda: b"not a model")
    with pytest.raises(engine.LoadFailed, match=r"the runtime refused abababababab: [^\n]+$"):
        make_engine().load(broken)


def test_bytes_that_cannot_be_had_are_refused(make_engine):
    def load():
        raise OSError("the disk is gone")

    with pytest.raises(engine.LoadFailed, match="could not be read: the disk is gone") as caught:
        make_engine().load(engine.StoredModel("cd" * 32, {"x": "item"}, {"y": "item"}, load))
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"image": "item"}, {"y": "item"}, r"inputs \['image'\], but its graph has \['x'\]"),
        ({"x": "item"}, {"scores": "item"}, r"outputs \['scores'\], but its graph has \['y'\]"),
        ({"x": "item"}, {}, r"outputs \[\], but its graph has \['y'\]"),
    ],
)
def test_names_the_graph_does_not_have_are_refused(models, make_engine, inputs, outputs, message):
    model = models.affine()
    with pytest.raises(engine.LoadFailed, match=message):
        make_engine().load(engine.StoredModel(model.digest, inputs, outputs, model.load))


def test_an_output_that_is_no_tensor_is_refused_by_name(models, make_engine):
    sequence = helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["many"])],
        "sequence",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [sequence],
    )
    payload = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    with pytest.raises(engine.LoadFailed, match=r"output 'many' is seq\(tensor\(float\)\), which is not served"):
        make_engine().load(models.stored(payload, {"x": "item"}, {"many": "item"}))


def test_a_failing_run_names_the_artifact_and_the_cause(models, make_engine):
    model = models.gather()
    with pytest.raises(engine.RunFailed, match=f"the run of {model.digest[:12]} failed: .*77") as caught:
        make_engine().run(model, {"index": np.array([77])})
    assert "ONNXRuntimeError" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_failing_run_writes_no_values_to_the_log(models, make_engine, capfd):
    with pytest.raises(engine.RunFailed):
        make_engine().run(models.gather(), {"index": np.array([77])})
    assert capfd.readouterr() == ("", "")


def test_a_model_of_every_dtype_is_typed_as_declared(make_engine, models):
    kinds = [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL, TensorProto.STRING]
    kinds += [TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64]
    kinds += [TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64]
    for kind in kinds:
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            "same",
            [helper.make_tensor_value_info("x", kind, ["N"])],
            [helper.make_tensor_value_info("y", kind, ["N"])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        array = np.ones(2).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        if kind == TensorProto.STRING:
            array = np.array(["1", "1"], dtype=object)
        result = make_engine().run(models.stored(model.SerializeToString(), {"x": "item"}, {"y": "item"}), {"x": array})
        assert result.outputs["y"].dtype == array.dtype
        assert result.outputs["y"].tolist() == array.tolist()


def test_cuda_that_is_not_there_falls_back_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    with caplog.at_level(logging.WARNING, "glasshouse.engine"):
        runtime = Runtime(("cuda",), 1)
    assert runtime.providers == ("CPUExecutionProvider",)
    assert "CUDAExecutionProvider is not available" in caplog.text


def test_cuda_that_is_there_comes_first(monkeypatch):
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr("engine.providers.out_of_order", lambda *_: "")
    runtime = Runtime(("cuda:1", "cpu"), 1)
    assert runtime.providers == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert runtime.device == Device("cuda", 1)
    assert (runtime.decides("auto"), runtime.decides("off")) == (True, False)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> str:
    """The runtime has a provider for CUDA that makes no session; why."""
    why, original = "CUDA failure 35: CUDA driver version is insufficient", onnxruntime.InferenceSession

    def make(payload, options=None, *, providers, enable_fallback):
        assert enable_fallback == 0
        if providers[0][0] == PROVIDERS["cuda"]:
            raise RuntimeError(why)
        return original(payload, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", make)
    return why


def test_cuda_that_is_installed_and_does_not_work_falls_back_and_says_so_once(refused, caplog, capfd, models):
    with caplog.at_level(logging.WARNING, "glasshouse.engine"):
        home = engine.InProcessEngine(providers=("cuda",), tf32=True, cuda_graphs=True)
        found = home.run(models.affine(), {"x": np.ones((1, 3), np.float32)})
        home.close()
    assert home.info().providers == ("CPUExecutionProvider",)
    np.testing.assert_allclose(found.outputs["y"], models.affine_formula(np.ones((1, 3))), atol=1e-6)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"CUDAExecutionProvider does not work: {refused}: falling back to the next provider"
    assert capfd.readouterr() == ("", "")


def test_a_provider_that_the_runtime_leaves_out_does_not_work():
    """As it does where a library is missing; here with one that there cannot be."""
    with pytest.warns(UserWarning, match="Specified provider 'NoSuchExecutionProvider'"):
        assert out_of_order("NoSuchExecutionProvider", {}).startswith("does not work: ")
    assert out_of_order(PROVIDERS["cpu"], {}) == ""


def test_a_model_that_the_device_refuses_runs_on_the_processor_and_says_so(refused, monkeypatch, caplog, capfd, models):
    monkeypatch.setattr("engine.providers.out_of_order", lambda *_: "")
    with caplog.at_level(logging.WARNING, "glasshouse.engine"):
        session = Runtime(("cuda",), 1).open(models.affine())
    assert session.on_processor
    said = [record.getMessage() for record in caplog.records]
    assert said[0].endswith(f" cannot be run on CUDAExecutionProvider: {refused}")
    assert capfd.readouterr() == ("", "")


def test_a_gpu_is_set_up_for_repeatable_and_exact_runs():
    options = options_of(PROVIDERS["cuda"], Device("cuda", 1), arena_mib=3)
    assert options == {
        "device_id": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "gpu_mem_limit": str(3 * 2**20),
    }
    assert options_of(PROVIDERS["cuda"], Device("cuda"), tf32=True)["use_tf32"] == "1"
    assert options_of(PROVIDERS["cpu"], Device()) == {}


def test_libraries_that_are_missing_are_said_in_the_same_line_and_not_on_the_console(monkeypatch, caplog, capfd):
    def missing():
        print("Failed to load libcudart.so")
        raise OSError("libcublas.so is missing")

    monkeypatch.setattr(onnxruntime, "preload_dlls", missing)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with caplog.at_level(logging.WARNING, "glasshouse.engine"):
        Runtime(("cuda",), 1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "(Failed to load libcudart.so libcublas.so is missing)" in line
    assert capfd.readouterr() == ("", "")


def test_importing_the_room_does_not_import_the_runtime():
    code = "import sys, engine; print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_digest_of_the_helpers_is_that_of_the_bytes(models):
    model = models.affine()
    assert hashlib.sha256(model.serialize()).hexdigest() == model.digest
