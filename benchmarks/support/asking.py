"""What is asked of a server: whole HTTP requests as bytes, for each protocol and each kind of body."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

COUNTER = "424242424242"  # digits in a body or path that a load generator replaces by a number new in each request
JSON = {"Content-Type": "application/json"}
TYPES = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}


@dataclass(frozen=True)
class Ask:
    """One HTTP request, the same each time but for `COUNTER`."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: dict(JSON))
    method: str = "POST"

    def wire(self, port: int, number: int = 0) -> bytes:
        """The bytes to be sent; `number` takes the place of COUNTER."""
        stamp = str(number).zfill(len(COUNTER))
        lines = [f"{self.method} {self.path.replace(COUNTER, stamp)} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode() + self.body.replace(COUNTER.encode(), stamp.encode())


def v2_json(model: str, x: np.ndarray, name: str = "x", **more: Any) -> Ask:
    """Tensors in JSON; `more` are further members, such as `explain`."""
    tensor = {"name": name, "shape": list(x.shape), "datatype": TYPES[x.dtype], "data": _short(x)}
    return Ask(f"/v2/models/{model}/{'explain' if 'explain' in more else 'infer'}", _json({"inputs": [tensor], **more}))


def v2_binary(model: str, x: np.ndarray, name: str = "x") -> Ask:
    """Tensors behind the JSON, there and back."""
    parameters = {"binary_data_size": x.nbytes}
    tensor = {"name": name, "shape": list(x.shape), "datatype": TYPES[x.dtype], "parameters": parameters}
    head = _json({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Ask(f"/v2/models/{model}/infer", head + x.tobytes(), headers)


def v1_rows(model: str, x: np.ndarray) -> Ask:
    """Rows as lists."""
    return Ask(f"/v1/models/{model}:predict", _json({"instances": [_short(row) for row in x]}))


def v1_picture(model: str, jpeg: bytes, verb: str = "predict", query: str = "") -> Ask:
    """A JPEG as it is."""
    return Ask(f"/v1/models/{model}:{verb}{query}", jpeg, {"Content-Type": "image/jpeg"})


def v1_explain(model: str, instance: Any, method: str, **more: Any) -> Ask:
    """One instance, new in each request if it or `more` holds int(COUNTER)."""
    return Ask(f"/v1/models/{model}:explain", _json({"instances": [instance], "method": method, **more}))


def explain_row(model: str, x: np.ndarray) -> Ask:
    """Kernel SHAP of one row: 2,108 coalitions, the model's background. The first feature is new in each request."""
    instance = [float(f"0.{COUNTER}"), *_short(x.ravel())[1:]]
    return v1_explain(model, instance, "kernel_shap", parameters={"n_samples": 2108})


def explain_picture(model: str, jpeg: bytes, steps: int = 50) -> Ask:
    """Integrated gradients of one picture at fixed steps, from a baseline that is new in each request."""
    instance = {"b64": base64.b64encode(jpeg).decode()}
    parameters = {"n_steps": steps, "rule": "gauss_legendre"}
    return v1_explain(model, instance, "integrated_gradients", baseline=float(f"0.{COUNTER}"), parameters=parameters)


def _short(x: np.ndarray) -> list[Any]:
    """Numbers as a client prints float32."""
    return [float(str(value)) for value in x.ravel()]


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
