"""Graph surgery for converted pipelines: few tensors in front of many columns, and only the outputs that are served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSETS = {"": 18, "ai.onnx.ml": 3}
BATCH = "N"


def columns_behind_tensors(
    model: onnx.ModelProto, numbers: Sequence[str], tables: Mapping[str, Sequence[Any]]
) -> onnx.ModelProto:
    """Replaces an input per column by ``numeric`` [N, k] float32 and ``codes`` [N, c] int64.

    numeric ─Split──► one [N, 1] per number
    codes ──Split──► one [N, 1] per category ─Gather(level values)──► [N, 1] of text or numbers
    """
    nodes: list[onnx.NodeProto] = []
    inputs: list[onnx.ValueInfoProto] = []
    weights: list[onnx.TensorProto] = []
    if numbers:
        inputs.append(helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [BATCH, len(numbers)]))
        nodes.append(_split("numeric", list(numbers)))
    if tables:
        inputs.append(helper.make_tensor_value_info("codes", TensorProto.INT64, [BATCH, len(tables)]))
        nodes.append(_split("codes", [f"{name}.code" for name in tables]))
    for name, values in tables.items():
        weights.append(_table(f"{name}.levels", values))
        nodes.append(helper.make_node("Gather", [f"{name}.levels", f"{name}.code"], [name], name=f"{name}.value"))
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    kept = list(graph.node)
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.initializer.extend(weights)
    graph.node.extend([*nodes, *kept])
    _ensure_opset(result)
    return result


def with_outputs(model: onnx.ModelProto, wanted: Mapping[str, str]) -> onnx.ModelProto:
    """Keeps the outputs named, under their new names, and drops every node that only the others needed."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    graph.name = "pipeline"
    outputs = {value.name: value for value in graph.output}
    kept = [outputs[name] for name in wanted]
    for value in kept:
        value.name = wanted[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    nodes = [_renamed(node, wanted) for node in graph.node]
    needed = {value.name for value in kept}
    alive: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            alive.append(node)
    values = [tensor for tensor in graph.initializer if tensor.name in needed]
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
    tensors = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in values]
    del graph.node[:], graph.output[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(alive))
    graph.output.extend(copies)
    graph.initializer.extend(tensors)
    return result


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for tensors in (copy.input, copy.output):
        for place, name in enumerate(tensors):
            tensors[place] = names.get(name, name)
    return copy


def _split(source: str, parts: list[str]) -> onnx.NodeProto:
    split: dict[str, Any] = {"axis": 1, "num_outputs": len(parts)} if len(parts) > 1 else {}
    operator = "Split" if split else "Identity"
    return helper.make_node(operator, [source], parts, name=f"{source}.columns", **split)


def _table(name: str, values: Sequence[Any]) -> onnx.TensorProto:
    """Level values as a constant: text, int64 or float32, by what they are."""
    if isinstance(values[0], str):
        return helper.make_tensor(name, TensorProto.STRING, [len(values)], [value.encode() for value in values])
    whole = all(isinstance(value, int) for value in values)
    return numpy_helper.from_array(np.array(values, dtype=np.int64 if whole else np.float32), name)


def _ensure_opset(model: onnx.ModelProto) -> None:
    """The nodes in front are of the default operator set, which a pipeline of ai.onnx.ml alone would not import."""
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, OPSETS[""])
            return
    model.opset_import.append(helper.make_opsetid("", OPSETS[""]))
