"""KServe's Python server with one model that runs an ONNX file: what Glasshouse is compared with.

Run by the Python of a virtual environment that has kserve and onnxruntime, not by ours:

    python peer_kserve.py PORT NAME=FILE...

A request is answered as an ordinary user of KServe would write it: V1 rows as one array, V2 tensors as they come.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid

TENSOR = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}


class OnnxModel(Model):
    """One input, one output."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.input, self.output = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002 - KServe's
        """V1 rows in, predictions out; V2 tensors in, tensors out."""
        if not isinstance(payload, InferRequest):
            return {"predictions": self.run(np.asarray(payload["instances"], np.float32)).tolist()}
        y = self.run(payload.inputs[0].as_numpy())
        output = InferOutput(self.output, list(y.shape), TENSOR[y.dtype])
        output.set_data_from_numpy(y, binary_data=bool(payload.use_binary_outputs))
        return InferResponse(payload.id or generate_uuid(), self.name, infer_outputs=[output])

    def run(self, x: np.ndarray) -> np.ndarray:
        """The file's answer."""
        return np.asarray(self.session.run([self.output], {self.input: x})[0])


def main() -> None:
    """Serve the models at a port of this machine, with KServe's own defaults, until the process is ended."""
    port, *models = sys.argv[1:]
    sys.argv[1:] = []  # KServe reads it too
    server = ModelServer(http_port=int(port), enable_grpc=False, workers=1, enable_latency_logging=False)
    server.start([OnnxModel(*model.split("=", 1)) for model in models])


if __name__ == "__main__":
    main()
