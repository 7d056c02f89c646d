"""Sums of products of bytes (MatMulInteger, ConvInteger), as quantisation with ranges found at run time writes them.

Such a file multiplies bytes, casts the whole number to float32 and multiplies that by both scales. Here the scales are
with the bytes, as everywhere: DequantizeLinear first, then the product in float32, which holds these whole numbers
exactly up to 2^24.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...graph import reads

PRODUCTS = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
SCALED = {"DynamicQuantizeLinear": ("output", 1), "QuantizeLinear": ("input", 1)}


class _Products:
    """The nodes of a graph by what they make and read, and the constants that are added."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in reads(node):
                self.readers.setdefault(name, []).append(node)
        self.sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
        for value in graph.input:  # large constants stand there for a while
            dims = value.type.tensor_type.shape.dim
            self.sizes[value.name] = math.prod(dim.dim_value or 1 for dim in dims)
        self.outputs = {value.name for value in graph.output}

    def written_out(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """What a product of bytes is made of; the node itself where its sum is read as a whole number."""
        whole = node.output[0]
        casts = self.readers.get(whole, [])
        if whole in self.outputs or not casts or any(not _to_float(cast) for cast in casts):
            return [node]
        a, b, *offsets = node.input
        zeros = dict(zip((a, b), offsets, strict=False)) if a != b else {a: next(iter(offsets), "")}
        if self.sizes.get(zeros.get(a, ""), 1) != 1:
            return [node]
        scales = self._take_scales(casts, [a, b])
        nodes = []
        for place, name in enumerate((a, b)):
            nodes.append(self._numbers(node, place, name, zeros.get(name, ""), scales[place]))
        product = helper.make_node(PRODUCTS[node.op_type], [n.output[0] for n in nodes], [f"{whole}/sum"])
        product.attribute.extend(node.attribute)
        for cast in casts:
            cast.op_type, cast.input[:] = "Identity", [f"{whole}/sum"]
            del cast.attribute[:]
        return [*nodes, product]

    def _numbers(self, node: onnx.NodeProto, place: int, name: str, zero: str, scale: str) -> onnx.NodeProto:
        """DequantizeLinear of an operand; without a scale of its own, by ones as many as it has zero points."""
        many = self.sizes.get(zero, 1)
        if not scale:
            scale = f"{node.output[0]}/one.{place}"
            ones = np.ones(many if many > 1 else (), dtype=np.float32)
            self.graph.initializer.append(numpy_helper.from_array(ones, scale))
        read = [name, scale, *([zero] if zero else [])]
        numbers = helper.make_node("DequantizeLinear", read, [f"{node.output[0]}/numbers.{place}"])
        if many > 1:
            numbers.attribute.append(helper.make_attribute("axis", 0 if node.op_type == "ConvInteger" else -1))
        return numbers

    def _take_scales(self, casts: list[onnx.NodeProto], operands: list[str]) -> list[str]:
        """The scales of operands by which all that reads the sum is multiplied; they are taken out there."""
        own = [self._scale(name) for name in operands]
        pairs = [self._factor(cast) for cast in casts]
        factors = [self._factors(factor) for _, factor in pairs]
        found = [scale if scale and all(scale in f for f in factors) else "" for scale in own]
        if not any(found) or any(not factor for _, factor in pairs):
            return ["", ""]
        if found[0] == found[1]:
            found[1] = ""
        for (product, factor), names in zip(pairs, factors, strict=True):
            left = [name for name in names if name not in found]
            product.input[:] = [name for name in product.input if name != factor]
            if left:
                product.input.append(left[0])
            else:
                product.op_type = "Identity"
        return found

    def _scale(self, name: str) -> str:
        maker = self.makers.get(name)
        if maker is None or maker.op_type not in SCALED:
            return ""
        field, place = SCALED[maker.op_type]
        return str(getattr(maker, field)[place])

    def _factor(self, cast: onnx.NodeProto) -> tuple[onnx.NodeProto, str]:
        """The product that alone reads a cast sum, and by what; no name where there is none."""
        readers = self.readers.get(cast.output[0], [])
        if cast.output[0] in self.outputs or len(readers) != 1 or readers[0].op_type != "Mul":
            return cast, ""
        others = [name for name in readers[0].input if name != cast.output[0]]
        return readers[0], others[0] if others else ""

    def _factors(self, name: str) -> list[str]:
        """A name, or the two it is the product of."""
        maker = self.makers.get(name)
        return list(maker.input) if maker is not None and maker.op_type == "Mul" else [name]


def real_products(graph: onnx.GraphProto) -> None:
    """Write out the products of bytes whose sums are cast to float32, in place."""
    if not any(node.op_type in PRODUCTS for node in graph.node):
        return
    products = _Products(graph)
    nodes: list[onnx.NodeProto] = []
    for node in list(graph.node):
        nodes.extend(products.written_out(node) if node.op_type in PRODUCTS else [node])
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _to_float(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and next(a.i for a in node.attribute if a.name == "to") == TensorProto.FLOAT
