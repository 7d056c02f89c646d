"""Operators on bytes, written out: DequantizeLinear, the operator on numbers, QuantizeLinear (see quantized/)."""

from ...emit import Emitter
from ...graph import Node
from .registry import LATER, MICROSOFT, expansion

PADDED = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
FLAT_BEFORE = 13  # until this opset a Softmax went over all axes from one on


def numbers(emit: Emitter, node: Node, place: int, axis: int | None = None) -> str:
    """The numbers that input `place` stands for; its scale and zero point are the two inputs behind it. Scales for
    the places of one axis are taken along `axis`."""
    return dequantized(emit, node, (place, place + 1, place + 2), axis)


def dequantized(emit: Emitter, node: Node, places: tuple[int, int, int], axis: int | None = None) -> str:
    """As `numbers`, of a tensor, a scale and a zero point that are inputs of these places."""
    scale = node.shape(places[1])
    if scale not in ((), (1,)):
        if axis is None or scale is None or len(scale) != 1:
            raise node.refuse(f"scales {node.input(places[1])!r} of its input {places[0]} are not one for all of it")
    else:
        axis = None
    read = [node.input(place) for place in places if node.input(place)]
    return emit.node("DequantizeLinear", read, {"axis": axis})[0]


def bytes_of(emit: Emitter, node: Node, y: str, place: int) -> str:
    """The result in bytes, by the scale and the zero point at `place` and behind."""
    read = [y, *(node.input(at) for at in (place, place + 1) if node.input(at))]
    return emit.node("QuantizeLinear", read)[0]


def no_channels_last(node: Node) -> None:
    """Refuse the layout of which no operator of ONNX knows."""
    if int(node.attr("channels_last", 0)):
        raise node.refuse("attribute channels_last=1 is not covered")


@expansion("QuantizeLinear", domain=LATER)
@expansion("QuantizeLinear")
def quantize_linear(emit: Emitter, node: Node) -> str:
    """Newer opsets and ONNX Runtime's own domain have more kinds of bytes, and scales for blocks."""
    x, scale, zero = (node.input(place) for place in range(3))
    if int(node.attr("block_size", 0)):
        raise node.refuse("attribute block_size is covered for constants alone")
    if not zero and int(node.attr("output_dtype", 0)) not in (0, 2):
        raise node.refuse("attribute output_dtype is covered beside a zero point alone")
    kind = node.graph.type(zero).dtype if zero else "uint8"
    if kind not in ("int8", "uint8", "int16", "uint16"):
        raise node.refuse(f"activations in {kind} are not covered")
    read = [name for name in (x, scale, zero) if name]
    return emit.node("QuantizeLinear", read, {"axis": node.attr("axis")})[0]


@expansion("DequantizeLinear", domain=LATER)
@expansion("DequantizeLinear")
def dequantize_linear(emit: Emitter, node: Node) -> str:
    if int(node.attr("block_size", 0)):
        raise node.refuse("attribute block_size is covered for constants alone")
    read = [name for name in node.inputs if name]
    return emit.node("DequantizeLinear", read, {"axis": node.attr("axis")})[0]


@expansion("QLinearConv", domain="")
@expansion("QLinearConv")
def qlinear_conv(emit: Emitter, node: Node) -> str:
    """The bias is in units of both scales."""
    no_channels_last(node)
    x, w = numbers(emit, node, 0), numbers(emit, node, 3, axis=0)
    bias = []
    if node.input(8):
        bias = [emit.mul(emit.cast_to(node.input(8), "float32"), emit.mul(node.inputs[1], node.inputs[4]))]
    y = emit.node("Conv", [x, w, *bias], {name: node.attr(name) for name in CONV})[0]
    return bytes_of(emit, node, y, 6)


@expansion("QLinearMatMul", domain="")
def qlinear_matmul(emit: Emitter, node: Node) -> str:
    """Scales of the rows of the first, of the columns of the second."""
    product = emit.matmul(numbers(emit, node, 0, axis=-2), numbers(emit, node, 3, axis=-1))
    return bytes_of(emit, node, product, 6)


