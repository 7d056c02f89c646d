"""What runs a model in the tests: ONNX's reference implementation, mended where it is imprecise, and ONNX Runtime."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_layer_normalization import LayerNormalization as Reference
from onnx.reference.ops.op_rms_normalization import RMSNormalization as ReferenceRMS

Feeds = dict[str, np.ndarray]
Runner = Callable[[Feeds], Feeds]


class Erf(OpRun):
    """In the precision of its input: ONNX's reference computes it in float32."""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (_erf(x),)


class Gelu(OpRun):
    """As Erf."""

    def _run(self, x: np.ndarray, approximate: str | None = None) -> tuple[np.ndarray]:
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),)
        return (0.5 * x * (1 + _erf(x / math.sqrt(2))),)


class GlobalLpPool(OpRun):
    """ONNX's reference lacks it."""

    def _run(self, x: np.ndarray, p: int = 2) -> tuple[np.ndarray]:
        return ((np.abs(x) ** p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / p),)


class LayerNormalization(Reference):
    """ONNX's reference computes in the precision of its input, but refuses to be told so."""

    def _run(self, *inputs: np.ndarray, stash_type: int | None = None, **attributes: Any) -> Any:
        return super()._run(*inputs, stash_type=1, **attributes)


class RMSNormalization(ReferenceRMS):
    """As LayerNormalization."""

    def _run(self, *inputs: np.ndarray, stash_type: int | None = None, **attributes: Any) -> Any:
        return super()._run(*inputs, stash_type=1, **attributes)


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype)


def reference(model: onnx.ModelProto) -> Runner:
    """A model by ONNX's reference implementation."""
    evaluator = ReferenceEvaluator(model, new_ops=[Erf, Gelu, GlobalLpPool, LayerNormalization, RMSNormalization])
    names = evaluator.output_names

    def run(feeds: Feeds) -> Feeds:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results: Any = evaluator.run(None, feeds)
        return dict(zip(names, map(np.asarray, results), strict=True))

    return run


def runtime(model: onnx.ModelProto) -> Runner:
    """A model on ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(None, feeds), strict=True))
