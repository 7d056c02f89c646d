"""Resize: every interpolation and coordinate mode, by scales or sizes, up and down, one or several axes.

PyTorch knows few of the modes: where it does not, the judge is the matrix of each axis, made by ONNX's reference
implementation in float64 from the unit vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import explain
from tests.explain.single import Case, Const, case, check, gradients, numbers, spelled, variants

F = torch.nn.functional


def matrix(n: int, m: int, scale: float | None, given: dict[str, Any]) -> torch.Tensor:
    """[m, n]: what the reference implementation makes of each unit vector of length n."""
    inputs = ["x", "", "", "sizes"] if scale is None else ["x", "", "scales"]
    node = helper.make_node("Resize", inputs, ["y"], **given)
    feed = [("sizes", TensorProto.INT64)] if scale is None else [("scales", TensorProto.FLOAT)]
    infos = [helper.make_tensor_value_info(name, kind, None) for name, kind in [("x", TensorProto.DOUBLE), *feed]]
    graph = helper.make_graph([node], "axis", infos, [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)])
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    second = np.array([m]) if scale is None else np.array([scale], np.float32)
    return torch.as_tensor(np.stack([evaluator.run(None, {"x": e, feed[0][0]: second})[0] for e in np.eye(n)], 1))


def resized(
    x: torch.Tensor, axes: list[int], to: list[int], scales: list[float] | None, given: dict[str, Any]
) -> torch.Tensor:
    for i, axis in enumerate(axes):
        a = matrix(x.shape[axis], to[i], None if scales is None else scales[i], given)
        x = torch.tensordot(x, a, dims=([axis], [1])).movedim(-1, axis)
    return x


def resize(x: tuple[int, ...], scales: list[float] | None = None, sizes: list[int] | None = None, **given: Any) -> Case:
    present = {name: value for name, value in given.items() if value is not None}
    axes = present.get("axes") or list(range(len(x)))
    to = sizes or [int(np.floor(np.float32(s) * x[a])) for a, s in zip(axes, scales or [], strict=True)]
    operands = (None, None, Const(np.array(sizes))) if scales is None else (None, Const(np.array(scales, np.float32)))
    one_axis = {name: value for name, value in present.items() if name != "axes"}
    judge = lambda x, *_: resized(x, axes, to, scales, one_axis)  # noqa: E731 - one judge per case
    formula = lambda x, *_: judge(torch.as_tensor(x)).numpy()  # noqa: E731 - for the reference several axes take seconds
    label = spelled({"x": list(x), "scales": scales, "sizes": sizes, **present})
    return case("Resize", numbers(*x), *operands, judge=judge, label=label, formula=formula, **present)


COORDINATES = ["half_pixel", "align_corners", "pytorch_half_pixel", "asymmetric"]
IMAGE = (1, 2, 3, 4)
CASES = [
    resize(IMAGE, sizes=[1, 2, *to], mode=mode, coordinate_transformation_mode=coordinates)
    for mode in ("nearest", "linear", "cubic")
    for coordinates in COORDINATES
    for to in ([5, 7], [2, 3], [1, 9])
    if not (mode == "cubic" and to == [1, 9])
]
CASES += [
    resize(IMAGE, scales=[1.0, 1.0, *by], mode=mode, coordinate_transformation_mode=coordinates)
    for mode in ("nearest", "linear", "cubic")
    for coordinates in ("half_pixel", "asymmetric")
    for by in ([2.0, 2.0], [0.6, 1.7])
]
CASES += [
    resize(IMAGE, sizes=[1, 2, 5, 3], mode="nearest", nearest_mode=mode, coordinate_transformation_mode=coordinates)
    for mode in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    for coordinates in ("half_pixel", "asymmetric")
]
CASES += [resize((1, 1, 7, 8), sizes=[1, 1, 3, 4], mode=mode, antialias=1) for mode in ("linear", "cubic")]
CASES += [resize((1, 1, 3, 4), sizes=[1, 1, 5, 9], mode=mode, antialias=1) for mode in ("linear", "cubic")]
CASES += [
    resize(IMAGE, sizes=[1, 2, 5, 7], mode="cubic", **more)
    for more in variants(cubic_coeff_a=[-0.5, None], exclude_outside=[1, None])
]
CASES += [
    resize((2, 3, 4), sizes=[2, 3, 7], mode="linear"),
    resize((3, 4), scales=[2.0, 1.5], mode="nearest"),
    resize((1, 2, 2, 3, 2), scales=[1.0, 1.0, 2.0, 1.5, 1.0], mode="linear"),
    resize(IMAGE, sizes=[5, 7], axes=[2, 3], mode="linear"),
    resize(IMAGE, sizes=[7, 5], axes=[3, 2], mode="linear"),
    resize(IMAGE, scales=[2.0], axes=[-1], mode="nearest"),
]
PYTORCH = [
    ("nearest", {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}, {}),
    ("bilinear", {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}, {"align_corners": False}),
    ("bilinear", {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, {"align_corners": True}),
    ("bicubic", {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"}, {"align_corners": False}),
]
CASES += [
    case(
        "Resize",
        numbers(1, 2, 4, 5),
        None,
        Const(np.array([1, 1, 2, 1.6], np.float32)),
        judge=lambda x, *_, n=name, k=keywords: F.interpolate(x, size=(8, 8), mode=n, **k),
        label=f"pytorch-{name}-{keywords}",
        formula=lambda x, *_, n=name, k=keywords: F.interpolate(torch.as_tensor(x), size=(8, 8), mode=n, **k).numpy(),
        also=((numbers(2, 1, 4, 5), None, Const(np.array([1, 1, 2, 1.6], np.float32))),),
        **given,
    )
    for name, given, keywords in PYTORCH
]


def cropped(x: torch.Tensor, region: list[float], sizes: list[int], outside: float) -> torch.Tensor:
    """Axes 2 and 3 sampled evenly between two fractions of their length; `outside` beyond the ends."""
    for place, m in enumerate(sizes):
        axis, n = place + 2, x.shape[place + 2]
        at = torch.linspace(region[place] * (n - 1), region[place + 2] * (n - 1), m, dtype=x.dtype)
        weights = torch.relu(1 - (at[:, None] - torch.arange(n)).abs())
        beyond = (at < 0) | (at > n - 1)
        sampled = torch.tensordot(x, torch.where(beyond[:, None], 0, weights), dims=([axis], [1])).movedim(-1, axis)
        x = sampled + (outside * beyond).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return x


def crop(region: list[float], axes: bool) -> Case:
    """`region` holds the starts and the ends of axes 2 and 3."""
    whole = region if axes else [0, 0, *region[:2], 1, 1, *region[2:]]
    sizes = np.array([5, 7] if axes else [1, 2, 5, 7])
    return case(
        "Resize",
        numbers(1, 2, 4, 6),
        Const(np.array(whole, dtype=np.float64)),
        None,
        Const(sizes),
        judge=lambda x, *_: cropped(x, region, [5, 7], 0.0),
        formula=lambda x, *_: cropped(torch.as_tensor(x), region, [5, 7], 0.0).numpy(),
        label=f"crop-{region}-{axes}",
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        axes=[2, 3] if axes else None,
    )


CASES += [crop(region, axes) for region in ([0.2, 0.4, 0.6, 0.9], [0.0, -0.2, 1.3, 1.0]) for axes in (True, False)]


def in_proportion(policy: str, sizes: list[int], also: tuple[int, ...], **given: Any) -> Case:
    """One scale for both axes, that of one of them; the sizes that follow are rounded to the nearest."""
    pick = min if policy == "not_larger" else max

    def judge(x: torch.Tensor, *_: Any) -> torch.Tensor:
        scale = float(pick(np.float32(m) / np.float32(n) for m, n in zip(sizes, x.shape[2:], strict=True)))
        to = [int(np.floor(scale * n + 0.5)) for n in x.shape[2:]]
        for axis, m in zip((2, 3), to, strict=True):
            n = x.shape[axis]
            wide = matrix(n + 40, int(np.floor(np.float32(scale) * np.float32(n + 40))), scale, given)[:m]
            ends = torch.cat([wide[:, : n - 1], wide[:, n - 1 :].sum(1, keepdim=True)], 1)
            x = torch.tensordot(x, ends, dims=([axis], [1])).movedim(-1, axis)
        return x

    operands = None, None, Const(np.array(sizes))
    return case(
        "Resize",
        numbers(1, 2, 3, 5),
        *operands,
        judge=judge,
        formula=lambda x, *_: judge(torch.as_tensor(x)).numpy(),
        label=spelled({"policy": policy, "sizes": sizes, **given}),
        also=((numbers(*also), *operands),),
        axes=[2, 3],
        keep_aspect_ratio_policy=policy,
        **given,
    )


CASES += [
    in_proportion(policy, sizes, (1, 1, 8, 6), mode=mode, coordinate_transformation_mode=place)
    for policy in ("not_larger", "not_smaller")
    for sizes in ([7, 8], [4, 13], [2, 2])
    for mode in ("nearest", "linear", "cubic")
    for place in ("half_pixel", "asymmetric")
]


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


def test_sizes_computed_from_the_shape_of_the_image() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["items"], end=2),
        helper.make_node("Shape", ["x"], ["image"], start=2),
        helper.make_node("Mul", ["image", "two"], ["twice"]),
        helper.make_node("Concat", ["items", "twice"], ["sizes"], axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2, None, None]) for name in "xy")
    graph = helper.make_graph(nodes, "twice", [x], [y], [numpy_helper.from_array(np.array(2), "two")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    handle = explain.Model(model)
    for shape in [(1, 2, 3, 4), (2, 2, 5, 1)]:
        leaf = torch.tensor(numbers(*shape), dtype=torch.float32, requires_grad=True)
        F.interpolate(leaf, scale_factor=2, mode="bilinear").sum().backward()
        found = gradients(handle, {"x": leaf.detach().numpy()})
        assert found["x"] == pytest.approx(leaf.grad.numpy(), abs=1e-5)


X, SIZES = numbers(1, 1, 3, 4), Const(np.array([1, 1, 5, 7]))
REFUSED = [
    (
        case(
            "Resize",
            X,
            None,
            None,
            SIZES,
            judge=None,
            mode="linear",
            keep_aspect_ratio_policy="not_larger",
            antialias=1,
        ),
        "attribute keep_aspect_ratio_policy='not_larger' is not covered with 'antialias'",
    ),
]


@pytest.mark.parametrize(("subject", "reason"), REFUSED, ids=lambda value: str(value)[:30])
def test_refusals_name_operator_node_opset_and_attribute(subject: Case, reason: str) -> None:
    with pytest.raises(explain.UnsupportedOperator, match=reason) as caught:
        explain.compile(subject.model(items=True), "vjp")
    assert (caught.value.op, caught.value.node, caught.value.opset) == (subject.op, "under_test", 18)