@expansion("QGemm")
def qgemm(emit: Emitter, node: Node) -> str:
    """alpha A' B' + C, C in units of alpha and both scales; the result is a number where it has no scale."""
    turned = {name: int(node.attr(name, 0)) for name in ("transA", "transB")}
    alpha = float(node.attr("alpha", 1.0))
    a, b = numbers(emit, node, 0), numbers(emit, node, 3, axis=0 if turned["transB"] else 1)
    c = []
    if node.input(6):
        unit = emit.mul(emit.mul(node.inputs[1], node.inputs[4]), alpha)
        c = [emit.mul(emit.cast_to(node.input(6), "float32"), unit)]
    y = emit.node("Gemm", [a, b, *c], {"alpha": alpha, **turned})[0]
    return bytes_of(emit, node, y, 7) if node.input(7) else y


@expansion("QLinearAdd", "QLinearMul")
def qlinear_arithmetic(emit: Emitter, node: Node) -> str:
    a, b = numbers(emit, node, 0), numbers(emit, node, 3)
    return bytes_of(emit, node, emit.node(node.op.removeprefix("QLinear"), [a, b])[0], 6)


@expansion("QLinearSigmoid", "QLinearLeakyRelu")
def qlinear_activation(emit: Emitter, node: Node) -> str:
    y = emit.node(node.op.removeprefix("QLinear"), [numbers(emit, node, 0)], {"alpha": node.attr("alpha")})[0]
    return bytes_of(emit, node, y, 3)


@expansion("QLinearSoftmax")
def qlinear_softmax(emit: Emitter, node: Node) -> str:
    axis = int(node.attr("axis", -1))
    if int(node.attr("opset", 13)) < FLAT_BEFORE and axis not in (-1, node.rank() - 1):
        raise node.refuse("attribute opset below 13 is covered over the last axis alone")
    return bytes_of(emit, node, emit.softmax(numbers(emit, node, 0), axis=axis), 3)


@expansion("QLinearAveragePool")
def qlinear_average_pool(emit: Emitter, node: Node) -> str:
    no_channels_last(node)
    y = emit.node("AveragePool", [numbers(emit, node, 0)], {name: node.attr(name) for name in PADDED})[0]
    return bytes_of(emit, node, y, 3)


@expansion("QLinearGlobalAveragePool")
def qlinear_global_average_pool(emit: Emitter, node: Node) -> str:
    no_channels_last(node)
    return bytes_of(emit, node, emit.global_average_pool(numbers(emit, node, 0)), 3)


@expansion("QLinearConcat")
def qlinear_concat(emit: Emitter, node: Node) -> str:
    """The scale of the result comes first."""
    parts = [numbers(emit, node, place) for place in range(2, len(node.inputs), 3)]
    return bytes_of(emit, node, emit.concat(*parts, axis=int(node.attr("axis", 0))), 0)


@expansion("QLinearWhere")
def qlinear_where(emit: Emitter, node: Node) -> str:
    return bytes_of(emit, node, emit.where(node.inputs[0], numbers(emit, node, 1), numbers(emit, node, 4)), 7)


@expansion("MatMulIntegerToFloat")
def matmul_integer_to_float(emit: Emitter, node: Node) -> str:
    a, b = dequantized(emit, node, (0, 2, 4)), dequantized(emit, node, (1, 3, 5), axis=-1)
    y = emit.matmul(a, b)
    return emit.add(y, node.input(6)) if node.input(6) else y


@expansion("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(emit: Emitter, node: Node) -> str:
    """The first operand is quantised by the range it has when the model runs."""
    q, scale, zero = emit.node("DynamicQuantizeLinear", [node.inputs[0]], outputs=3)
    emit.take(q, "uint8"), emit.take(scale, "float32"), emit.take(zero, "uint8")
    a = emit.node("DequantizeLinear", [q, scale, zero])[0]
    y = emit.matmul(a, dequantized(emit, node, (1, 2, 3), axis=-1))
    return emit.add(y, node.input(4)) if node.input(4) else y


@expansion("QAttention")
def qattention(emit: Emitter, node: Node) -> list[str]:
    """Attention of numbers, which is written out in turn."""
    x, w = dequantized(emit, node, (0, 3, 6)), dequantized(emit, node, (1, 4, 7), axis=1)
    read = [x, w, *(node.input(place) for place in (2, 5, 8))]
    while not read[-1]:
        read.pop()
    return list(emit.node("Attention", read, {**node.attributes, "domain": MICROSOFT}, outputs=len(node.outputs)))
