"""Compiled tree SHAP beside shap's TreeExplainer, in turns in one process.

    OMP_NUM_THREADS=1 python -m benchmarks.trees   # writes benchmarks/results/trees.md

Both explain the same rows against the same background (interventional, the whole background, raw output) on one
thread. Forests are scikit-learn's, fitted on rows of a made-up target with interactions; `unpruned` ones grow until
their leaves are pure. Where shap needs long it explains fewer rows, and its time is given for as many as ours; times
are of 1,000 rows. `compile` is once for a model and a background; `MiB` is the program with its tables. The error is
max|phi - phi'| / max|phi'| over the rows both explained.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor

import explain
from benchmarks.support.timing import Ratio, in_turns, machine

RESULT = Path(__file__).parent / "results" / "trees.md"
ROWS, FEATURES, REPEATS, THREADS = 1000, 10, 3, 1


@dataclass(frozen=True)
class Case:
    """A forest to be fitted on so many rows, the sizes of its backgrounds, and how many rows shap explains of each."""

    name: str
    estimator: Any
    fitted_on: int
    backgrounds: tuple[tuple[int, int], ...]


CASES = (
    Case("100 trees, depth 6", RandomForestRegressor(100, max_depth=6, random_state=0), 2000, ((100, 100), (10000, 4))),
    Case(
        "boosting, 300 trees, depth 3", GradientBoostingRegressor(n_estimators=300, random_state=0), 2000, ((100, 100),)
    ),
    Case("100 trees, unpruned", RandomForestRegressor(100, random_state=0), 500, ((100, 20), (1000, 4))),
)


def rows(count: int, seed: int) -> np.ndarray:
    """Made-up rows."""
    return np.random.default_rng(seed).standard_normal((count, FEATURES)).astype(np.float32)


def target(x: np.ndarray) -> np.ndarray:
    """What the forests are fitted to."""
    noise = 0.3 * np.random.default_rng(9).standard_normal(len(x))
    return np.asarray(x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + x[:, 3] + noise)


def measured(case: Case, size: int, judged: int) -> str:
    """A line of the table."""
    import shap

    fitted = case.estimator.fit(rows(case.fitted_on, 0), target(rows(case.fitted_on, 0)))
    x, background = rows(ROWS, 1), rows(size, 2)
    model = explain.Model(to_onnx(fitted, x[:1], target_opset={"": 18, "ai.onnx.ml": 3}))
    started = time.perf_counter()
    program = explain.compile(model, "tree_shap", background={"X": background})
    compiled = time.perf_counter() - started
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    data, step = program.serialize(), int(program.options["rows"])
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    masker = shap.maskers.Independent(background, max_samples=size)
    explainer = shap.TreeExplainer(fitted, masker, feature_perturbation="interventional", model_output="raw")
    found: dict[str, np.ndarray] = {}

    def ours() -> None:
        parts = [session.run(["X.attribution"], {"X": x[i : i + step]})[0] for i in range(0, ROWS, step)]
        found["ours"] = np.concatenate(parts)[:judged, 0]

    def theirs() -> None:
        found["theirs"] = explainer.shap_values(x[:judged], check_additivity=False)

    costs = in_turns({"ours": ours, "theirs": theirs}, REPEATS)
    ratio, error = Ratio.of(costs["theirs"], costs["ours"]), explain.attribution_error(found["ours"], found["theirs"])
    share = ROWS / judged
    return (
        f"| {case.name} | {size:,} | {compiled:.1f} s | {len(data) / 2**20:.1f} | {costs['ours'].median * 1e3:.1f} ms "
        f"| {costs['theirs'].median * share:.2f} s ({judged} rows) | {ratio.wall * share:.0f} | {error:.1e} |"
    )


def main() -> None:
    """Measure every case."""
    warnings.simplefilter("ignore")
    lines = []
    for case in CASES:
        for size, judged in case.backgrounds:
            lines.append(measured(case, size, judged))
            print(lines[-1], flush=True)
    heads = ("forest", "background", "compile", "MiB", "ours", "shap", "times as fast", "error")
    text = f"# Tree SHAP\n\n{(__doc__ or '').split('trees.md')[1].strip()}\n\n{machine(THREADS)}\n\n"
    RESULT.write_text(text + f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
