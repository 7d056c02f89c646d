"""Whether error bars are true: how often a 95 % interval holds the converged value, feature by feature.

    python -m benchmarks.error_bars   # writes benchmarks/results/error_bars.md

Over 200 test rows and 50 seeds (another for every 5 rows, so that rows tell more than one draw does) of the recipe
`tumour` (30 measurements, SiLU), and over 20 rows and 50 seeds (each row another) of the convolutional network of
`digits` (8 x 8 pixels, ReLU); there the Shapley methods explain 12 patches of 2 x 3 against 10 background rows, so that
their values are exact (`exact_shap`) and every coalition's worth is found once. For the others the converged value is
the mean over other seeds of at least 30 times the samples. A feature that never varies (a pixel that is black in every
picture) has an interval of no width that holds its value, and is left out. "fixed" stops at a number of samples,
"tolerance" where the largest error is small enough.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import explain
import training
from benchmarks.adaptive import recipe, runner
from benchmarks.support.worths import Table
from exporters import export_torch

RESULT = Path(__file__).parent / "results" / "error_bars.md"
SEEDS, FAR = 50, 10**6
ROWS, TOGETHER = {"tumour": 200, "digits": 20}, {"tumour": 5, "digits": 1}
PATCHES = np.add.outer(3 * (np.arange(8) // 2), np.arange(8) // 3)[None]  # 12 of 2 x 3 pixels
Answer = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """A method with its parameters at a fixed count, at a tolerance, and of the converged value."""

    method: str
    fixed: dict[str, Any]
    tolerance: dict[str, Any]
    converged: dict[str, Any]
    repeats: int = 4


PLANS = (
    Plan("kernel_shap", {"n_samples": 256}, {"tolerance": 0.03}, {"n_samples": 16384}, 2),
    Plan("permutation_shap", {}, {"n_permutations": 4000, "tolerance": 0.03}, {"n_permutations": 4000}),
    Plan("sampling_shap", {}, {"n_permutations": 4000, "tolerance": 0.05}, {"n_permutations": 6000}),
    Plan("rise", {"n_masks": 500}, {"n_masks": 8000, "tolerance": 0.05}, {"n_masks": 16000}),
    Plan("smooth_grad", {"n_samples": 50}, {"n_samples": 4000, "tolerance": 0.03}, {"n_samples": 4000}),
    Plan("expected_gradients", {"n_samples": 200}, {"n_samples": 8000, "tolerance": 0.05}, {"n_samples": 8000}),
)


class Case:
    """A trained model, its rows, and what its methods compare with."""

    def __init__(self, name: str, rows: int) -> None:
        _, module, self.key, x, self.base = recipe(name)
        trained = training.train(name, progress=False)
        self.name, self.x, self.run = name, x[:rows], runner()
        self.model = explain.Model(export_torch(module, [x[:4]], [self.key], ["output"]))
        self.background, self.together = trained.background[self.key], TOGETHER[name]
        self.exact: np.ndarray | None = None
        first = self.attribute("saliency", absolute=False)
        self.target = first.target
        if name == "digits":
            self.table = Table(self.run, self.model, self.key, self.x, self.background[:10], PATCHES)

    def attribute(self, method: str, rows: slice = slice(None), **parameters: Any) -> explain.Attribution:
        """Of the class that each row is predicted to have."""
        more: dict[str, Any] = {"run": self.run}
        needs = explain.METHODS[method].needs
        if "reference" in needs:
            more["baseline"] = self.base
        elif "masks" in needs and self.name == "digits":
            more |= {"background": self.background[:10], "groups": {self.key: PATCHES}, "run": self.table}
        elif "background" in needs:
            more["background"] = self.background
        if hasattr(self, "target"):
            more["target"] = explain.Target(self.target.index[rows], self.target.weight[rows])
        return explain.attribute(self.model, {self.key: self.x[rows]}, method=method, **more, **parameters)

    def right(self, plan: Plan) -> np.ndarray:
        """The converged values [N, P]; exact ones are found once."""
        if self.name != "digits" or not {"background", "masks"} <= explain.METHODS[plan.method].needs:
            many = [self.answer(plan.method, slice(None), seed=k, **plan.converged)[0] for k in range(plan.repeats)]
            return np.asarray(np.mean(many, axis=0))
        if self.exact is None:
            self.exact = self.attribute("exact_shap").values["groups"]
        return self.exact

    def answers(self, method: str, seed: int, **parameters: Any) -> Answer:
        """Attributions and half widths [N, P], every few rows with draws of their own."""
        cuts = [slice(at, at + self.together) for at in range(0, len(self.x), self.together)]
        parts = [self.answer(method, rows, seed=seed * FAR + rows.start, **parameters) for rows in cuts]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def answer(self, method: str, rows: slice, **parameters: Any) -> Answer:
        """Attributions and half widths [n, P] of some rows."""
        found = self.attribute(method, rows, **parameters)
        assert found.half_widths is not None
        values, half = ({**side} for side in (found.values, found.half_widths))
        flat = [
            np.concatenate([part.reshape(len(part), -1) for part in side.values()], axis=1) for side in (values, half)
        ]
        return flat[0], flat[1]


def covered(
    case: Case, plan: Plan, parameters: dict[str, Any], right: np.ndarray, seeds: int
) -> tuple[np.ndarray, float]:
    """The share of rows and seeds whose interval holds the converged value, by feature, and the mean half width."""
    hits, counted, width = np.zeros(right.shape[1]), np.zeros(right.shape[1]), []
    for seed in range(seeds):
        values, half = case.answers(plan.method, seed + 1, **parameters)
        varies = half > 1e-9 * np.abs(right).max(axis=1, keepdims=True)
        hits += ((np.abs(values - right) <= half) & varies).sum(axis=0)
        counted += varies.sum(axis=0)
        width.append((half / np.abs(right).max(axis=1, keepdims=True)).max(axis=1).mean())
    often = counted > 0.2 * seeds * len(right)
    return hits[often] / counted[often], float(np.mean(width))


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, help="of each model; default 200 and 20")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--models", nargs="*", default=["tumour", "digits"])
    parser.add_argument("--methods", nargs="*", default=[plan.method for plan in PLANS])
    parser.add_argument("--write", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    lines = [
        "| model | rows | method | stops | features | least | median | most | all | half width |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in given.models:
        case = Case(name, given.rows or ROWS[name])
        for plan in PLANS:
            if plan.method in given.methods:
                lines += rows_of(case, plan, given.seeds, partial(print, flush=True))
    text = "\n".join(lines) + "\n"
    if given.write:
        RESULT.write_text(f"# Error bars\n\n{__doc__}\n{datetime.date.today().isoformat()}\n\n{text}")


def rows_of(case: Case, plan: Plan, seeds: int, tell: Callable[[str], None]) -> list[str]:
    """Two lines of the table."""
    right, lines = case.right(plan), []
    for stops, parameters in (("fixed", plan.fixed), ("tolerance", plan.tolerance)):
        shares, width = covered(case, plan, parameters, right, seeds)
        figures = " | ".join(
            f"{100 * value:.1f} %" for value in (shares.min(), np.median(shares), shares.max(), shares.mean())
        )
        lines.append(
            f"| {case.name} | {len(right)} | {plan.method} {parameters} | {stops} | {len(shares)} | {figures} "
            f"| {100 * width:.1f} % |"
        )
        tell(lines[-1])
    return lines


if __name__ == "__main__":
    main()
