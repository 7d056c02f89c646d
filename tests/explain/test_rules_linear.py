"""Matrix products: every combination of ranks, broadcasting, transposition and bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.explain.single import Case, Const, case, check, gradients, numbers, variants


def pair(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return numbers(*a), numbers(*b, seed=1)


RANKS = [
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((3,), (2, 3, 4)),
    ((2, 4, 3), (3,)),
    ((5, 2, 4, 3), (3,)),
    ((3,), (5, 2, 3, 4)),
    ((2, 4, 3), (3, 5)),
    ((4, 3), (2, 3, 5)),
    ((2, 4, 3), (2, 3, 5)),
    ((2, 4, 3), (1, 3, 5)),
    ((1, 4, 3), (2, 3, 5)),
    ((2, 1, 4, 3), (5, 3, 2)),
    ((5, 4, 3), (2, 1, 3, 2)),
    ((2, 1, 1, 4, 3), (3, 5, 3, 2)),
]
PRODUCTS = [case("MatMul", *pair(a, b), judge=torch.matmul, label=f"{a}{b}".replace(" ", "")) for a, b in RANKS]
PRODUCTS += [
    case("MatMul", numbers(2, 3), Const(numbers(3, 4)), judge=torch.matmul, label="weight-right"),
    case("MatMul", Const(numbers(2, 3)), numbers(3, 4), judge=torch.matmul, label="weight-left"),
    case(
        "MatMul",
        *pair((2, 4, 3), (2, 3, 5)),
        judge=torch.matmul,
        label="other-sizes",
        also=(pair((1, 2, 3), (3, 3, 2)), pair((3, 2, 1), (1, 1, 4))),
    ),
]


def product(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None, **given: float) -> torch.Tensor:
    a = a.T if given.get("transA") else a
    b = b.T if given.get("transB") else b
    y = given.get("alpha", 1.0) * (a @ b)
    return y if c is None else y + given.get("beta", 1.0) * c


def gemm(c: tuple[int, ...] | None, **given: float) -> Case:
    a = numbers(3, 2) if given.get("transA") else numbers(2, 3)
    b = numbers(4, 3, seed=1) if given.get("transB") else numbers(3, 4, seed=1)
    operands = (a, b) if c is None else (a, b, numbers(*c, seed=2))
    label = f"{given}-{c}".replace(" ", "")
    return case("Gemm", *operands, judge=lambda *xs: product(*xs, **given), label=label, **given)


PRODUCTS += [gemm(None, **given) for given in variants(transA=[0, 1], transB=[0, 1])]
PRODUCTS += [gemm((4,), alpha=0.5, beta=-1.5, **given) for given in variants(transA=[0, 1], transB=[0, 1])]
PRODUCTS += [gemm(c, beta=0.7) for c in [(), (1,), (4,), (1, 4), (2, 1), (1, 1), (2, 4)]]
PRODUCTS += [
    case(
        "Gemm",
        numbers(2, 3),
        numbers(3, 4, seed=1),
        numbers(2, 4, seed=2),
        judge=product,
        label="bias-that-is-broadcast-at-other-sizes",
        also=(
            (numbers(2, 3), numbers(3, 4, seed=1), numbers(1, 4, seed=2)),
            (numbers(5, 1), numbers(1, 2, seed=1), numbers(5, 1, seed=2)),
        ),
    )
]


def summed(
    equation: str, *shapes: tuple[int, ...], torch_equation: str | None = None, also: tuple[Any, ...] = ()
) -> Case:
    """An Einsum; PyTorch wants no spaces and its indices in one case."""
    operands = [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]
    judged = torch_equation or equation
    others = tuple(tuple(numbers(*shape, seed=i) for i, shape in enumerate(sizes)) for sizes in also)
    return case(
        "Einsum",
        *operands,
        judge=lambda *xs: torch.einsum(judged, *xs),
        label=equation.replace(" ", ""),
        also=others,
        equation=equation,
    )


SUMS = [
    summed("ij,jk->ik", (2, 3), (3, 4)),
    summed("bhid,bhjd->bhij", (2, 2, 3, 4), (2, 2, 5, 4), also=(((1, 3, 2, 2), (1, 3, 4, 2)),)),
    summed("bhij,bhjd->bihd", (2, 2, 3, 4), (2, 2, 4, 5)),
    summed("ij,jk", (2, 3), (3, 4)),
    summed("ba,a", (2, 3), (3,)),
    summed("ij->ji", (2, 3)),
    summed("ij->i", (2, 3)),
    summed("ij->", (2, 3)),
    summed("ij,kl->il", (2, 3), (4, 5)),
    summed("i,j->ij", (2,), (3,)),
    summed("ij, ij -> ij", (2, 3), (2, 3)),
    summed("ai,bij,cj->abc", (2, 3), (4, 3, 5), (2, 5)),
    summed("...ij,jk->...ik", (5, 2, 3), (3, 4), also=(((1, 4, 2), (2, 1)),)),
    summed("...ij,...jk->...ik", (5, 2, 3), (5, 3, 4)),
    summed("...ij,...jk", (1, 2, 3), (5, 3, 4), also=(((4, 4, 2), (1, 2, 1)),)),
    summed("b...i,ij->b...j", (2, 3, 4, 5), (5, 2)),
    summed("a...,...b->...ab", (2, 3, 1), (3, 4, 5)),
    summed("...,i->...i", (2, 3), (4,)),
    summed("...i->...", (2, 3, 4)),
    summed("ii->i", (3, 3), also=(((5, 5),),)),
    summed("ii", (3, 3)),
    summed("...ii->...i", (2, 3, 3)),
    summed("iji,i->j", (3, 2, 3), (3,)),
    summed("iiij,jk->ik", (3, 3, 3, 2), (2, 4)),
    summed("aab,bb->a", (3, 3, 2), (2, 2)),
    summed("ij,ij->ij", (2, 3), (1, 3), also=(((1, 3), (2, 3)), ((2, 3), (2, 1)))),
    summed("ij,ij->i", (2, 1), (1, 3)),
    summed("ij,jk->k", (2, 1), (3, 4)),
]
DETERMINANTS = [
    case("Det", numbers(*shape), judge=torch.linalg.det, label=str(shape), also=((numbers(*also),),))
    for shape, also in [((3, 3), (2, 2)), ((2, 4, 4), (3, 2, 2)), ((2, 3, 2, 2), (1, 2, 5, 5))]
]
DETERMINANTS += [case("Det", numbers(2, 1, 1), judge=torch.linalg.det, label="of-one")]
CASES = PRODUCTS + SUMS + DETERMINANTS


def test_a_matrix_without_inverse_has_cofactors() -> None:
    assert gradients(case("Det", np.array([[1.0, 2.0], [2.0, 4.0]]), judge=None))["x0"].tolist() == [[4, -2], [-2, 1]]


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)
