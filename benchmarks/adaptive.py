"""What the adaptive rule of integrated gradients costs and claims, against fixed Gauss-Legendre rules, on real rows.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.adaptive   # writes benchmarks/results/adaptive.md

Over 200 rows of trained models, against 2,000 Gauss-Legendre steps (never by the completeness gap). Attribution error
of a row: max|phi - phi'| / max|phi'|. `fixed` is the smallest number of Gauss-Legendre steps with at most the adaptive
rule's true error on that very row, which nobody can know beforehand, with the two ends of the path, which the adaptive
rule's evaluations have too; errors below 1e-6 count as that: float32 has no more. An evaluation of a stretch is one of
the model or one slope, whichever were more. Times are of one row a call, the median over 20 rows, Captum's with the
median number of fixed steps. `mlp` is a perceptron 30-64-64-2 with ReLU on the rows of `tumour`, trained here; the
others are recipes of the training module, of which `tumour` and `diabetes` are smooth (SiLU) and the rest have ReLU.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import explain
import training
from exporters import export_torch

RESULT = Path(__file__).parent / "results" / "adaptive.md"
MODELS, ROWS, TIMED = ("mlp", "digits", "xray", "tumour", "diabetes"), 200, 20
STEPS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
TOLERANCES, THREADS, FLOOR = (0.03, 0.01, 0.003), 2, 1e-6
Attribute = Callable[..., explain.Attribution]


@dataclass(frozen=True)
class Case:
    """A trained model with its rows, how to explain them, and what is right."""

    name: str
    network: torch.nn.Module
    x: np.ndarray
    base: np.ndarray
    attribute: Attribute
    right: np.ndarray

    def errors(self, phi: np.ndarray) -> np.ndarray:
        """The attribution error of every row."""
        pairs = zip(phi, self.right[: len(phi)], strict=True)
        return np.array([explain.attribution_error(mine, right) for mine, right in pairs])


def runner() -> Callable[[explain.Program, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Runs programs, one session each."""
    sessions: dict[str, Any] = {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait would take the cores

    def run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if program.digest not in sessions:
            sessions[program.digest] = onnxruntime.InferenceSession(program.serialize(), options)
        names = list(program.outputs)
        return dict(zip(names, sessions[program.digest].run(names, feeds), strict=True))

    return run


def case(name: str) -> Case:
    """Train, export and explain with 2,000 steps; test rows first."""
    network, module, key, x, base = bent_perceptron() if name == "mlp" else recipe(name)
    data = export_torch(module, [x[:4]], [key], ["output"])
    model, run = explain.Model(data), runner()

    def attribute(rows: np.ndarray, **options: Any) -> explain.Attribution:
        more = {"method": "integrated_gradients", "baseline": base, "run": run, **options}
        return explain.attribute(model, {key: rows}, **more)

    return Case(name, network.eval(), x, base, attribute, phi_of(attribute(x, n_steps=2000)))


def recipe(name: str) -> tuple[torch.nn.Module, torch.nn.Module, str, np.ndarray, np.ndarray]:
    """The network that gives logits, the one that is served, its input, rows and a baseline."""
    trained = training.train(name, progress=False)
    key = trained.recipe.input_names[0]
    x = np.concatenate([trained.test_inputs[key], trained.training_inputs[key]])[:ROWS]
    background = trained.background[key]
    base = np.zeros(x.shape[1:], x.dtype) if trained.recipe.pictures else background.mean(axis=0).astype(x.dtype)
    return trained.network, trained.module, key, x, base


def bent_perceptron() -> tuple[torch.nn.Module, torch.nn.Module, str, np.ndarray, np.ndarray]:
    """30-64-64-2 with ReLU on standardised measurements of tumours, 30 epochs of Adam."""
    from sklearn.datasets import load_breast_cancer

    torch.manual_seed(0)
    rows, labels = load_breast_cancer(return_X_y=True)
    x = torch.tensor((rows - rows.mean(axis=0)) / rows.std(axis=0), dtype=torch.float32)
    nn = torch.nn
    network = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(30):
        for batch in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), torch.tensor(labels)[batch]).backward()
            optimiser.step()
    return network, network, "x", x.numpy()[:ROWS], np.zeros(30, np.float32)


