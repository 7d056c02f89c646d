"""Feature ablation and occlusion are Captum's, with the same baselines, groups, windows and strides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import explain
from explain.methods.ablation import windows
from tests.explain.graphs import attribute, made, mlp, mlp_twin, numbers, tensor

captum = pytest.importorskip("captum.attr", reason="captum is not installed")

Twin = Callable[[torch.Tensor], torch.Tensor]
KERNEL, HEAD = numbers(4, 3, 3, 3, seed=540), numbers(4 * 5 * 7, 2, seed=541, scale=0.3)
FLAT = numbers(30, 2, seed=542)
X, BASELINE, BACKGROUND = numbers(3, 4, seed=543), numbers(3, 4, seed=544), numbers(5, 4, seed=545)


def picture(layout: str) -> tuple[explain.Model, Twin]:
    """A convolution of three channels over 7 x 9 and a product, channels first or last, and its twin."""
    turn = (
        [("Transpose", ["x"], ["first"], {"perm": [0, 3, 1, 2]})]
        if layout == "HWC"
        else [("Identity", ["x"], ["first"])]
    )
    nodes: Any = [
        *turn,
        ("Conv", ["first", "k"], ["c"]),
        ("Tanh", ["c"], ["t"]),
        ("Flatten", ["t"], ["f"]),
        ("MatMul", ["f", "w"], ["y"]),
    ]
    shape = [7, 9, 3] if layout == "HWC" else [3, 7, 9]
    model = made(nodes, {"x": ("float32", ["n", *shape])}, {"y": ("float32", ["n", 2])}, {"k": KERNEL, "w": HEAD})

    def twin(x: torch.Tensor) -> torch.Tensor:
        first = x.permute(0, 3, 1, 2) if layout == "HWC" else x
        return torch.tanh(torch.nn.functional.conv2d(first, tensor(KERNEL))).flatten(1) @ tensor(HEAD)

    return explain.Model(model), twin


def sheet() -> tuple[explain.Model, Twin]:
    """Items [5, 6] without channels."""
    nodes: Any = [
        ("Tanh", ["x"], ["t"]),
        ("Flatten", ["t"], ["f"]),
        ("MatMul", ["f", "w"], ["h"]),
        ("Sigmoid", ["h"], ["y"]),
    ]
    model = made(nodes, {"x": ("float32", ["n", 5, 6])}, {"y": ("float32", ["n", 2])}, {"w": FLAT})
    return explain.Model(model), lambda x: torch.sigmoid(torch.tanh(x).flatten(1) @ tensor(FLAT))


def ablated(twin: Twin, x: np.ndarray, baseline: Any, mask: np.ndarray | None = None) -> np.ndarray:
    """By Captum, target 1."""
    judge = captum.FeatureAblation(twin)
    start = tensor(baseline) if isinstance(baseline, np.ndarray) else baseline
    given = None if mask is None else torch.tensor(mask)[None]
    return np.asarray(judge.attribute(tensor(x), baselines=start, target=1, feature_mask=given).detach().numpy())


@pytest.mark.parametrize("baseline", [0.0, 0.7, "of each", "one row"])
def test_captums_ablation_feature_by_feature(baseline: Any) -> None:
    start = {"of each": BASELINE, "one row": BASELINE[:1]}.get(baseline, baseline)
    found = attribute(mlp(), {"x": X}, "feature_ablation", baseline=start, target=1)
    assert explain.attribution_error(found.values["x"], ablated(mlp_twin, X, start)) <= 1e-5
    other = attribute(mlp(), {"x": X}, "feature_ablation", baseline=BASELINE[::-1], target=1)
    assert explain.attribution_error(other.values["x"], ablated(mlp_twin, X, start)) > 1e-3
    assert found.base_values is None
    assert {figures["completeness_gap"] for figures in found.quality} == {None}


def test_a_background_is_the_mean_over_its_rows() -> None:
    found = attribute(mlp(), {"x": X}, "feature_ablation", background=BACKGROUND, target=1)
    each = [ablated(mlp_twin, X, row[None]) for row in BACKGROUND]
    assert explain.attribution_error(found.values["x"], np.mean(each, axis=0)) <= 1e-5
    weight = np.array([1, 2, 0, 4, 1.0])
    found = attribute(mlp(), {"x": X}, "feature_ablation", background=BACKGROUND, background_weight=weight, target=1)
    assert explain.attribution_error(found.values["x"], np.average(each, axis=0, weights=weight)) <= 1e-5


def test_a_background_goes_before_a_baseline() -> None:
    both = attribute(mlp(), {"x": X}, "feature_ablation", background=BACKGROUND, baseline=BASELINE, target=1)
    rows = attribute(mlp(), {"x": X}, "feature_ablation", background=BACKGROUND, target=1)
    np.testing.assert_array_equal(both.values["x"], rows.values["x"])


def test_groups_are_captums_feature_mask() -> None:
    mask = np.array([0, 1, 0, 2])
    found = attribute(mlp(), {"x": X}, "feature_ablation", baseline=BASELINE, target=1, groups={"x": mask})
    expected = ablated(mlp_twin, X, BASELINE, mask)
    assert explain.attribution_error(found.values["groups"][:, mask], expected) <= 1e-5
    model, twin = picture("CHW")
    pixels, blocks = numbers(2, 3, 7, 9, seed=546), np.arange(7 * 9).reshape(7, 9) // 8
    found = attribute(
        model, {"x": pixels}, "feature_ablation", baseline=0.2, target=1, groups={"x": np.tile(blocks, (3, 1, 1))}
    )
    expected = ablated(twin, pixels, 0.2, np.tile(blocks, (3, 1, 1)))
    assert explain.attribution_error(found.values["groups"][:, blocks], expected[:, 0]) <= 1e-5


def occluded(twin: Twin, x: np.ndarray, baseline: Any, window: tuple[int, ...], stride: Any) -> np.ndarray:
    """By Captum, target 1."""
    start = tensor(baseline) if isinstance(baseline, np.ndarray) else baseline
    judge = captum.Occlusion(twin)
    found = judge.attribute(tensor(x), sliding_window_shapes=window, strides=stride, baselines=start, target=1)
    return np.asarray(found.detach().numpy())


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (2, 1), (3, 1), (3, 2), (2, 2), (4, 3)])
@pytest.mark.parametrize("baseline", [0.3, "of each"])
def test_captums_occlusion_of_a_row(window: int, stride: int, baseline: Any) -> None:
    start = BASELINE if baseline == "of each" else baseline
    found = attribute(mlp(), {"x": X}, "occlusion", baseline=start, target=1, window=window, stride=stride)
    assert explain.attribution_error(found.values["x"], occluded(mlp_twin, X, start, (window,), stride)) <= 1e-5
    if window > 1:
        other = occluded(mlp_twin, X, start, (window - 1,), 1)
        assert explain.attribution_error(found.values["x"], other) > 1e-3


SIZES = [((3, 3), (3, 3)), ((3, 3), (1, 2)), ((4, 5), (3, 4)), ((7, 9), (1, 1)), ((2, 9), (2, 3)), ((5, 4), (4, 4))]


@pytest.mark.parametrize(("window", "stride"), SIZES)
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_captums_occlusion_of_a_picture(layout: str, window: tuple[int, int], stride: tuple[int, int]) -> None:
    """All channels of a window go together; windows are cut at the border where strides do not fit."""
    model, twin = picture(layout)
    x = numbers(2, 3, 7, 9, seed=547)
    x, whole, steps = (
        (x, (3, *window), (3, *stride))
        if layout == "CHW"
        else (np.ascontiguousarray(x.transpose(0, 2, 3, 1)), (*window, 3), (*stride, 3))
    )
    options: dict[str, Any] = {"window": list(window), "stride": list(stride), "layout": layout}
    found = attribute(model, {"x": x}, "occlusion", baseline=0.1, target=1, **options)
    assert explain.attribution_error(found.values["x"], occluded(twin, x, 0.1, whole, steps)) <= 1e-5


@pytest.mark.parametrize(("window", "stride"), [((2, 2), (1, 1)), ((2, 3), (2, 2)), ((1, 6), (1, 6)), ((3, 1), (2, 1))])
def test_captums_occlusion_of_a_sheet(window: tuple[int, int], stride: tuple[int, int]) -> None:
    model, twin = sheet()
    x, base = numbers(3, 5, 6, seed=548), numbers(3, 5, 6, seed=549)
    found = attribute(
        model, {"x": x}, "occlusion", baseline=base, target=1, space="output", window=list(window), stride=list(stride)
    )
    assert explain.attribution_error(found.values["x"], occluded(twin, x, base, window, stride)) <= 1e-5


def test_occlusion_over_several_rows_is_the_mean() -> None:
    found = attribute(mlp(), {"x": X}, "occlusion", background=BACKGROUND, target=1, window=2, stride=1)
    each = [occluded(mlp_twin, X, row[None], (2,), 1) for row in BACKGROUND]
    assert explain.attribution_error(found.values["x"], np.mean(each, axis=0)) <= 1e-5


def test_positions_that_no_window_covers_get_nothing() -> None:
    found = attribute(mlp(), {"x": X}, "occlusion", baseline=0.0, target=1, window=1, stride=3)
    assert (found.values["x"][:, 1:3] == 0).all()
    assert found.values["x"][:, [0, 3]].all()


@pytest.mark.parametrize(
    ("sizes", "window", "stride"), [((7,), [3], [2]), ((7, 9), [4, 5], [3, 4]), ((3, 4, 5), [2, 2, 5], [2, 1, 1])]
)
def test_windows_by_a_loop(sizes: tuple[int, ...], window: list[int], stride: list[int]) -> None:
    expected = []
    counts = [max(0, -(-(size - width) // step)) + 1 for size, width, step in zip(sizes, window, stride, strict=True)]
    for place in np.ndindex(*counts):
        inside = np.zeros(sizes)
        inside[tuple(slice(p * s, p * s + w) for p, s, w in zip(place, stride, window, strict=True))] = 1
        expected.append(inside.reshape(-1))
    np.testing.assert_array_equal(windows(sizes, window, stride), expected)
    assert (np.sum(expected, axis=0) > 0).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 0}, "parameter 'window': came 0"),
        ({"window": [1, 2]}, r"parameter 'window': came \[1, 2\], expected a whole number of at least 1, or 1 of them"),
        ({"stride": [1.5]}, r"parameter 'stride': came \[1.5\]"),
        ({"stride": [True]}, r"parameter 'stride': came \[True\]"),
        ({"groups": {"x": [0, 0, 1, 1]}}, "occlusion slides a window over the elements; use feature_ablation"),
        ({"layout": "CHW"}, "layout"),
    ],
)
def test_what_occlusion_refuses(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(explain.InvalidParameter, match=sentence):
        attribute(mlp(), {"x": X}, "occlusion", baseline=0.0, target=1, **options)


def test_several_inputs_have_no_window() -> None:
    nodes: Any = [("Add", ["a", "b"], ["y"])]
    model = made(nodes, {"a": ("float32", ["n", 2]), "b": ("float32", ["n", 2])}, {"y": ("float32", ["n", 2])})
    with pytest.raises(explain.MethodUnavailable, match="occlusion takes one input, and this model has a, b"):
        attribute(model, {"a": X[:, :2], "b": X[:, 2:]}, "occlusion", baseline=0.0, target=1)
