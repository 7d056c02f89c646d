"""What the adaptive rule of integrated gradients costs and claims, against fixed Gauss-Legendre rules, on real rows.

    python -m benchmarks.adaptive            # writes benchmarks/results/adaptive.md

Over 200 rows of trained models, against 2,000 Gauss-Legendre steps (never by the completeness gap). Attribution error
of a row: max|phi - phi'| / max|phi'|. `fixed, row by row` is the smallest number of steps with at most the adaptive
rule's true error on that very row, which nobody can know beforehand; `fixed, one for all` is the smallest number that
has at most the adaptive rule's 95th percentile of errors over all rows. Both count the two ends of the path, as the
adaptive rule's evaluations do, and errors below 1e-6 count as that: float32 has no more. Times are of one row a call,
the median over 20 rows.
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
MODELS, ROWS, TIMED = ("tumour", "diabetes", "digits"), 200, 20
STEPS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
TOLERANCES, THREADS, FLOOR = (0.1, 0.03, 0.01, 0.003), 2, 1e-6
Attribute = Callable[..., explain.Attribution]


@dataclass(frozen=True)
class Case:
    """A trained model with its rows, how to explain them, and what is right."""

    name: str
    trained: training.TrainedModel
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

    def run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if program.digest not in sessions:
            sessions[program.digest] = onnxruntime.InferenceSession(program.serialize(), options)
        names = list(program.outputs)
        return dict(zip(names, sessions[program.digest].run(names, feeds), strict=True))

    return run


def case(name: str) -> Case:
    """Train, export and explain with 2,000 steps; test rows first."""
    trained = training.train(name, progress=False)
    key = trained.recipe.input_names[0]
    x = np.concatenate([trained.test_inputs[key], trained.training_inputs[key]])[:ROWS]
    background = trained.background[key]
    base = np.zeros(x.shape[1:], x.dtype) if trained.recipe.pictures else background.mean(axis=0).astype(x.dtype)
    data = export_torch(trained.module, [background[:4]], [key], ["output"])
    model, run = explain.Model(data), runner()

    def attribute(rows: np.ndarray, **options: Any) -> explain.Attribution:
        more = {"method": "integrated_gradients", "baseline": base, "run": run, **options}
        return explain.attribute(model, {key: rows}, **more)

    return Case(name, trained, x, base, attribute, phi_of(attribute(x, n_steps=2000)))


def phi_of(found: explain.Attribution) -> np.ndarray:
    """The attributions [N, ...] of the only input."""
    (phi,) = found.values.values()
    return phi


def captum(this: Case, rows: np.ndarray, n_steps: int) -> None:
    """Captum's answer on the original, for its predicted class."""
    from captum.attr import IntegratedGradients

    network, given = this.trained.network.eval(), torch.tensor(rows)
    logits = network(given)
    target = logits.argmax(dim=1) if logits.shape[1] > 1 else 0
    IntegratedGradients(network).attribute(given, torch.tensor(this.base)[None], target=target, n_steps=n_steps)


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
        settings = {"rule": "adaptive", "tolerance": tolerance, "max_evals": 2000}
        found = this.attribute(this.x, **settings)
        phi, claimed = phi_of(found), next(iter((found.errors or {}).values()))
        errors, honest = this.errors(phi), np.abs(phi - this.right) <= claimed
        link = found.units in ("logit",) and not this.trained.recipe.task.startswith("regression")
        spent = np.array([figures["evaluations"] - link for figures in found.quality])
        own = np.array([_needed(error, [fixed[n][row] for n in STEPS]) for row, error in enumerate(errors)])
        everyone = _needed(np.quantile(errors, 0.95), [np.quantile(fixed[n], 0.95) for n in STEPS])
        steps = int(everyone) - 2 if np.isfinite(everyone) else STEPS[-1]
        mine = timed(this, partial(this.attribute, **settings))
        other = timed(this, partial(this.attribute, n_steps=steps))
        theirs = timed(this, lambda rows, n=steps: captum(this, rows, n))  # type: ignore[misc]  # bound now
        median, high = np.quantile(errors, [0.5, 0.95])
        lines.append(
            f"| {this.name} | {tolerance:g} | {np.median(spent):.0f} | {median:.1e} | {high:.1e} "
            f"| {honest.mean():.2%} | {honest.reshape(len(honest), -1).mean(axis=1).min():.0%} "
            f"| {_against(np.median(own), np.median(own / spent))} | {_against(everyone, everyone / np.median(spent))} "
            f"| {mine:.1f} | {other:.1f} | {theirs:.1f} |"
        )
        print(lines[-1], flush=True)
    return lines


def _needed(error: float, by_steps: list[float]) -> float:
    """Evaluations of the first fixed rule with at most this error; infinite where none of them has."""
    allowed = max(error, FLOOR)
    return next((float(n + 2) for n, each in zip(STEPS, by_steps, strict=True) if each <= allowed), np.inf)


def _against(needed: float, times: float) -> str:
    """Two cells: what a fixed rule needs, and how often ours goes into it."""
    return f"{needed:.0f} | {times:.2f}" if np.isfinite(needed) else f"more than {STEPS[-1] + 2} | "


def main() -> None:
    """Measure every model."""
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    names = ("model", "tolerance", "evaluations (median)", "true error (median)", "true error (95 %)")
    names += ("features within reported error", "worst row", "fixed, row by row (median)", "times ours (median)")
    names += ("fixed, one for all", "times ours", "ms", "ms fixed, one for all", "ms Captum, the same steps")
    lines = [line for name in MODELS for line in measured(case(name))]
    made = f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}, numpy {np.__version__}"
    where = f"{platform.machine()}, {os.cpu_count()} cores, {THREADS} threads, {platform.system()}"
    text = f"# The adaptive rule of integrated gradients\n\n{(__doc__ or '').split('adaptive.md')[1].strip()}\n\n"
    text += f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {where}; Python {platform.python_version()}, {made}.\n\n"
    RESULT.write_text(text + f"| {' | '.join(names)} |\n|{' --- |' * len(names)}\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
