"""The child process that looks into an untrusted model file, so that the parent never does.

It is started by `gate.check_model` and by nobody else. In: the limits as JSON in its one argument, the file on
stdin. Out: one JSON object on stdout, {"report": …} or {"refused": "why"}. Limits on memory and time are set before
the first byte is read; when it dies of them, or of the file, the parent reads that as a refusal.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.inliner
import onnx.shape_inference
from onnx.reference import ReferenceEvaluator

from .folding import SMALL, Folding
from .limits import Limits
from .outside import DataFile, Refusal, Spans
from .structure import DATA_FIELDS, Structure, product


def main() -> None:
    """Read the file from stdin, write the verdict to stdout."""
    told = json.loads(sys.argv[1])
    limits = replace(Limits(**told["limits"]), domains=frozenset(told["limits"]["domains"]))
    _warm_up()
    _confine(limits, told["size"])
    try:
        data = sys.stdin.buffer.read()
        files = {name: DataFile(*found) for name, found in told["files"].items()}
        answer: dict[str, Any] = {"names": names(data)} if told["names"] else {"report": examine(data, limits, files)}
    except Refusal as refusal:
        answer = {"refused": str(refusal)}
    except MemoryError:
        answer = {"refused": "it takes more memory to look at than the limit allows"}
    except RecursionError:
        answer = {"refused": "it is nested too deep"}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


def _warm_up() -> None:
    """Load what is loaded on first use, as no file can be opened once the process is confined."""
    node = onnx.helper.make_node("Add", ["a", "b"], ["c"])
    one = np.ones(1, dtype=np.float32)
    ReferenceEvaluator(node, opsets={"": 18}).run(None, {"a": one, "b": one})
    graph = onnx.helper.make_graph([node], "g", [], [])
    onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph))
    # The other implementations of protobuf recurse without a bound.
    if importlib.import_module("google.protobuf.internal.api_implementation").Type() != "upb":
        raise SystemExit("protobuf's upb implementation is missing")


def _confine(limits: Limits, size: int) -> None:
    """No more memory than allowed, no more time, no new file, no core dump."""
    memory = limits.memory_bytes + limits.memory_per_byte * size
    for kind, bound in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(kind, (bound, bound))
    # One second between the two, so that the parent can read from the signal what it died of.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))


def _parsed(data: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(data)
    except MemoryError:
        raise
    except Exception as error:
        # protobuf has its own tree of errors, and onnx adds to it; whatever it is, the bytes are not a model.
        raise Refusal(f"the bytes are no ONNX model ({str(error)[:100]})") from None


def names(data: bytes) -> list[str]:
    """The data files that the initializers of a graph name; others may not lie outside. Raises Refusal."""
    outside = (tensor for tensor in _parsed(data).graph.initializer if len(tensor.external_data))
    return sorted({entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"})


def examine(data: bytes, limits: Limits, files: Mapping[str, DataFile] | None = None) -> dict[str, Any]:
    """The figures of an acceptable file, whose data files are `files`. Raises Refusal."""
    model, spans = _parsed(data), Spans(files or {})
    structure = Structure(model, limits, spans)
    structure.check()
    if files:
        spans.read(SMALL)
        data = _with_large_as_inputs(model)
    try:
        onnx.checker.check_model(_with_output_shapes(model) or data)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise Refusal(f"onnx's checker refuses it: {' '.join(str(error).split())[:400]}") from None
    _check_folding(model, limits)
    return {
        "ir_version": model.ir_version,
        "opsets": {opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        "nodes": structure.nodes,
        "functions": len(model.functions),
        "depth": structure.depth,
        "initializers": structure.initializers,
        "parameters": structure.parameters,
        "operators": structure.operators,
    }


def _with_large_as_inputs(model: onnx.ModelProto) -> bytes:
    """What the checker sees of a model whose large tensors have no data here: inputs in their place."""
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    bare = [tensor for tensor in seen.graph.initializer if product(tensor.dims) and not _holds(tensor)]
    declared = {value.name for value in seen.graph.input}
    for tensor in bare:
        if tensor.name not in declared:
            seen.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        seen.graph.initializer.remove(tensor)
    return bytes(seen.SerializeToString())


def _holds(tensor: onnx.TensorProto) -> bool:
    return any(len(getattr(tensor, field)) for field in DATA_FIELDS)


def _with_output_shapes(model: onnx.ModelProto) -> bytes | None:
    """The checker wants a shape on each output, runtimes do not: the bytes with one put in, or None if all have one."""
    bare = [
        value
        for value in model.graph.output
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
    ]
    for value in bare:
        value.type.tensor_type.shape.SetInParent()
    data = model.SerializeToString() if bare else None
    for value in bare:
        value.type.tensor_type.ClearField("shape")
    return data


def _check_folding(model: onnx.ModelProto, limits: Limits) -> None:
    """Functions inlined, large weights dropped (their shapes stay), shapes inferred; then the constants."""
    try:
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        _drop_weights(model.graph)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise Refusal(f"its shapes contradict each other: {' '.join(str(error).split())[:400]}") from None
    Folding(model, limits).check()


def _drop_weights(graph: onnx.GraphProto) -> None:
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t] if attribute.HasField("t") else []
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _drop_weights(inner)
    for tensor in tensors:
        if product(tensor.dims) > SMALL:
            for field in ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data"):
                tensor.ClearField(field)
