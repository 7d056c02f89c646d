"""Matrix products."""

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp


@vjp("Gemm", broadcasts=None)
def gemm(emit: Emitter, node: Node, grad: str) -> Gradients:
    """y = alpha A' B' + beta C with A', B' optionally transposed."""
    a, b = node.inputs[:2]
    alpha, ta, tb = float(node.attr("alpha", 1.0)), int(node.attr("transA", 0)), int(node.attr("transB", 0))
    da = emit.gemm(b, grad, alpha=alpha, transA=tb, transB=1) if ta else emit.gemm(grad, b, alpha=alpha, transB=1 - tb)
    db = emit.gemm(grad, a, alpha=alpha, transA=1, transB=ta) if tb else emit.gemm(a, grad, alpha=alpha, transA=1 - ta)
    if not node.input(2):
        return da, db
    return da, db, _gemm_bias(emit, node, emit.mul(grad, float(node.attr("beta", 1.0))))


def _gemm_bias(emit: Emitter, node: Node, grad: str) -> str:
    """C is broadcast to the product: sum back over what it lacks."""
    c = node.inputs[2]
    missing = 2 - node.rank(2)
    padded = emit.concat([1] * missing, emit.shape(c), axis=0) if missing else emit.shape(c)
    ones = emit.equal(padded, emit.add(emit.sub(padded, padded), [1]))
    axes = emit.squeeze(emit.non_zero(ones), [0])
    return emit.reshape(emit.reduce_sum(grad, axes, keepdims=1, noop_with_empty_axes=1), emit.shape(c))


@vjp("MatMul", broadcasts="leading")
def matmul(emit: Emitter, node: Node, grad: str) -> Gradients:
    """dA = dY B^T, dB = A^T dY; a vector operand is a matrix with one row or column (numpy.matmul)."""
    a, b = node.inputs
    rank_a, rank_b = node.rank(0), node.rank(1)
    if rank_a == 1:
        grad = emit.unsqueeze(grad, [-2 if rank_b > 1 else -1])
    if rank_b == 1:
        grad = emit.unsqueeze(grad, [-1])
    matrix_a = emit.unsqueeze(a, [0]) if rank_a == 1 else a
    matrix_b = emit.unsqueeze(b, [1]) if rank_b == 1 else b
    da = emit.matmul(grad, _swap(emit, matrix_b, max(rank_b, 2)))
    db = emit.matmul(_swap(emit, matrix_a, max(rank_a, 2)), grad)
    return _to_vector(emit, da, a, rank_a, max(rank_b, 2)), _to_vector(emit, db, b, rank_b, max(rank_a, 2))


def _swap(emit: Emitter, matrix: str, rank: int) -> str:
    return emit.transpose(matrix, perm=[*range(rank - 2), rank - 1, rank - 2])


def _to_vector(emit: Emitter, grad: str, operand: str, rank: int, other: int) -> str:
    """For a vector operand: sum the leading axes it was repeated over and drop the axis it was given."""
    if rank != 1:
        return grad
    if other > 2:
        grad = emit.reduce_sum(grad, list(range(other - 2)), keepdims=0)
    return emit.reshape(grad, emit.shape(operand))
