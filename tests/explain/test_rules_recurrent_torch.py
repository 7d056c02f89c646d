"""PyTorch's LSTM, GRU and RNN as its exporters write them, against its autograd: any length and number of rows."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import explain
from exporters import export_torch
from tests.explain.single import session, variants

X, H = 3, 8
BOUND = 1e-4
SIZES = [(length, n) for length in (1, 7, 200) for n in (1, 5)]
KINDS = {"LSTM": {}, "GRU": {}, "RNN": {}, "RNN of Relu": {"nonlinearity": "relu"}}


class Recurrent(torch.nn.Module):
    """All states of a stack, or of a stack on rows of different lengths."""

    def __init__(self, kind: str, layers: int = 1, both: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        torch.manual_seed(len(kind) + layers)
        maker = getattr(torch.nn, kind.split()[0])
        given = {"num_layers": layers, "bidirectional": both, "batch_first": batch_first}
        self.stack = maker(X, H, **given, **KINDS[kind])

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """[N, T, H] of [N, T, X]."""
        if lengths is None:
            return self.stack(x)[0]
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.stack(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def exported(module: torch.nn.Module, *example: torch.Tensor, batch: int = 0) -> onnx.ModelProto:
    """By PyTorch's older exporter, which leaves both the rows and the length open."""
    buffer, names = io.BytesIO(), ["x", "lengths"][: len(example)]
    axes = {"x": {batch: "N", 1 - batch: "T"}, "y": {batch: "N", 1 - batch: "T"}, "lengths": {0: "N"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            example,
            buffer,
            dynamo=False,
            opset_version=18,
            input_names=names,
            output_names=["y"],
            dynamic_axes={name: axes[name] for name in (*names, "y")},
        )
    return onnx.load_from_string(buffer.getvalue())


def inputs(length: int, n: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng((length, n))
    lengths = random.integers(1, length + 1, n)
    lengths[0] = length
    return {"x": random.standard_normal((n, length, X)).astype(np.float32), "lengths": lengths}


def check(module: torch.nn.Module, model: explain.Model, sizes: Any = SIZES, factor: float = 1.0) -> None:
    """One program at all sizes; `factor` is what the judge's gradient is multiplied by."""
    program = explain.compile(model, "vjp")
    runtime, judge = session(program.model), module.double()
    for length, n in sizes:
        feeds = {name: array for name, array in inputs(length, n).items() if name in program.inputs}
        x = torch.tensor(feeds["x"], dtype=torch.float64, requires_grad=True)
        swap = model.batch_axis("x") == 1
        rest = [torch.tensor(feeds["lengths"])] if "lengths" in feeds else []
        value = judge(x.transpose(0, 1) if swap else x, *rest)
        value = value.transpose(0, 1) if swap else value
        cotangent = np.random.default_rng(1).standard_normal(value.shape).astype(np.float32)
        (value * torch.tensor(cotangent)).sum().backward()
        found = runtime.run(["y", "x.gradient"], feeds | {"y.cotangent": cotangent})
        np.testing.assert_allclose(found[0], value.detach(), atol=2e-6, err_msg="forward value")
        error = explain.gradient_error(found[1], factor * np.asarray(x.grad)).max()
        assert error <= BOUND, f"T = {length}, N = {n}: {error}"


@pytest.mark.parametrize("given", variants(kind=KINDS, layers=[1, 3], both=[False, True]), ids=str)
def test_stacks(given: dict[str, Any]) -> None:
    module = Recurrent(**given)
    check(module, explain.Model(exported(module, torch.randn(2, 5, X))))


@pytest.mark.parametrize("given", variants(kind=["LSTM", "GRU", "RNN"], layers=[1, 3], both=[False, True]), ids=str)
def test_rows_of_different_lengths(given: dict[str, Any]) -> None:
    module = Recurrent(**given)
    example = torch.randn(2, 5, X), torch.tensor([5, 3])
    check(module, explain.Model(exported(module, *example)))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_time_first(kind: str) -> None:
    """Rows along axis 1, as PyTorch has them if not told otherwise."""
    module = Recurrent(kind, batch_first=False)
    proto = exported(module, torch.randn(5, 2, X), batch=1)
    check(module, explain.Model(proto, batch_axes={"x": 1, "y": 1}))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_the_exporter_of_this_house(kind: str) -> None:
    """PyTorch's newer exporter fixes the length."""
    module = Recurrent(kind, layers=2, both=True)
    model = explain.Model(export_torch(module, [inputs(7, 2)["x"]], ["x"], ["y"]))
    check(module, model, [(7, n) for n in (1, 5)])


def test_a_wrong_gradient_is_found_out() -> None:
    module = Recurrent("LSTM")
    with pytest.raises(AssertionError, match="T = 1, N = 1"):
        check(module, explain.Model(exported(module, torch.randn(2, 5, X))), factor=1.001)
