"""Matrix products and sums of products."""

from ..emit import Emitter
from ..graph import Dim, Node
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


@vjp("Einsum")
def einsum(emit: Emitter, node: Node, grad: str) -> Gradients:
    """The sum of products that has the adjoint in the place of an operand gives that operand's gradient.

    Along an index that no other term has, the operand was summed alone: its gradient is the same everywhere.
    """
    terms, result = _einsum_terms(node)
    gradients = []
    for i, (x, term) in enumerate(zip(node.inputs, terms, strict=True)):
        others = [result, *terms[:i], *terms[i + 1 :]]
        kept = "".join(index for index in term if index in "".join(others))
        equation = f"{','.join(others)}->{kept}"
        part = emit.einsum(grad, *node.inputs[:i], *node.inputs[i + 1 :], equation=equation)
        alone = [axis for axis, index in enumerate(term) if index not in kept]
        gradients.append(emit.expand(emit.unsqueeze(part, alone), emit.shape(x)) if alone else part)
    return gradients


def _einsum_terms(node: Node) -> tuple[list[str], str]:
    """Indices of the operands and of the result; refuses what this rule does not cover."""
    equation = node.attr("equation").decode().replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if "." in equation:
        raise node.refuse(f"attribute equation={equation!r}: an ellipsis is not covered")
    if any(len(set(term)) < len(term) for term in terms):
        raise node.refuse(f"attribute equation={equation!r}: an index twice in one operand is not covered")
    sizes: dict[str, set[Dim]] = {}
    for i, term in enumerate(terms):
        for index, size in zip(term, node.shape(i) or (None,) * len(term), strict=True):
            sizes.setdefault(index, set()).add(size)
    if any(1 in found and len(found) > 1 for found in sizes.values()):
        raise node.refuse(f"attribute equation={equation!r}: an index that is broadcast is not covered")
    return terms, right if arrow else "".join(sorted(i for i in sizes if left.count(i) == 1))
