"""What gradients of recurrent networks cost, in forward passes of the model itself on as many rows.

    python -m benchmarks.recurrent          # writes benchmarks/results/recurrent.md

Stacks of two layers over 200 steps. Model and program run in turns in one process; beside the wall time stands the CPU
time, which other work on the machine disturbs less. Integrated gradients are whole calls of `explain.attribute`.
"""

from __future__ import annotations

import argparse
import io
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import explain
from benchmarks.support.timing import Ratio, Row, in_turns, machine

RESULTS = Path(__file__).parent / "results" / "recurrent.md"
LAYERS, HIDDEN, WIDTH, LENGTH, STEPS = 2, 64, 16, 200, 50
KINDS = ("LSTM", "GRU", "RNN")
POINTS = ((1, 1), (1, 50), (8, 50))  # items, and points for each
BARRED = "LSTM"
HEAD = "| what | median (least to most) | forward passes | floor | bar | |\n|---|---|---|---|---|---|"


class Stack(torch.nn.Module):
    """Two layers, and two numbers made of the last state."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stack = getattr(torch.nn, kind)(WIDTH, HIDDEN, LAYERS, batch_first=True)
        self.head = torch.nn.Linear(HIDDEN, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 2] of [N, T, WIDTH]."""
        return torch.Tensor(self.head(self.stack(x)[0][:, -1]))


@cache
def network(kind: str) -> bytes:
    """The file, rows and length open."""
    buffer = io.BytesIO()
    axes = {"x": {0: "N", 1: "T"}, "y": {0: "N"}}
    given: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes, "opset_version": 18}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Stack(kind).eval(), (torch.zeros(2, LENGTH, WIDTH),), buffer, dynamo=False, **given)
    return buffer.getvalue()


def session(data: bytes, threads: int) -> onnxruntime.InferenceSession:
    """As the engine opens them: threads that wait do not spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def rows(n: int) -> np.ndarray:
    """Items [n, T, WIDTH]."""
    return np.random.default_rng(0).standard_normal((n, LENGTH, WIDTH)).astype(np.float32)


def gradients(kind: str, n: int, points: int, threads: int, repeats: int) -> list[Row]:
    """`path_gradient` at some points for some items, against the model on as many rows."""
    program = explain.compile(explain.Model(network(kind)), "path_gradient")
    own, walked, x = session(network(kind), threads), session(program.serialize(), threads), rows(n)
    alpha = np.tile(np.linspace(0, 1, points, dtype=np.float32), (n, 1))
    feeds = {"x": x, "x.baseline": np.zeros_like(x)[:, None], "alpha": alpha, "weight": alpha[:, :, None]}
    feeds |= {"target": np.ones((n, 1, 1), np.int64), "target.weight": np.ones((n, 1), np.float32)}
    every = np.repeat(x, points, axis=0)
    contenders = {"forward": lambda: own.run(None, {"x": every}), "walked": lambda: walked.run(None, feeds)}
    found = in_turns(contenders, repeats)
    what, passes = f"{kind}, {n} x {points} points", Ratio.of(found["walked"], found["forward"])
    bar = ("<= 4", passes.at_most(4.0)) if kind == BARRED and points > 1 else ()
    return [
        Row(f"{what}: forward pass", str(found["forward"]), "1", ""),
        Row(f"{what}: path_gradient", str(found["walked"]), str(passes), "2", *bar),
    ]


def integrated(kind: str, n: int, threads: int, repeats: int) -> list[Row]:
    """Integrated gradients of some items, against the model on as many rows as there are evaluations."""
    model, x, sessions = explain.Model(network(kind)), rows(n), {}
    own, every = session(network(kind), threads), np.repeat(x, STEPS + 2, axis=0)

    def run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if program.digest not in sessions:
            sessions[program.digest] = session(program.serialize(), threads)
        return dict(zip(program.outputs, sessions[program.digest].run(list(program.outputs), feeds), strict=True))

    def attribute() -> explain.Attribution:
        given: dict[str, Any] = {"method": "integrated_gradients", "n_steps": STEPS, "rule": "gauss_legendre"}
        return explain.attribute(model, {"x": x}, baseline={"x": np.zeros_like(x)}, target=1, run=run, **given)

    gap = max(abs(quality["completeness_gap"]) for quality in attribute().quality)
    found = in_turns({"forward": lambda: own.run(None, {"x": every}), "ours": attribute}, repeats)
    passes = Ratio.of(found["ours"], found["forward"])
    what = f"{kind}: integrated gradients, {STEPS} points and both ends, {n} rows"
    bar = ("<= 4", passes.at_most(4.0)) if kind == BARRED else ()
    return [Row(what, str(found["ours"]), f"{passes} an evaluation; gap {gap:.0e}", "2", *bar)]


def main() -> None:
    """Measure all of it and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one turn of the LSTM: does it work?")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    kinds, repeats = (KINDS[:1], 1) if given.quick else (KINDS, given.repeats)
    busy = os.getloadavg()[0] > (os.cpu_count() or 1) / 2
    lines = ["# What gradients of recurrent networks cost", ""]
    lines += ["The machine was busy with other work: CPU times say more than the wall's.", ""] if busy else []
    lines += [machine(given.threads)]
    lines += [f"Made by `python -m benchmarks.recurrent --threads {given.threads}`.", ""]
    lines += [f"{LAYERS} layers of {HIDDEN}, {LENGTH} steps of {WIDTH} numbers.", "", HEAD]
    print("\n".join(lines))
    for kind in kinds:
        parts = [gradients(kind, n, points, given.threads, repeats) for n, points in POINTS]
        parts += [integrated(kind, n, given.threads, repeats) for n in (1, 8)]
        for row in (row for part in parts for row in part):
            lines.append(str(row))
            print(row, flush=True)
    if not given.quick:
        given.results.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
