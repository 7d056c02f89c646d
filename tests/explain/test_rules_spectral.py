"""DFT and STFT against PyTorch: real and complex, inverse, one-sided, cut off and padded, along any axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import explain
from tests.explain.single import (
    Case,
    Const,
    Fed,
    assert_close,
    case,
    check,
    declare_ranks,
    gradients,
    numbers,
    spelled,
)


def as_complex(x: torch.Tensor) -> torch.Tensor:
    return torch.complex(x[..., 0], x[..., 1] if x.shape[-1] == 2 else torch.zeros_like(x[..., 0]))


def transformed(x: torch.Tensor, m: int | None, axis: int, inverse: int, onesided: int) -> torch.Tensor:
    z = as_complex(x)
    if onesided and inverse:
        return torch.fft.irfft(z, m, axis)[..., None]
    if onesided:
        return torch.view_as_real(torch.fft.rfft(z.real, m, axis))
    return torch.view_as_real((torch.fft.ifft if inverse else torch.fft.fft)(z, m, axis))


def dft(shape: tuple[int, ...], m: int | None = None, opset: int = 18, also: Any = (), **given: Any) -> Case:
    axis = given.get("axis")
    place = (1 if opset < 20 else -2) if axis is None else axis
    place = place if place >= 0 else place + len(shape)
    judge = lambda x, *_: transformed(x, m, place, given.get("inverse", 0), given.get("onesided", 0))  # noqa: E731
    operands: list[Any] = [None if m is None else Const(np.array(m))]
    if opset >= 20 and axis is not None:
        operands.append(Const(np.array(given.pop("axis"))))
    while operands and operands[-1] is None:
        operands.pop()
    return case(
        "DFT",
        numbers(*shape),
        *operands,
        judge=judge,
        formula=lambda x, *_: judge(torch.as_tensor(x)).numpy(),
        label=f"{shape}-{m}-{opset}-axis={axis}-{spelled(given)}",
        also=tuple((numbers(*size), *operands) for size in also),
        opset=opset,
        **given,
    )


CASES = [
    dft((2, 5, last), m, inverse=inverse, also=((1, 8, last),))
    for last in (1, 2)
    for inverse in (0, 1)
    for m in (None, 3, 7)
]
CASES += [dft((2, size, 1), m, onesided=1, also=((3, 9, 1),)) for size in (5, 6) for m in (None, 4, 9)]
CASES += [
    dft((2, 3, 4, 2), axis=2),
    dft((2, 3, 4, 1), axis=0, onesided=1),
    dft((2, 3, 4, 2), axis=-2, inverse=1),
    dft((2, 4, 3, 1), opset=20),
    dft((2, 4, 3, 2), 5, opset=20, axis=1, inverse=1),
    dft((2, 4, 3, 2), opset=20, axis=-3),
    dft((2, 4, 2), opset=20, axis=1, inverse=1, onesided=1),
    dft((2, 4, 2), 6, opset=20, axis=1, inverse=1, onesided=1),
    dft((2, 4, 2), 7, opset=20, axis=1, inverse=1, onesided=1),
]


def framed(x: torch.Tensor, step: int, window: torch.Tensor | None, size: int, onesided: bool) -> torch.Tensor:
    """Frame by frame."""
    z = as_complex(x) if x.ndim == 3 else x
    frames = [z[:, i : i + size] for i in range(0, z.shape[1] - size + 1, step)]
    parts = torch.stack(frames, 1) * (1.0 if window is None else window)
    spectrum = torch.fft.rfft(parts.real if parts.is_complex() else parts) if onesided else torch.fft.fft(parts)
    return torch.view_as_real(spectrum)


WINDOW = np.hanning(8)[1:7]


def stft(shape: tuple[int, ...], step: int, window: bool, size: bool, onesided: int | None, also: Any = ()) -> Case:
    weights, length = WINDOW if window else None, 6 if size else None
    operands = (
        Const(np.array(step)),
        None if weights is None else Const(weights),
        *([Const(np.array(6))] if length else []),
    )
    used = None if weights is None else torch.as_tensor(weights)
    judge = lambda x, *_: framed(x, step, used, 6, onesided != 0)  # noqa: E731 - one judge per case
    return case(
        "STFT",
        numbers(*shape),
        *operands,
        judge=judge,
        formula=lambda x, *_: judge(torch.as_tensor(x)).numpy(),
        label=f"{shape}-{step}-{window}-{size}-{onesided}",
        also=tuple((numbers(*other), *operands) for other in also),
        onesided=onesided,
    )


CASES += [
    stft(shape, step, window, size, onesided, also=((1, 21, *shape[2:]),))
    for shape in ((2, 16, 1), (2, 16, 2))
    for step in (2, 5)
    for window, size in ((True, False), (False, True), (True, True))
    for onesided in ((1, 0) if shape[2] == 1 else (0,))
]


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


REFUSED = [
    (case("DFT", numbers(2, 4, 3, 2), None, Fed(np.array([1])), judge=None, opset=20), "its axis is computed"),
    (
        case("DFT", numbers(2, 4, 2), Const(np.array(5)), judge=None, inverse=1, onesided=1),
        "a one-sided inverse to dft_length=5 of 4 bins is not covered",
    ),
]


@pytest.mark.parametrize(("subject", "reason"), REFUSED, ids=lambda value: str(value)[:30])
def test_refusals_name_operator_and_node(subject: Case, reason: str) -> None:
    model = subject.model(items=True)
    declare_ranks(model, {"y": subject.variables["x0"]})
    with pytest.raises(explain.UnsupportedOperator, match=reason) as caught:
        explain.compile(model, "vjp")
    assert (caught.value.op, caught.value.node) == ("DFT", "under_test")


def mel_spectrogram() -> onnx.ModelProto:
    """Sound to the logarithm of energies in mel bands, its window and its bands made by operators of their own."""
    make = helper.make_node
    nodes = [
        make("HannWindow", ["size"], ["window"], periodic=1),
        make("STFT", ["x", "step", "window"], ["spectrum"]),
        make("ReduceSumSquare", ["spectrum", "last"], ["power"], keepdims=0),
        make("MelWeightMatrix", ["bands", "size", "rate", "low", "high"], ["bank"]),
        make("MatMul", ["power", "bank"], ["energy"]),
        make("Add", ["energy", "floor"], ["positive"]),
        make("Log", ["positive"], ["y"]),
    ]
    whole = {"size": 16, "step": 4, "bands": 5, "rate": 8000, "last": [-1]}
    parts = {"low": 0.0, "high": 4000.0, "floor": 1e-3}
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in whole.items()]
    constants += [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in parts.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "T", 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None, 5])
    graph = helper.make_graph(nodes, "sound", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_gradients_of_a_mel_spectrogram() -> None:
    model = mel_spectrogram()
    bank = bands()
    for shape in [(2, 40, 1), (1, 64, 1)]:
        leaf = torch.tensor(numbers(*shape), requires_grad=True)
        frames = leaf[..., 0].unfold(1, 16, 4) * torch.hann_window(16, dtype=torch.float64)
        power = torch.fft.rfft(frames).abs().square()
        torch.log(power @ bank + 1e-3).sum().backward()
        found = gradients(model, {"x": leaf.detach().numpy().astype(np.float32)})
        assert_close(found["x"], leaf.grad.numpy(), 1e-3, "gradient")


def bands() -> torch.Tensor:
    """The matrix as ONNX's reference implementation makes it."""
    names = ["bands", "size", "rate", "low", "high"]
    values = [np.array(5), np.array(16), np.array(8000), np.float32(0), np.float32(4000)]
    kinds = [TensorProto.INT64] * 3 + [TensorProto.FLOAT] * 2
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in zip(names, kinds, strict=True)]
    output = helper.make_tensor_value_info("m", TensorProto.FLOAT, None)
    node = helper.make_node("MelWeightMatrix", names, ["m"])
    proto = helper.make_model(
        helper.make_graph([node], "bank", inputs, [output]), opset_imports=[helper.make_opsetid("", 18)]
    )
    made = ReferenceEvaluator(proto).run(None, dict(zip(names, values, strict=True)))[0]
    return torch.as_tensor(np.asarray(made)).double()
