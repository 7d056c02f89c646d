"""Lists of tensors as older exporters write them: resolved where their parts are known, else refused by name."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import explain
from tests.explain.control import Twin, check_against, parsed
from tests.explain.graphs import numbers

HELD = {
    "zero": np.array(0),
    "one": np.array(1),
    "two": np.array(2),
    "last": np.array(-1),
    "sizes": np.array([1, 3]),
    "axis": np.array([1]),
}


def on_parts(nodes: str) -> onnx.ModelProto:
    return parsed(f"g (float[n, 4] x) => (float[n, m] y) {{ a = Sin (x) b = Exp (x) {nodes} }}", HELD)


@pytest.mark.parametrize(
    ("nodes", "twin"),
    [
        ("s = SequenceConstruct (a, b) y = SequenceAt (s, last)", lambda x: x.exp()),
        ("s = SequenceConstruct (a, b) t = Identity (s) y = SequenceAt (t, zero)", lambda x: x.sin()),
        (
            "e = SequenceEmpty () s = SequenceInsert (e, a) t = SequenceInsert (s, b, zero)"
            " u = SequenceInsert (t, x, one) y = ConcatFromSequence <axis = 1> (u)",
            lambda x: torch.cat([x.exp(), x, x.sin()], 1),
        ),
        (
            "s = SequenceConstruct (a, b, x) t = SequenceErase (s, zero) u = SequenceErase (t)"
            " y = ConcatFromSequence <axis = 1> (u)",
            lambda x: x.exp(),
        ),
        (
            "s = SequenceConstruct (a, b) c = ConcatFromSequence <axis = 2, new_axis = 1> (s)"
            " y = ReduceProd <keepdims = 0> (c, axis)",
            lambda x: torch.stack([x.sin(), x.exp()], 2).prod(1),
        ),
        (
            "s = SequenceConstruct (a, b) l = SequenceLength (s) f = Cast <to = 1> (l) y = Mul (b, f)",
            lambda x: 2 * x.exp(),
        ),
        ("s = SplitToSequence <axis = 1> (a, sizes) y = SequenceAt (s, last)", lambda x: x.sin()[:, 1:]),
        ("s = SplitToSequence <axis = 1> (a, two) y = SequenceAt (s, one)", lambda x: x.sin()[:, 2:]),
        ("s = SplitToSequence <axis = 1> (a) y = SequenceAt (s, last)", lambda x: x.sin()[:, 3:]),
        (
            "s = SplitToSequence <axis = 1, keepdims = 0> (a) p = SequenceAt (s, one) y = Unsqueeze (p, axis)",
            lambda x: x.sin()[:, 1:2],
        ),
        (
            "s = SplitToSequence <axis = 1> (a, one) c = ConcatFromSequence <axis = 1> (s) y = Mul (c, b)",
            lambda x: x.sin() * x.exp(),
        ),
    ],
)
def test_known_parts(nodes: str, twin: Twin) -> None:
    model = explain.Model(on_parts(nodes))
    for n in (1, 5):
        check_against(model, twin, {"x": numbers(n, 4, seed=n)})


@pytest.mark.parametrize(
    ("nodes", "operator"),
    [
        ("s = SequenceConstruct (a, b) m = Size (x) i = Div (m, m) y = SequenceAt (s, i)", "SequenceAt"),
        ("s = SplitToSequence <axis = 1> (a, two) y = SequenceAt (s, last)", "SequenceAt"),
        (
            "s = SplitToSequence <axis = 1> (a, two) c = ConcatFromSequence <axis = 0> (s) y = Mul (c, c)",
            "ConcatFromSequence",
        ),
    ],
)
def test_other_parts_are_refused_by_name(nodes: str, operator: str) -> None:
    with pytest.raises(explain.UnsupportedOperator, match=f"no gradient rule for {operator}"):
        explain.compile(on_parts(nodes), "vjp")


COLLECTING = """
g (float[n, t, 4] x) => (float[n, m] y) {
    e = SequenceEmpty ()
    h0 = Gather <axis = 1> (x, zero)
    shape = Shape <start = 1, end = 2> (x)
    size = Squeeze (shape)
    h, s = Loop <body = step (int64 i, bool go, float[n, 4] h, seq(float[n, 4]) given)
        => (bool on, float[n, 4] after, seq(float[n, 4]) taken) {
            part = Gather <axis = 1> (x, i)
            after = Sin (part)
            kept = Mul (after, h)
            taken = SequenceInsert (given, kept)
            on = Identity (go)
        }> (size, , h0, e)
    END
}
"""


@pytest.mark.parametrize(
    ("end", "function"),
    [
        ("c = ConcatFromSequence <axis = 1, new_axis = 1> (s) y = ReduceProd <keepdims = 0> (c, axis)", "prod"),
        ("c = ConcatFromSequence <axis = 0, new_axis = 1> (s) y = Gather (c, last)", "last"),
        ("y = SequenceAt (s, last)", "last"),
        ("y = ConcatFromSequence <axis = 1> (s)", "joined"),
        ("y = ConcatFromSequence <axis = -1> (s)", "joined"),
    ],
)
def test_what_a_loop_collects(end: str, function: str) -> None:
    def twin(x: torch.Tensor) -> torch.Tensor:
        h, kept = x[:, 0], []
        for part in x.unbind(1):
            kept.append(part.sin() * h)
            h = part.sin()
        whole = torch.stack(kept, 1)
        return {"prod": whole.prod(1), "last": kept[-1], "joined": whole.flatten(1)}[function]

    model = explain.Model(parsed(COLLECTING.replace("END", end), HELD))
    for n, t in ((1, 1), (5, 7)):
        check_against(model, twin, {"x": numbers(n, t, 4, seed=t) + np.float32(0.5)})


def test_a_sequence_that_steps_read_is_refused_by_name() -> None:
    read = "l = SequenceLength (given) f = Cast <to = 1> (l) q = Add (part, f) after = Sin (q)"
    text = COLLECTING.replace("after = Sin (part)", read)
    model = parsed(text.replace("END", "y = Identity (h)"), HELD)
    with pytest.raises(explain.UnsupportedOperator, match="its state 'e' is a sequence, not a tensor"):
        explain.compile(model, "vjp")


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.cell(torch.cat([x, h], 1)))


class Scripted(nn.Module):
    """A recurrent layer written out, with its states in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell()
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.zeros([x.size(0), 4])
        states: list[torch.Tensor] = []
        for step in range(x.size(1)):
            h = self.cell(x[:, step], h)
            states.append(h)
        return self.head(torch.stack(states, 1).mean(1) * h)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [11, 13, 17])
def test_what_the_older_exporter_makes_of_a_scripted_layer(opset: int) -> None:
    torch.manual_seed(0)
    file, network = io.BytesIO(), Scripted()
    axes = {"x": {0: "n", 1: "t"}}
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
    sample = (torch.randn(2, 5, 4),)
    torch.onnx.export(torch.jit.script(network), sample, file, dynamo=False, opset_version=opset, **names)
    model, twin = explain.Model(file.getvalue()), Scripted().double()
    twin.load_state_dict(network.state_dict())
    torch.set_default_dtype(torch.float64)
    try:
        for n, t in ((1, 1), (5, 7), (2, 200)):
            check_against(model, twin, {"x": numbers(n, t, 4, seed=t)})
    finally:
        torch.set_default_dtype(torch.float32)
