"""What ONNX Runtime fuses in transformers: Gelus with their bias, normalisations with their residual, embeddings."""

import math

from ...emit import Emitter
from ...graph import Node
from .registry import expansion


@expansion("Gelu")
def gelu(emit: Emitter, node: Node) -> str:
    return _gelu(emit, node.inputs[0])


@expansion("BiasGelu")
def bias_gelu(emit: Emitter, node: Node) -> str:
    return _gelu(emit, emit.add(*node.inputs))


def _gelu(emit: Emitter, x: str) -> str:
    """x Phi(x)."""
    return emit.mul(emit.mul(x, 0.5), emit.add(emit.erf(emit.mul(x, math.sqrt(0.5))), 1.0))


@expansion("FastGelu")
def fast_gelu(emit: Emitter, node: Node) -> str:
    """Phi by a hyperbolic tangent: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    x = emit.add(*node.inputs) if node.input(1) else node.inputs[0]
    cubic = emit.add(x, emit.mul(emit.mul(x, emit.mul(x, x)), 0.044715))
    return emit.mul(emit.mul(x, 0.5), emit.add(emit.tanh(emit.mul(cubic, math.sqrt(2.0 / math.pi))), 1.0))


@expansion("QuickGelu")
def quick_gelu(emit: Emitter, node: Node) -> str:
    """x sigmoid(alpha x)."""
    x = node.inputs[0]
    return emit.mul(x, emit.sigmoid(emit.mul(x, float(node.attr("alpha", 1.702)))))


@expansion("SkipLayerNormalization")
def skip_layer_normalization(emit: Emitter, node: Node) -> tuple[str | None, ...]:
    """LayerNormalization of input + skip + bias; the sum is an output too."""
    total = _total(emit, node, 4)
    scale = [name for name in (node.inputs[2], node.input(3)) if name]
    count = 3 if any(node.outputs[1:3]) else 1
    given = {"epsilon": float(node.attr("epsilon", 1e-12))}
    normalized = emit.node("LayerNormalization", [total, *scale], given, count)
    return (*normalized, *[None] * (3 - count), total)


@expansion("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(emit: Emitter, node: Node) -> tuple[str | None, ...]:
    """The same, by the root of the mean square."""
    total = _total(emit, node, 3)
    normalized, inverse = _root_mean_square(emit, node, total, node.inputs[2], [-1], 1e-12)
    return normalized, None, inverse, total


def _total(emit: Emitter, node: Node, bias: int) -> str:
    total = emit.add(node.inputs[0], node.inputs[1])
    return emit.add(total, node.inputs[bias]) if node.input(bias) else total


@expansion("SimplifiedLayerNormalization", domain="")
def simplified_layer_normalization(emit: Emitter, node: Node) -> tuple[str, str]:
    """RMSNormalization under the name that ONNX Runtime gives it, in the default domain."""
    x, scale = node.inputs
    axis = int(node.attr("axis", -1))
    axes = [-1] if axis == -1 else list(range(axis % node.rank(), node.rank()))
    return _root_mean_square(emit, node, x, scale, axes, 1e-5)


def _root_mean_square(
    emit: Emitter, node: Node, x: str, scale: str, axes: list[int], epsilon: float
) -> tuple[str, str]:
    """x scale / sqrt(mean(x^2) + epsilon), and what x was multiplied by."""
    square = emit.reduce_mean(emit.mul(x, x), axes, keepdims=1)
    inverse = emit.reciprocal(emit.sqrt(emit.add(square, float(node.attr("epsilon", epsilon)))))
    return emit.mul(emit.mul(x, inverse), scale), inverse


@expansion("EmbedLayerNormalization")
def embed_layer_normalization(emit: Emitter, node: Node) -> tuple[str, str, str]:
    """LayerNormalization of the sum of the embeddings of words, positions and segments; how many tokens count."""
    ids, segments, words, places, kinds, gamma, beta, mask, positions = (node.input(i) for i in range(9))
    where = positions or emit.unsqueeze(emit.arange(emit.dim(ids, 1)), [0])
    total = emit.add(emit.gather(words, ids, axis=0), emit.gather(places, where, axis=0))
    if kinds:
        total = emit.add(total, emit.gather(kinds, segments, axis=0))
    normalized = emit.layer_normalization(total, gamma, beta, epsilon=float(node.attr("epsilon", 1e-12)))
    counted = mask or emit.sub(ids, ids)
    return normalized, emit.reduce_sum(counted, [1], keepdims=0), total


@expansion("RotaryEmbedding")
def rotary_embedding(emit: Emitter, node: Node) -> str:
    """Pairs (a, b) of a head are turned by their position's angle: (a cos - b sin, b cos + a sin)."""
    if int(node.attr("is_packed_batching", 0)) or float(node.attr("scale", 1.0)) != 1.0:
        raise node.refuse("attributes is_packed_batching=1 and scale other than 1 are not covered")
    x, positions, cosines, sines = node.inputs
    rank, pairs = node.rank(), emit.dim(cosines, 1)
    if rank == 3:
        heads = int(node.attr("num_heads", 0))
        size = [0, 0, heads, -1] if heads else emit.join(emit.dims(x, 0, 2), -1, emit.mul(pairs, [2]))
        x = emit.transpose(emit.reshape(x, size), perm=[0, 2, 1, 3])
    if node.rank(1) == 1:
        positions = emit.unsqueeze(emit.add(emit.arange(emit.dim(x, 2)), positions), [0])
    angles = [emit.unsqueeze(emit.gather(cache, positions, axis=0), [1]) for cache in (cosines, sines)]
    turned = emit.slice(x, [0], emit.mul(pairs, [2]), [3])
    y = emit.concat(_turned(emit, node, turned, *angles), emit.slice(x, emit.mul(pairs, [2]), [2**62], [3]), axis=3)
    return emit.reshape(emit.transpose(y, perm=[0, 2, 1, 3]), emit.shape(node.inputs[0])) if rank == 3 else y


def _turned(emit: Emitter, node: Node, x: str, cos: str, sin: str) -> str:
    """The pairs are the two halves of a head, or, interleaved, its neighbours."""
    apart = int(node.attr("interleaved", 0)) == 0
    pairs = emit.reshape(x, [0, 0, 0, 2, -1] if apart else [0, 0, 0, -1, 2])
    a, b = (emit.gather(pairs, i, axis=3 if apart else 4) for i in (0, 1))
    first = emit.sub(emit.mul(a, cos), emit.mul(b, sin))
    second = emit.add(emit.mul(b, cos), emit.mul(a, sin))
    both = [emit.unsqueeze(part, [3 if apart else 4]) for part in (first, second)]
    return emit.reshape(emit.concat(*both, axis=3 if apart else 4), emit.shape(x))