def phi_of(found: explain.Attribution) -> np.ndarray:
    """The attributions [N, ...] of the only input."""
    (phi,) = found.values.values()
    return phi


def captum(this: Case, rows: np.ndarray, n_steps: int) -> None:
    """Captum's answer on the original, for its predicted class."""
    from captum.attr import IntegratedGradients

    given = torch.tensor(rows)
    logits = this.network(given)
    target = logits.argmax(dim=1) if logits.shape[1] > 1 else 0
    IntegratedGradients(this.network).attribute(given, torch.tensor(this.base)[None], target=target, n_steps=n_steps)


def timed(this: Case, call: Callable[[np.ndarray], Any]) -> float:
    """Median milliseconds of one row a call."""
    call(this.x[:1])
    seconds = []
    for row in range(TIMED):
        start = time.perf_counter()
        call(this.x[row : row + 1])
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3


def measured(this: Case) -> list[str]:
    """The table's rows of one model."""
    fixed = {n: this.errors(phi_of(this.attribute(this.x, n_steps=n))) for n in STEPS}
    lines = []
    for tolerance in TOLERANCES:
        settings = {"rule": "adaptive", "tolerance": tolerance, "max_evals": 4000}
        found = this.attribute(this.x, **settings)
        phi, claimed = phi_of(found), next(iter((found.errors or {}).values()))
        errors, honest = this.errors(phi), np.abs(phi - this.right) <= claimed
        link = found.units == "logit"  # one more evaluation holds the program against the served model
        spent = np.array([figures["evaluations"] - link for figures in found.quality])
        own = np.array([needed(error, [fixed[n][row] for n in STEPS]) for row, error in enumerate(errors)])
        mine = timed(this, partial(this.attribute, **settings))
        theirs = timed(this, partial(captum, this, n_steps=int(np.median(own)) - 2))
        median, high = np.quantile(errors, [0.5, 0.95])
        lines.append(
            f"| {this.name} | {tolerance:g} | {np.median(spent):.0f} | {median:.1e} | {high:.1e} "
            f"| {honest.mean():.2%} | {honest.reshape(len(honest), -1).mean(axis=1).min():.0%} "
            f"| {np.median(own):.0f} | {np.median(own / spent):.2f} | {mine:.2f} | {theirs:.2f} | {theirs / mine:.1f} |"
        )
        print(lines[-1], flush=True)
    return lines


def needed(error: float, by_steps: list[float]) -> float:
    """Evaluations of the first fixed rule with at most this error; at least as many as the last, where none has."""
    allowed = max(error, FLOOR)
    enough = (n for n, each in zip(STEPS, by_steps, strict=True) if each <= allowed)
    return float(next(enough, STEPS[-1]) + 2)


def main() -> None:
    """Measure every model."""
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    names = ("model", "tolerance", "evaluations (median)", "true error (median)", "true error (95 %)")
    names += ("features within reported error", "worst row", "fixed (median)", "times ours (median)")
    names += ("ms", "ms Captum", "times as fast")
    lines = [line for name in MODELS for line in measured(case(name))]
    made = f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}, numpy {np.__version__}"
    where = f"{platform.machine()}, {os.cpu_count()} cores, {THREADS} threads, {platform.system()}"
    text = f"# The adaptive rule of integrated gradients\n\n{(__doc__ or '').split('adaptive.md')[1].strip()}\n\n"
    text += f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {where}; Python {platform.python_version()}, {made}.\n\n"
    RESULT.write_text(text + f"| {' | '.join(names)} |\n|{' --- |' * len(names)}\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
