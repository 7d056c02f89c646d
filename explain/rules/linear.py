"""Matrix products and sums of products."""

from string import ascii_letters

from ..dtypes import Dim
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


@vjp("Det")
def det(emit: Emitter, node: Node, grad: str) -> Gradients:
    """The cofactors: signed determinants of what remains without row i and column j."""
    x, n = node.inputs[0], emit.dim(node.inputs[0], -1)
    shape, rank = node.shape() or (None,), node.rank()
    if shape[-1] == 1 or shape[-2] == 1:
        return emit.reshape(grad, emit.shape(x))
    every, shorter = emit.unsqueeze(emit.arange(n), [1]), emit.arange(emit.sub(n, [1]))
    others = emit.add(shorter, emit.cast_to(emit.greater_or_equal(shorter, every), "int64"))  # [n, n - 1]
    minors = emit.gather(emit.gather(x, others, axis=rank - 1), others, axis=rank - 2)  # [..., i, n - 1, j, n - 1]
    square = emit.transpose(minors, perm=[*range(rank - 2), rank - 2, rank, rank - 1, rank + 1])
    odd = emit.mod(emit.add(every, emit.arange(n)), [2])
    cofactors = emit.mul(emit.det(square), emit.cast_like_value(emit.sub([1], emit.mul(odd, [2])), x))
    return emit.mul(cofactors, emit.unsqueeze(grad, [-1, -2]))


@vjp("Einsum")
def einsum(emit: Emitter, node: Node, grad: str) -> Gradients:
    """The sum of products that has the adjoint in the place of an operand gives that operand's gradient.

    Along an index that no other term has, the operand was summed alone: its gradient is the same everywhere.
    """
    terms, result = _einsum_terms(node)
    diagonals = _einsum_diagonals(emit, node, terms)
    gradients = []
    for i in range(len(node.inputs)):
        term, operands = terms[i], [grad, *node.inputs[:i], *node.inputs[i + 1 :], *diagonals]
        others = [result, *terms[:i], *terms[i + 1 :]]
        kept = "".join(index for index in term if index in "".join(others))
        part = emit.einsum(*operands, equation=f"{','.join(others)}->{kept}")
        alone = [axis for axis, index in enumerate(term) if index not in kept]
        part = emit.unsqueeze(part, alone) if alone else part
        gradients.append(_einsum_fitted(emit, node, i, terms, part, bool(alone)))
    return gradients


def _einsum_terms(node: Node) -> tuple[list[str], str]:
    """Indices of the operands and of the result, with letters in the place of an ellipsis (aligned at its end)."""
    equation = node.attr("equation").decode().replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms, free = left.split(","), "".join(letter for letter in ascii_letters if letter not in equation)
    if not arrow:
        right = "..." * ("..." in left) + "".join(sorted(i for i in set(left) - set(",.") if left.count(i) == 1))
    hidden = [node.rank(i) - len(term) + 3 if "..." in term else 0 for i, term in enumerate(terms)]
    letters = free[: max(hidden)]
    terms = [term.replace("...", letters[max(hidden) - n :]) for term, n in zip(terms, hidden, strict=True)]
    return terms, right.replace("...", letters)


def _einsum_diagonals(emit: Emitter, node: Node, terms: list[str]) -> list[str]:
    """An index twice in a term becomes two, beside an identity matrix, which is a term (and an operand) more."""
    free = [letter for letter in ascii_letters if letter not in "".join(terms) + node.attr("equation").decode()]
    matrices = []
    for i, x in enumerate(node.inputs):
        for axis, index in enumerate(terms[i]):
            if index in terms[i][:axis]:
                length, other = emit.dim(x, axis), free.pop()
                terms[i] = terms[i][:axis] + other + terms[i][axis + 1 :]
                terms.append(index + other)
                matrices.append(emit.eye_like(emit.zeros(emit.join(length, length), x)))
    return matrices


def _einsum_fitted(emit: Emitter, node: Node, i: int, terms: list[str], grad: str, alone: bool) -> str:
    """A gradient in the shape of operand i: summed where the operand was broadcast, repeated where others were."""
    x, shape = node.inputs[i], node.shape(i) or (None,) * len(terms[i])
    beside = [
        (size, other) for size, index in zip(shape, terms[i], strict=True) for other in _sizes(node, terms, i, index)
    ]
    unlike = [pair for pair in beside if None in pair or pair[0] != pair[1]]
    if any(not isinstance(size, int) or size == 1 for size, _ in unlike):
        stretched = emit.logical_and(emit.equal(emit.shape(x), [1]), emit.greater(emit.shape(grad), [1]))
        axes = emit.squeeze(emit.non_zero(stretched), [0])
        grad = emit.reduce_sum(grad, axes, keepdims=1, noop_with_empty_axes=1)
    narrow = any(not isinstance(other, int) or other == 1 for _, other in unlike)
    return emit.expand(grad, emit.shape(x)) if alone or narrow else grad


def _sizes(node: Node, terms: list[str], own: int, index: str) -> list[Dim]:
    """What is known of the size of an index in the operands beside this one."""
    others = [(node.shape(i) or (None,) * len(terms[i]), terms[i]) for i in range(len(node.inputs)) if i != own]
    return [size for shape, term in others for size, at in zip(shape, term, strict=True) if at == index]
