"""What methods that remove features cost, beside shap, Captum and the forward passes they need.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.coalitions   # writes benchmarks/results/coalitions.md

Whole calls of `explain.attribute` for one row, the prediction included, in turns with the others in one process with
the same number of threads. "at equal error" takes the fewest of our coalitions whose mean squared error over 12 seeds
(other rows of the network's input, against 16,384 coalitions) is no larger than shap's with 2,108.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import onnxruntime
import torch

import explain
from benchmarks.support.networks import MAKERS, Network, make
from benchmarks.support.timing import Cost, Ratio, Row, in_turns, machine

RESULTS = Path(__file__).parent / "results" / "coalitions.md"
RESNET_18, _, _, MLP = MAKERS
COALITIONS, BACKGROUND, SEEDS = 2108, 100, 12
SIZES = {"kernel_shap": (128, 256, 384, 512, 768, 1024, 1280, 1536, 1664, 1792, 1920, COALITIONS)}
ORDERS = {"permutation_shap": (32, 48, 64, 80, 100, 120, 140, 160, 180, 200)}
HEAD = "| what | median (least to most) | ratio | floor | bar | |\n|---|---|---|---|---|---|"


class Subject:
    """A network, our explanations of it, and the model's own session."""

    def __init__(self, name: str, threads: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.network: Network = make(name, Path(folder))
        self.threads, self.model, self.x = threads, explain.Model(self.network.data), self.network.row.numpy()
        self.sessions: dict[str, Any] = {}
        self.own = self.session(self.network.data)

    def session(self, data: bytes) -> Any:
        """As the engine opens them: threads that wait do not spin."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(self, program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One session for each program."""
        if program.digest not in self.sessions:
            self.sessions[program.digest] = self.session(program.serialize())
        return dict(zip(program.outputs, self.sessions[program.digest].run(list(program.outputs), feeds), strict=True))

    def attribute(self, method: str, x: np.ndarray | None = None, **options: Any) -> explain.Attribution:
        """Class 1 of one row."""
        given = {"x": self.x if x is None else x}
        return explain.attribute(self.model, given, method=method, run=self.run, target=1, **options)

    def passes(self, evaluations: int, together: int) -> Callable[[], None]:
        """As many evaluations of the model by its own session, so many rows a run."""
        rows = np.repeat(self.x, together, axis=0)

        def forward() -> None:
            for first in range(0, evaluations, together):
                self.own.run(None, {"x": rows[: min(together, evaluations - first)]})

        return forward

    def together(self, method: str, **options: Any) -> int:
        """The most rows of the model that one of our own runs holds."""
        largest = [1]

        def run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            if "mask" in feeds:
                largest.append(feeds["mask"].shape[0] * feeds["mask"].shape[1])
            return self.run(program, feeds)

        explain.attribute(self.model, {"x": self.x}, method=method, run=run, target=1, **options)
        return max(largest)


def line(what: str, cost: Cost, ours: Cost, bar: float | None) -> Row:
    """How much faster ours is than another."""
    faster = Ratio.of(cost, ours)
    row = Row(what, str(cost), f"ours {faster} times as fast", "")
    return row if bar is None else replace(row, bar=f">= {bar}", met=faster.at_least(bar))


def perceptron(threads: int, repeats: int) -> list[Row]:
    """Kernel and permutation SHAP beside shap."""
    import shap

    subject, random = Subject(MLP, threads), np.random.default_rng(0)
    background = random.standard_normal((BACKGROUND, 30)).astype(np.float32)

    def predict(rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return subject.network.module(torch.tensor(rows, dtype=torch.float32)).numpy()

    kernel = shap.KernelExplainer(predict, background.astype(np.float64))
    orders = shap.PermutationExplainer(predict, shap.maskers.Independent(background, max_samples=BACKGROUND))
    x = subject.x.astype(np.float64)
    theirs = lambda row=x: kernel.shap_values(row, nsamples=COALITIONS, l1_reg=0, silent=True)  # noqa: E731
    by_orders = lambda row=x: orders(row, max_evals=10 * (2 * 30 + 1), silent=True).values  # noqa: E731
    rows = random.standard_normal((SEEDS, 1, 30)).astype(np.float32)
    exact = [subject.attribute("kernel_shap", x, background=background, n_samples=16384).values["x"] for x in rows]
    np.random.seed(0)
    enough = as_good(subject, background, rows, exact, error_of(theirs, rows, exact), SIZES)
    few = as_good(subject, background, rows, exact, error_of(by_orders, rows, exact), ORDERS)
    prepared = explain.Background.of(subject.model, background)  # as shap's explainers are given it, beforehand
    found = in_turns(
        {
            "ours": lambda: subject.attribute("kernel_shap", background=prepared, n_samples=COALITIONS),
            "enough": lambda: subject.attribute("kernel_shap", background=prepared, n_samples=enough),
            "shap": theirs,
            "orders": lambda: subject.attribute("permutation_shap", background=prepared),
            "few": lambda: subject.attribute("permutation_shap", background=prepared, n_permutations=few),
            "shap orders": by_orders,
        },
        repeats,
    )
    what = f"{MLP}, {BACKGROUND} background rows, 1 row"
    same = f"{what}: kernel SHAP, {enough} coalitions, as good as shap's {COALITIONS}"
    return [
        Row(f"{what}: kernel SHAP, {COALITIONS} coalitions", str(found["ours"]), "1", "210,900 rows"),
        line(f"{what}: shap Kernel, {COALITIONS} coalitions", found["shap"], found["ours"], 4.0),
        Row(same, str(found["enough"]), "1", ""),
        line(f"{what}: shap Kernel, at equal error", found["shap"], found["enough"], 6.0),
        Row(f"{what}: permutation SHAP, 200 permutations, one row each", str(found["orders"]), "1", "11,800 rows"),
        line(f"{what}: shap Permutation, 10 permutations, all rows each", found["shap orders"], found["orders"], 5.0),
        Row(f"{what}: permutation SHAP, {few} permutations, as good as shap's", str(found["few"]), "1", ""),
        line(f"{what}: shap Permutation, at equal error", found["shap orders"], found["few"], None),
    ]


def error_of(theirs: Callable[..., Any], rows: np.ndarray, exact: list[np.ndarray]) -> float:
    """Mean squared error of another library's attributions [1, 30, 2] of class 1."""
    found = [theirs(x.astype(np.float64))[..., 1] for x in rows]
    return float(np.mean([(phi - right) ** 2 for phi, right in zip(found, exact, strict=True)]))


def as_good(
    subject: Subject,
    background: np.ndarray,
    rows: np.ndarray,
    exact: list[np.ndarray],
    error: float,
    sizes: dict[str, tuple[int, ...]],
) -> int:
    """The fewest of our coalitions or permutations whose mean squared error is no larger."""
    ((method, counts),) = sizes.items()
    name = "n_samples" if method == "kernel_shap" else "n_permutations"
    for count in counts:
        options = {"background": background, name: count}
        found = [subject.attribute(method, x, seed=k, **options).values["x"] for k, x in enumerate(rows)]
        if np.mean([(phi - right) ** 2 for phi, right in zip(found, exact, strict=True)]) <= error:
            return count
    return counts[-1]


def picture(threads: int, repeats: int) -> list[Row]:
    """Occlusion, partition and kernel SHAP of a ResNet-18 beside Captum and the forward passes they need."""
    from captum.attr import KernelShap, Occlusion

    subject = Subject(RESNET_18, threads)
    given, zero, module = subject.network.row, torch.zeros_like(subject.network.row), subject.network.module
    patches = {"patches": {"count": 49}}
    mask = torch.tensor(np.add.outer(7 * (np.arange(224) // 32), np.arange(224) // 32))[None, None]
    occlusion, kernel = Occlusion(module), KernelShap(module)
    options = {"baseline": 0.0, "outputs": {"y": subject.own.run(None, {"x": subject.x})[0]}}
    blurred = {"removal": {"blur": {"sigma": 10}}, "groups": patches, "outputs": options["outputs"]}
    windows = {"window": 32, "stride": 32}
    together = subject.together("occlusion", **windows, **options)
    evaluations = {
        "occlusion": int(subject.attribute("occlusion", **windows, **options).quality[0]["evaluations"]),
        "partition": int(subject.attribute("partition_shap", max_evals=500, **blurred).quality[0]["evaluations"]),
    }
    found = in_turns(
        {
            "occlusion": lambda: subject.attribute("occlusion", **windows, **options),
            "49": subject.passes(49, together),
            "captum occlusion": lambda: occlusion.attribute(
                given, sliding_window_shapes=(3, 32, 32), strides=(3, 32, 32), target=1, baselines=zero
            ),
            "kernel": lambda: subject.attribute("kernel_shap", n_samples=200, **blurred),
            "captum kernel": lambda: kernel.attribute(given, zero, target=1, feature_mask=mask, n_samples=200),
        },
        repeats,
    )
    parts = {
        "partition": lambda: subject.attribute("partition_shap", max_evals=500, **blurred),
        "502": subject.passes(evaluations["partition"], together),
    }
    found |= in_turns(parts, max(3, repeats // 3))
    rows = []
    for what, floor, count in (("occlusion", "49", 49), ("partition", "502", evaluations["partition"])):
        ratio = Ratio.of(found[what], found[floor])
        name = {"occlusion": "occlusion, 49 windows", "partition": "partition SHAP, 500 evaluations"}[what]
        floored = f"{count} forward passes, {found[floor]}"
        rows.append(Row(f"{RESNET_18}: {name}", str(found[what]), str(ratio), floored, "<= 1.15", ratio.at_most(1.15)))
    rows.append(line(f"{RESNET_18}: Captum Occlusion, 49 windows", found["captum occlusion"], found["occlusion"], None))
    rows.append(Row(f"{RESNET_18}: kernel SHAP, 200 coalitions of 49 patches", str(found["kernel"]), "1", ""))
    rows.append(line(f"{RESNET_18}: Captum KernelShap, 200 samples", found["captum kernel"], found["kernel"], None))
    return rows


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--write", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lines = [HEAD]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for section in (perceptron, picture):
            lines += map(str, section(given.threads, given.repeats))
    text = "\n".join(lines)
    print(text)
    if given.write:
        RESULTS.write_text(f"# Methods that remove features\n\n{machine(given.threads)}\n\n{__doc__}\n{text}\n")


if __name__ == "__main__":
    main()
