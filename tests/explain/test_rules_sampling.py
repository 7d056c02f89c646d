"""GridSample against PyTorch in every mode, on planes and volumes; RoiAlign against a loop over its samples."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

import explain
from tests.explain.single import Case, Const, case, check, gradients, numbers, spelled

F = torch.nn.functional
PADDINGS = ("zeros", "border", "reflection")


def grid(*shape: int, seed: int = 0) -> np.ndarray:
    """Places inside and outside of a picture, none between two pieces of the interpolation."""
    return np.random.default_rng((seed, *shape)).uniform(-1.7, 1.7, (*shape, len(shape) - 1))


def sample(
    mode: str, padding: str, aligned: int | None, x: np.ndarray, places: Any, opset: int = 18, also: Any = ()
) -> Case:
    torch_mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)

    def judge(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return F.grid_sample(x, g.to(x.dtype), torch_mode, padding, bool(aligned))

    given = {"mode": mode, "padding_mode": padding, "align_corners": aligned}
    return case(
        "GridSample",
        x,
        places,
        judge=judge,
        formula=lambda *operands: judge(*map(torch.as_tensor, operands)).numpy(),
        label=spelled({"x": list(x.shape), "opset": opset, **given}),
        also=also,
        opset=opset,
        **given,
    )


PLANE, VOLUME = numbers(2, 3, 4, 5), numbers(2, 2, 3, 4, 2)
CASES = [
    sample(mode, padding, aligned, PLANE, grid(2, 3, 4), also=((numbers(1, 2, 6, 3), grid(1, 5, 2)),))
    for mode, padding, aligned in itertools.product(("bilinear", "nearest", "bicubic"), PADDINGS, (0, 1))
]
CASES += [
    sample(mode, padding, aligned, VOLUME, grid(2, 2, 3, 2), opset)
    for mode, opset in (("bilinear", 18), ("nearest", 18), ("linear", 20))
    for padding, aligned in itertools.product(PADDINGS, (0, 1))
]
CASES += [
    *(sample(mode, "zeros", 0, PLANE, grid(2, 3, 4), 20) for mode in ("linear", "cubic", "nearest")),
    sample("linear", "border", 0, PLANE, Const(grid(2, 3, 4)), 20),
]
CASES += [sample("bilinear", "reflection", 1, numbers(1, 2, 1, 3), grid(1, 2, 3))]


def aligned_regions(x: torch.Tensor, rois: torch.Tensor, items: torch.Tensor, **given: Any) -> torch.Tensor:
    """Sample by sample, as the specification's text says it."""
    half = given.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    rows, columns, ratio = given["output_height"], given["output_width"], given.get("sampling_ratio", 0)
    regions = []
    for (x1, y1, x2, y2), item in zip((rois * given.get("spatial_scale", 1.0)).tolist(), items.tolist(), strict=True):
        begin = (y1 - 0.5, x1 - 0.5) if half else (y1, x1)
        extent = (y2 - y1, x2 - x1) if half else (max(y2 - y1, 1.0), max(x2 - x1, 1.0))
        size = extent[0] / rows, extent[1] / columns
        count = [ratio or max(math.ceil(side), 1) for side in size]
        means = []
        for i, j in itertools.product(range(rows), range(columns)):
            total = torch.zeros(x.shape[1], dtype=x.dtype)
            for a, b in itertools.product(range(count[0]), range(count[1])):
                at = (begin[0] + (i + (a + 0.5) / count[0]) * size[0], begin[1] + (j + (b + 0.5) / count[1]) * size[1])
                total = total + interpolated(x[item], *at)
            means.append(total / (count[0] * count[1]))
        regions.append(torch.stack(means, -1).reshape(-1, rows, columns))
    return torch.stack(regions)


def interpolated(x: torch.Tensor, row: float, column: float) -> torch.Tensor:
    """Between four elements of [C, H, W]; 0 from one element beyond the edge on."""
    height, width = x.shape[1:]
    if not (-1 <= row <= height and -1 <= column <= width):
        return torch.zeros(x.shape[0], dtype=x.dtype)
    row, column = min(max(row, 0.0), height - 1), min(max(column, 0.0), width - 1)
    i, j = min(int(row), height - 2), min(int(column), width - 2)
    a, b = row - i, column - j
    upper = (1 - b) * x[:, i, j] + b * x[:, i, j + 1]
    lower = (1 - b) * x[:, i + 1, j] + b * x[:, i + 1, j + 1]
    return (1 - a) * upper + a * lower


ROIS = np.array([[0.3, 0.2, 3.9, 4.8], [-2.0, 1.0, 2.5, 7.5], [1.1, 1.3, 1.6, 1.7]])
ITEMS = Const(np.array([1, 0, 1]))


def regions(label: str, **given: Any) -> Case:
    given = {"output_height": 2, "output_width": 3, **given}
    judge = lambda x, r, i: aligned_regions(x, r, i, **given)  # noqa: E731 - one judge per case
    return case(
        "RoiAlign",
        numbers(2, 3, 6, 5),
        Const(ROIS),
        ITEMS,
        judge=judge,
        formula=lambda *operands: judge(*map(torch.as_tensor, operands)).numpy(),
        label=label,
        also=((numbers(2, 1, 4, 8), Const(ROIS), ITEMS),),
        **given,
    )


CASES += [
    regions("default"),
    regions("two-samples", sampling_ratio=2),
    regions("scaled", sampling_ratio=3, spatial_scale=0.5),
    regions("outer-edges", coordinate_transformation_mode="output_half_pixel"),
    regions("fine", spatial_scale=2.5, output_height=1, output_width=1),
]


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


def test_an_element_read_from_several_places_takes_the_gradient_of_all() -> None:
    places = np.zeros((1, 1, 4, 2))
    found = gradients(case("GridSample", np.arange(9.0).reshape(1, 1, 3, 3), Const(places), judge=None))
    assert found["x0"][0, 0].tolist() == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]


REFUSED = [
    (
        case("RoiAlign", numbers(1, 1, 4, 4), Const(ROIS[:1]), Const(np.array([0])), judge=None, mode="max"),
        "attribute mode='max' is not covered",
    ),
    (
        case("RoiAlign", numbers(1, 1, 4, 4), ROIS[:1], Const(np.array([0])), judge=None),
        "the gradient with respect to its input 'x1.only' is not covered",
    ),
]


@pytest.mark.parametrize(("subject", "reason"), REFUSED, ids=lambda value: str(value)[:30])
def test_refusals_name_operator_node_opset_and_attribute(subject: Case, reason: str) -> None:
    with pytest.raises(explain.UnsupportedOperator, match=reason) as caught:
        explain.compile(subject.model(items=True), "vjp")
    assert (caught.value.op, caught.value.node, caught.value.opset) == (subject.op, "under_test", 18)
