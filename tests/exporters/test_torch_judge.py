"""The judges are right themselves: against formulas worked out by hand, and finite differences."""

import numpy as np
import pytest
import torch

from exporters.judging import attribution_errors, gradient_errors
from exporters.judging.torch_judge import TorchJudge

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
TARGET = np.array([0, 1, 1, 0, 1])


class Quadratic(torch.nn.Module):
    """y = [Σ x², Σ 3x]."""

    def forward(self, x):
        return torch.stack([(x * x).sum(dim=1), 3 * x.sum(dim=1)], dim=1)


class Mixed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(4, 2)

    def forward(self, x, codes):
        return torch.cat(
            [torch.sin(x[:, :1]) * x[:, 1:2], x[:, 2:] * self.table(codes).sum(dim=(1, 2))[:, None]], dim=1
        )


def test_gradients_are_those_of_the_formula():
    found = TorchJudge(Quadratic(), ["x"]).gradient({"x": X}, TARGET)["x"]
    expected = np.where(TARGET[:, None] == 0, 2 * X.astype(float), 3.0)
    assert found == pytest.approx(expected, rel=1e-12)


def test_codes_have_no_gradient_and_numbers_do():
    net, codes = Mixed(), np.array([[0, 1], [2, 3], [1, 1], [3, 0], [2, 2]])
    judge = TorchJudge(net, ["x", "codes"])
    found = judge.gradient({"x": X, "codes": codes}, TARGET)
    assert set(found) == {"x"}
    step = 1e-6
    for place in range(3):
        moved = [X.astype(np.float64) + sign * step * np.eye(3)[place] for sign in (1, -1)]
        with torch.no_grad():
            ends = [net.double()(torch.from_numpy(each), torch.from_numpy(codes)).numpy() for each in moved]
        slope = (ends[0] - ends[1])[np.arange(5), TARGET] / (2 * step)
        assert found["x"][:, place] == pytest.approx(slope, abs=1e-7)


def test_the_network_that_is_judged_by_is_not_changed():
    net = torch.nn.Linear(3, 2)
    TorchJudge(net, ["x"]).rounded()
    assert net.weight.dtype == torch.float32


def test_the_rounded_judge_is_close_and_not_equal():
    torch.manual_seed(0)
    judge = TorchJudge(torch.nn.Sequential(torch.nn.Linear(3, 9), torch.nn.Tanh(), torch.nn.Linear(9, 2)), ["x"])
    gap = gradient_errors(judge.rounded().gradient({"x": X}, TARGET), judge.gradient({"x": X}, TARGET))
    assert 0 < gap.max() < 1e-5


def test_errors_are_relative_and_by_row():
    judged = {"a": np.array([[3.0, 0.0], [1.0, 0.0]]), "b": np.array([[4.0], [0.0]])}
    found = {"a": judged["a"] + [[0.0, 0.5], [0.0, 0.0]], "b": judged["b"]}
    assert gradient_errors(found, judged) == pytest.approx([0.1, 0.0])
    assert attribution_errors(found, judged) == pytest.approx([0.125, 0.0])
