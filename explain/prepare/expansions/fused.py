"""What ONNX Runtime makes of neighbours: products and convolutions with their activation, a sum, a factor."""

from ...emit import Emitter
from ...graph import Node
from .registry import expansion

CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
# Activations and the parameters they take, in the order of FusedConv's activation_params.
PARAMETERS = {
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Selu": ("alpha", "gamma"),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}


@expansion("FusedConv")
def fused_conv(emit: Emitter, node: Node) -> str:
    """activation(Conv(X, W, B) + Z)."""
    y = emit.node("Conv", [name for name in node.inputs[:3] if name], {name: node.attr(name) for name in CONV})[0]
    y = emit.add(y, node.input(3)) if node.input(3) else y
    name, given = node.attr("activation", b"").decode(), list(node.attr("activation_params") or ())
    if name == "Clip":
        return emit.clip(y, float(given[0]), float(given[1]))
    return _activated(emit, node, y, name, dict(zip(PARAMETERS.get(name, ()), given, strict=False)))


@expansion("FusedGemm")
def fused_gemm(emit: Emitter, node: Node) -> str:
    """activation(alpha A' B' + beta C)."""
    kept = {name: node.attr(name) for name in ("alpha", "beta", "transA", "transB")}
    y = emit.node("Gemm", [name for name in node.inputs if name], kept)[0]
    given = {name: node.attr(f"activation_{name}") for name in ("alpha", "beta", "gamma")}
    return _activated(emit, node, y, node.attr("activation", b"").decode(), given)


def _activated(emit: Emitter, node: Node, y: str, name: str, given: dict[str, float | None]) -> str:
    if not name:
        return y
    if name not in PARAMETERS:
        raise node.refuse(f"attribute activation={name!r} is not covered")
    return emit.node(name, [y], {key: given.get(key) for key in PARAMETERS[name]})[0]


@expansion("FusedMatMul", "TransposeMatMul")
def fused_matmul(emit: Emitter, node: Node) -> str:
    """alpha A' B' with the last two axes of either turned round; a vector stays one."""
    for name in ("transBatchA", "transBatchB"):
        if int(node.attr(name, 0)):
            raise node.refuse(f"attribute {name}=1 is not covered")
    a, b = (_turned(emit, node, i) if int(node.attr(name, 0)) else node.inputs[i] for i, name in enumerate(TURNS))
    alpha = float(node.attr("alpha", 1.0))
    product = emit.matmul(a, b)
    return product if alpha == 1.0 else emit.mul(product, alpha)


TURNS = ("transA", "transB")


def _turned(emit: Emitter, node: Node, place: int) -> str:
    rank, x = node.rank(place), node.inputs[place]
    return x if rank < 2 else emit.transpose(x, perm=[*range(rank - 2), rank - 1, rank - 2])
