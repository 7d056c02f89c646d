"""LSTM, GRU and RNN as their specification's equations, step by step in PyTorch (float64): every form of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Tensor = torch.Tensor
Function = Callable[[Tensor], Tensor]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
# A function of x and its parameters; how many of alpha and beta it takes; their defaults.
FUNCTIONS: dict[str, tuple[Callable[[Tensor, float, float], Tensor], tuple[float, ...]]] = {
    "Affine": (lambda x, a, b: a * x + b, (1.0, 0.0)),
    "Elu": (lambda x, a, _: torch.where(x >= 0, x, a * (x.exp() - 1)), (1.0,)),
    "HardSigmoid": (lambda x, a, b: (a * x + b).clamp(0, 1), (0.2, 0.5)),
    "LeakyRelu": (lambda x, a, _: torch.where(x >= 0, x, a * x), (0.01,)),
    "Relu": (lambda x, *_: x.clamp(min=0), ()),
    "ScaledTanh": (lambda x, a, b: a * torch.tanh(b * x), (1.0, 1.0)),
    "Sigmoid": (lambda x, *_: 1 / (1 + (-x).exp()), ()),
    "Softplus": (lambda x, *_: (1 + x.exp()).log(), ()),
    "Softsign": (lambda x, *_: x / (1 + x.abs()), ()),
    "Tanh": (lambda x, *_: torch.tanh(x), ()),
    "ThresholdedRelu": (lambda x, a, _: torch.where(x >= a, x, 0.0), (1.0,)),
}


def functions(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], clip: float | None
) -> list[Function]:
    """Activations with what they consume of the parameters, in their order, and the clip before each; ONNX Runtime
    does not clip the cell of an LSTM, which the third of its activations is given."""
    given: tuple[Iterator[float], Iterator[float]] = (iter(alphas), iter(betas))

    def one(which: int, name: str) -> Function:
        f, defaults = FUNCTIONS[name]
        a, b = [*(next(source, default) for source, default in zip(given, defaults, strict=False)), 0.0, 0.0][:2]
        bound = torch.inf if clip is None or (len(names) % 3 == 0 and which % 3 == 2) else clip
        return lambda x: f(x.clamp(-bound, bound), a, b)

    return [one(which, name) for which, name in enumerate(names)]


@dataclass(frozen=True)
class Weights:
    """Those of one direction; `p` are the peepholes (i, o, f)."""

    w: Tensor
    r: Tensor
    b: Tensor
    p: Tensor


Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def lstm(of: Weights, f: Function, g: Function, h: Function, input_forget: int = 0) -> Step:
    def step(x: Tensor, y: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, o, k, n = (x @ of.w.T + y @ of.r.T + of.b.sum(0)).chunk(4, -1)
        p_i, p_o, p_f = of.p
        i = f(i + p_i * c)
        k = 1 - i if input_forget else f(k + p_f * c)
        c = k * c + i * g(n)
        return f(o + p_o * c) * h(c), c

    return step


def gru(of: Weights, f: Function, g: Function, linear_before_reset: int = 0) -> Step:
    (w_z, w_r, w_h), (r_z, r_r, r_h) = of.w.chunk(3), of.r.chunk(3)
    (a_z, a_r, a_h), (b_z, b_r, b_h) = of.b[0].chunk(3), of.b[1].chunk(3)

    def step(x: Tensor, y: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        z, r = f(x @ w_z.T + y @ r_z.T + a_z + b_z), f(x @ w_r.T + y @ r_r.T + a_r + b_r)
        inner = r * (y @ r_h.T + b_h) if linear_before_reset else (r * y) @ r_h.T + b_h
        return (1 - z) * g(x @ w_h.T + inner + a_h) + z * y, c

    return step


def rnn(of: Weights, f: Function) -> Step:
    return lambda x, y, c: (f(x @ of.w.T + y @ of.r.T + of.b.sum(0)), c)


STEPS: dict[str, Callable[..., Step]] = {"LSTM": lstm, "GRU": gru, "RNN": rnn}


def recurrence(op: str, **attributes: Any) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """The operator with its attributes as a function of its inputs (None where absent): Y, Y_h and Y_c."""

    def run(
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None = None,
        lengths: Tensor | None = None,
        h0: Tensor | None = None,
        c0: Tensor | None = None,
        p: Tensor | None = None,
        hidden_size: int = 0,
        direction: str = "forward",
        layout: int = 0,
        activations: Sequence[str] = (),
        activation_alpha: Sequence[float] = (),
        activation_beta: Sequence[float] = (),
        clip: float | None = None,
        **own: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        turns = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
        names = activations or DEFAULTS[op] * len(turns)
        each = functions(names, activation_alpha, activation_beta, clip)
        x, h0, c0 = (v.transpose(0, 1) if v is not None and layout else v for v in (x, h0, c0))
        n, hidden, count = x.shape[1], r.shape[-1], len(names) // len(turns)
        none = x.new_zeros(len(turns), n, hidden)
        ys, last = [], []
        for d, backwards in enumerate(turns):
            bias = x.new_zeros(2, GATES[op] * hidden) if b is None else b[d].reshape(2, -1)
            peepholes = x.new_zeros(3, hidden) if p is None else p[d].reshape(3, -1)
            step = STEPS[op](Weights(w[d], r[d], bias, peepholes), *each[d * count : (d + 1) * count], **own)
            states = (none if h0 is None else h0)[d], (none if c0 is None else c0)[d]
            y, h, c = walk(step, x, *states, lengths, backwards)
            ys.append(y)
            last.append((h, c))
        y, h, c = torch.stack(ys, 1), *(torch.stack(ends) for ends in zip(*last, strict=True))
        return (y.permute(2, 0, 1, 3), h.transpose(0, 1), c.transpose(0, 1)) if layout else (y, h, c)

    return lambda *inputs: run(*inputs, **attributes)


def walk(
    step: Step, x: Tensor, h: Tensor, c: Tensor, lengths: Tensor | None, backwards: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Every row over its own length, from its own end where backwards; beyond it Y is 0. A row of no steps ends in 0,
    as ONNX Runtime has it."""
    ends = torch.full([x.shape[1]], len(x)) if lengths is None else lengths
    some = (ends > 0)[:, None]
    h, c = torch.where(some, h, 0.0), torch.where(some, c, 0.0)
    ys = [torch.zeros_like(h)] * len(x)
    for t in reversed(range(len(x))) if backwards else range(len(x)):
        alive = (t < ends)[:, None]
        after = step(x[t], h, c)
        h, c = torch.where(alive, after[0], h), torch.where(alive, after[1], c)
        ys[t] = torch.where(alive, h, 0.0)
    return torch.stack(ys), h, c
