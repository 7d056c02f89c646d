"""Quantised models as programs see them: numbers in float32, of which some were rounded to what a byte can say.

A file may hold bytes in many ways: weights behind a DequantizeLinear, a QuantizeLinear and a DequantizeLinear around
every operator, operators on bytes (expansions/quantized.py writes them out in those two), ranges that are found when
the model runs. In the copy that programs are made of, weights are numbers (constants.py), and every QuantizeLinear is
followed at once by its DequantizeLinear, with the operators that only hand bytes on behind that (moves.py) and the sums
of products of bytes in float32 (products.py). What is left of the quantisation is the rounding and clipping of
activations; rules/quantized.py says what its derivative is.
"""

from __future__ import annotations

import onnx

from ..order import sort_nodes
from .constants import dequantize
from .moves import drop_unread, move_dequantizers
from .products import real_products

__all__ = ["dequantize", "in_runtimes_domain", "ranges_at_run_time", "settle"]

WIDE = frozenset({onnx.TensorProto.INT16, onnx.TensorProto.UINT16})
UNPACKING = frozenset({"ConvInteger", "DequantizeLinear", "MatMulInteger"})
RANGING = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul"})


def ranges_at_run_time(model: onnx.ModelProto) -> bool:
    """Whether a model quantises by the range that is found when it runs, which is one for all rows of a run."""
    bodies = (model.graph, *model.functions)
    return any(node.op_type in RANGING for body in bodies for node in body.node)


def settle(graph: onnx.GraphProto, weights: list[onnx.TensorProto]) -> list[onnx.TensorProto]:
    """Put a graph of which the operators on bytes were written out into the form above, in place; gives its weights."""
    if not any(node.op_type in UNPACKING for node in graph.node):
        return weights
    real_products(graph)
    move_dequantizers(graph)
    drop_unread(graph)
    sort_nodes(graph)
    return dequantize(graph, weights)


def in_runtimes_domain(model: onnx.ModelProto) -> None:
    """Have ONNX Runtime's own operators quantise to 16 bits, which those of opset 18 cannot; in place, as the last
    step, since nothing is inferred of them."""
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    kinds |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    kinds |= {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    for node in model.graph.node:
        bytes_of = {"QuantizeLinear": node.output, "DequantizeLinear": node.input}.get(node.op_type)
        if bytes_of and kinds.get(bytes_of[0]) in WIDE:
            node.domain = "com.microsoft"
    if "com.microsoft" in {node.domain for node in model.graph.node} - {entry.domain for entry in model.opset_import}:
        model.opset_import.extend([onnx.helper.make_opsetid("com.microsoft", 1)])
