"""What every exporter does to a graph before it leaves: made anonymous, checked, and written the same way each time.

Converters leave traces in a file: stack traces with the paths of the machine, documentation strings, names of Python
classes. None of it is needed to run the model, and some of it nobody meant to publish.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from .errors import InvalidExport

MAX_IR_VERSION = 10
_TRACES = frozenset({"doc_string", "metadata_props"})


def finished(model: onnx.ModelProto) -> bytes:
    """The model's bytes: without traces, ir_version <= 10, checked by onnx.checker with full shape inference.

    Equal graphs and weights give equal bytes. Raises InvalidExport.
    """
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    strip(clean)
    clean.ir_version = min(clean.ir_version, MAX_IR_VERSION)
    try:
        onnx.checker.check_model(clean, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InvalidExport(f"the converted graph is not valid ONNX: {error}") from error
    data: bytes = clean.SerializeToString(deterministic=True)
    return data


def strip(message: Any) -> None:
    """Removes documentation strings and metadata from a protobuf message (a model) and all within it, in place."""
    for name in _TRACES & set(message.DESCRIPTOR.fields_by_name):
        message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if isinstance(value, Sequence) else [value]:
            strip(part)
