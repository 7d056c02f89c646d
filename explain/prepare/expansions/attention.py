"""ONNX Runtime's attention operators in their plain form: no past, masks of any rank but 4, additive biases."""

from collections.abc import Sequence

import numpy as np

from ...emit import Emitter
from ...graph import Node
from .registry import expansion


@expansion("Attention")
def attention(emit: Emitter, node: Node) -> tuple[str, None]:
    """Attention of one sequence to itself, its projections included: [Q K V] = X W + b."""
    for name in ("do_rotary", "past_present_share_buffer"):
        if int(node.attr(name, 0)):
            raise node.refuse(f"attribute {name}=1 is not covered")
    x, w, b, mask, past, bias = (node.input(i) for i in range(6))
    if past:
        raise node.refuse("its input 'past' is not covered")
    product = emit.matmul(x, w)
    product = emit.add(product, b) if b else product
    sizes = list(node.attr("qkv_hidden_sizes") or ())
    third = emit.div(emit.dim(w, 1), [3])
    parts = emit.split(product, sizes or emit.join(third, third, third), 3, axis=2)
    return _attended(emit, node, parts, (mask, 3), bias), None


@expansion("MultiHeadAttention")
def multi_head_attention(emit: Emitter, node: Node) -> tuple[str, None]:
    """Attention between projections that are made already."""
    q, k, v, b, mask, bias = (node.input(i) for i in range(6))
    for i, name in enumerate(("past_key", "past_value", "past_sequence_length", "cache_indirection"), 6):
        if node.input(i):
            raise node.refuse(f"its input {name!r} is not covered")
    if not k or not v or any(node.rank(i) != 3 for i in range(3)):
        raise node.refuse("packed projections are not covered; query, key and value have 3 axes each")
    parts = [q, k, v]
    if b:
        biases = emit.split(b, emit.join(*(emit.dim(x, 2) for x in parts)), 3, axis=0)
        parts = [emit.add(x, part) for x, part in zip(parts, biases, strict=True)]
    return _attended(emit, node, parts, (mask, 4), bias), None


def _attended(emit: Emitter, node: Node, parts: Sequence[str], mask: tuple[str, int], bias: str) -> str:
    """softmax(s Q K' + mask + bias) V for each head; `mask` is its name and which input it is."""
    heads, scale = int(node.attr("num_heads")), float(node.attr("scale", 0.0))
    apart = [emit.reshape(x, [0, 0, heads, -1]) for x in parts]
    q, k, v = (emit.transpose(x, perm=perm) for x, perm in zip(apart, PERMS, strict=True))
    size = emit.cast_like_value(emit.dim(q, 3), q)
    scores = emit.matmul(q, k)
    scores = emit.mul(scores, scale) if scale else emit.div(scores, emit.sqrt(size))
    scores = emit.add(scores, _added(emit, node, *mask, scores)) if mask[0] else scores
    scores = emit.add(scores, bias) if bias else scores
    if int(node.attr("unidirectional", 0)):
        scores = _causal(emit, scores)
    mixed = emit.transpose(emit.matmul(emit.softmax(scores, axis=-1), v), perm=[0, 2, 1, 3])
    return emit.reshape(mixed, [0, 0, -1])


PERMS = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])


def _added(emit: Emitter, node: Node, mask: str, place: int, scores: str) -> str:
    """What a mask of integers adds to the scores: 0 where it counts a key, mask_filter_value elsewhere."""
    kept = emit.greater(mask, np.zeros((), dtype=emit.dtype(mask)))
    match node.rank(place):
        case 1:
            kept = _within(emit, emit.cast_to(mask, "int64"), emit.dim(scores, 3), emit.dim(scores, 0))
        case 2:
            kept = emit.unsqueeze(kept, [1, 2])
        case 3:
            kept = emit.unsqueeze(kept, [1])
        case rank:
            raise node.refuse(f"a mask with {rank} axes is not covered")
    zero, filtered = (np.array(x, emit.dtype(scores)) for x in (0, node.attr("mask_filter_value", -10000.0)))
    return emit.where(kept, zero, filtered)


def _within(emit: Emitter, mask: str, keys: str, items: str) -> str:
    """[N] where the keys of an item end, or [2 N] where they end and begin, as [N, 1, 1, keys]."""
    bounds = emit.concat(mask, emit.expand(np.array(0), items), axis=0)
    ends, starts = emit.slice(bounds, [0], items, [0]), emit.slice(bounds, items, emit.mul(items, [2]), [0])
    upright = [emit.reshape(x, [-1, 1, 1, 1]) for x in (ends, starts)]
    positions = emit.arange(keys)
    return emit.logical_and(emit.less(positions, upright[0]), emit.greater_or_equal(positions, upright[1]))


def _causal(emit: Emitter, scores: str) -> str:
    """Keys behind their query count nothing."""
    queries = emit.unsqueeze(emit.arange(emit.dim(scores, 2)), [1])
    seen = emit.less_or_equal(emit.arange(emit.dim(scores, 3)), queries)
    return emit.where(seen, scores, np.array(np.finfo(emit.dtype(scores)).min, emit.dtype(scores)))
