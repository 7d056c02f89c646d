"""Models in float16 and in bytes are taken in, and their certificate says what can be judged of them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

import exporters
from model_store import Store

FLOAT = TensorProto.FLOAT
RANDOM = np.random.default_rng(0)
W, V = RANDOM.normal(size=(6, 16)).astype(np.float32), RANDOM.normal(size=(16, 3)).astype(np.float32)
ROWS = np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32)
WAYS = ("QDQ", "QOperator", "dynamic")


class Rows(CalibrationDataReader):
    def __init__(self):
        self.rows = iter([{"x": ROWS}])

    def get_next(self):
        return next(self.rows, None)


@pytest.fixture
def reduced(made, tmp_path):
    """A small network as a file of a kind."""
    nodes = [("MatMul", "xw", "h", {}), ("Tanh", "h", "t", {}), ("MatMul", "tv", "y", {})]
    plain = made(nodes, {"x": (FLOAT, ["n", 6])}, {"y": (FLOAT, ["n", 3])}, {"w": W, "v": V})

    def build(how):
        onnx.save(plain, tmp_path / "plain.onnx")
        if how == "float16":
            onnx.save(convert_float_to_float16(plain), tmp_path / "file.onnx")
        elif how == "dynamic":
            quantize_dynamic(tmp_path / "plain.onnx", tmp_path / "file.onnx")
        else:
            quantize_static(tmp_path / "plain.onnx", tmp_path / "file.onnx", Rows(), quant_format=QuantFormat[how])
        return tmp_path / "file.onnx"

    return build


def checked(path, store, engine, rows):
    version, _ = exporters.import_onnx(path, name="m", store=store, engine=engine)
    return version, exporters.verify(version, engine, rows={"x": rows}, quick=True)


@pytest.mark.filterwarnings("ignore")  # of what the tools say of themselves
def test_half_precision_is_judged_as_any_model(reduced, tmp_path, engine):
    version, found = checked(reduced("float16"), Store(tmp_path / "store"), engine, ROWS.astype(np.float16))
    assert version.manifest.inputs[0].dtype == "float16"
    assert found["passed"]
    assert found["gradients"]["finite_difference"]["passed"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", WAYS)
def test_steps_are_no_judge_of_a_gradient_that_passes_them(how, reduced, tmp_path, engine):
    version, found = checked(reduced(how), Store(tmp_path / "store"), engine, ROWS)
    assert version.manifest.batching.mode == ("row" if how == "dynamic" else "item")
    assert found["passed"], found["failures"]
    assert "not judged: the model is quantised" in found["gradients"]["finite_difference"]
    assert "saliency" in found["methods"]
    assert tuple(found["coverage"]["approximations"]) == ("straight_through",)
