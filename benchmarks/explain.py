"""What explanations cost, beside the floor: gradients in forward passes, and integrated gradients beside Captum.

What is compared is run in turns in one process with the same number of threads, and compared turn by turn. Beside the
wall time stands the CPU time of all threads, which other work on the machine disturbs less; a bar is met where both
say so. Threads that wait do not spin, neither ONNX Runtime's nor PyTorch's.
Prints a Markdown table and writes it to benchmarks/results/explain.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT)  # this file has the name of the room it measures
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np  # noqa: E402 - behind the path
import onnxruntime  # noqa: E402
import torch  # noqa: E402

import explain  # noqa: E402
from benchmarks.support.networks import MAKERS, Network, make  # noqa: E402
from benchmarks.support.timing import Ratio, Row, in_turns, machine, verdict  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "explain.md"
RESNET_18, RESNET_50, BERT, MLP = MAKERS
STEPS, INTERNAL_BATCH = 50, 8
Sessions = dict[str, onnxruntime.InferenceSession]


class Bench:
    """Networks and sessions, made once; one method for each section of the table."""

    def __init__(self, threads: int, repeats: int) -> None:
        self.threads, self.repeats = threads, repeats
        torch.set_num_threads(threads)
        self.network = cache(self._network)

    def _network(self, name: str) -> Network:
        with tempfile.TemporaryDirectory() as folder:
            return make(name, Path(folder))

    def session(self, data: bytes) -> onnxruntime.InferenceSession:
        """As the engine opens them: threads that wait do not spin."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def gradient(self, name: str, rows: int) -> list[Row]:
        """`path_gradient` at one point (and `vjp`) against the model's own session."""
        network = self.network(name)
        x = np.repeat(network.row.numpy(), rows, axis=0)
        model = explain.Model(network.data)
        path, vjp = explain.compile(model, "path_gradient"), explain.compile(model, "vjp")
        own, on_path, pulled = (self.session(data) for data in (network.data, path.serialize(), vjp.serialize()))
        feeds = path_feeds(x)
        cotangent = np.ones_like(own.run(None, {"x": x})[0])
        found = in_turns(
            {
                "forward": lambda: own.run(None, {"x": x}),
                "path_gradient": lambda: on_path.run(None, feeds),
                "vjp": lambda: pulled.run(None, {"x": x, "y.cotangent": cotangent}),
            },
            self.repeats,
        )
        floor = found["forward"]
        barred = name in (RESNET_50, BERT)
        lines = [Row(f"{name}, {rows} rows: forward pass", str(floor), "1", "")]
        for program in ("path_gradient", "vjp"):
            passes = Ratio.of(found[program], floor)
            bar = ("<= 2.3", passes.at_most(2.3)) if barred else ()
            lines.append(Row(f"{name}, {rows} rows: {program}", str(found[program]), str(passes), "2", *bar))
        return lines

    def integrated_gradients(self, name: str, bar: float | None) -> list[Row]:
        """`explain.attribute` for one row against Captum at equal steps."""
        network = self.network(name)
        x, sessions = network.row.numpy(), Sessions()
        model, captum = explain.Model(network.data), captum_of(network)
        attribute = lambda: self.attribute(model, sessions, x, "integrated_gradients", n_steps=STEPS)  # noqa: E731
        gap = explain.attribution_error(attribute().values["x"], captum())
        repeats = 30 * self.repeats if name == MLP else self.repeats
        found = in_turns({"ours": attribute, "captum": captum}, repeats)
        faster = Ratio.of(found["captum"], found["ours"])
        what = f"{name}: integrated gradients, {STEPS} steps, 1 row"
        ratio, floor = f"{faster} times as fast; they differ by {gap:.0e}", f"{STEPS} gradients"
        bars = (f">= {bar}", faster.at_least(bar)) if bar else ()
        return [
            Row(f"{what}, Captum (internal batch {INTERNAL_BATCH})", str(found["captum"]), "1", ""),
            Row(what, str(found["ours"]), ratio, floor, *bars),
        ]

    def deep_shap(self) -> list[Row]:
        """`explain.attribute` for one row of the perceptron and 100 of a background against Captum and shap."""
        from captum.attr import DeepLiftShap
        from shap import DeepExplainer

        network, random = self.network(MLP), np.random.default_rng(0)
        x, background = network.row, torch.tensor(random.standard_normal((100, 30)), dtype=torch.float32)
        model, sessions, given = explain.Model(network.data), Sessions(), x.clone().requires_grad_()
        captum, theirs = DeepLiftShap(network.module), DeepExplainer(network.module, background)
        others = {"background": explain.Background.of(model, background.numpy())}  # as shap is given it, beforehand
        found = in_turns(
            {
                "ours": lambda: self.attribute(model, sessions, x.numpy(), "deep_shap", **others),
                "captum": lambda: captum.attribute(given, background, target=1),
                "shap": lambda: theirs.shap_values(x, check_additivity=False),
            },
            30 * self.repeats,
        )
        what, lines = f"{MLP}: DeepSHAP, 100 background rows, 1 row", []
        for name, bar in (("captum", 5.0), ("shap", 20.0)):
            faster = Ratio.of(found[name], found["ours"])
            lines.append(Row(f"{what}, {name}", str(found[name]), f"ours {faster} times as fast", "", f">= {bar}"))
            lines[-1] = replace(lines[-1], met=faster.at_least(bar))
        return [Row(what, str(found["ours"]), "1", "101 forward and 100 backward rows"), *lines]

    def deeplift(self, name: str) -> list[Row]:
        """`explain.attribute` for one image against the model's own session, whose answer is known."""
        network = self.network(name)
        x, model, sessions = network.row.numpy(), explain.Model(network.data), Sessions()
        own = self.session(network.data)
        known = {"outputs": {"y": own.run(None, {"x": x})[0]}}
        contenders = {
            "forward": lambda: own.run(None, {"x": x}),
            "deeplift": lambda: self.attribute(model, sessions, x, "deeplift", **known),
        }
        found = in_turns(contenders, 3 * self.repeats)
        passes = Ratio.of(found["deeplift"], found["forward"])
        return [Row(f"{name}: DeepLIFT, 1 row", str(found["deeplift"]), str(passes), "3", "<= 4", passes.at_most(4.0))]

    def attribute(
        self, model: explain.Model, sessions: Sessions, x: np.ndarray, method: str, **options: Any
    ) -> explain.Attribution:
        """A whole explanation of class 1, prediction and checks included."""

        def run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            if program.digest not in sessions:
                sessions[program.digest] = self.session(program.serialize())
            return dict(zip(program.outputs, sessions[program.digest].run(list(program.outputs), feeds), strict=True))

        compared = method in ("integrated_gradients", "deeplift")
        baseline = {"baseline": {"x": np.zeros_like(x)}} if compared else {}
        return explain.attribute(model, {"x": x}, method=method, run=run, target=1, **baseline, **options)

    def grad_cam(self, name: str) -> list[Row]:
        """`activation_map` against the model's own session."""
        network = self.network(name)
        x = network.row.numpy()
        program = explain.compile(explain.Model(network.data), "activation_map")
        own, mapped = self.session(network.data), self.session(program.serialize())
        feeds = {"x": x} | target_feeds()
        contenders = {"forward": lambda: own.run(None, {"x": x}), "map": lambda: mapped.run(None, feeds)}
        found = in_turns(contenders, 3 * self.repeats)
        passes = Ratio.of(found["map"], found["forward"])
        what = f"{name}: Grad-CAM, 1 row"
        return [Row(what, str(found["map"]), str(passes), "1", "<= 1.3", passes.at_most(1.3))]

    def memory(self, name: str) -> list[Row]:
        """Peak resident memory of integrated gradients, each in a process of its own."""
        few, many = (peak_memory(name, steps, self.threads) for steps in (8, 200))
        ratio = f"{many / few:.2f} x the memory at 8 steps"
        met = verdict(*[many <= 1.3 * few] * 2)
        return [Row(f"{name}: peak memory at 200 steps", f"{many / 2**20:.0f} MiB", ratio, "1", "<= 1.3", met)]

    def compiling(self, name: str, bar: float | None) -> list[Row]:
        """From the file's bytes to the serialised program."""
        data = self.network(name).data

        def compiled() -> bytes:
            return explain.compile(explain.Model(data), "path_gradient").serialize()

        cost = in_turns({"compile": compiled}, 3)["compile"]
        bars = (f"<= {bar} s", verdict(*[cost.median <= bar] * 2)) if bar else ()
        return [Row(f"{name}: compiling path_gradient", str(cost), "", "", *bars)]


def target_feeds() -> dict[str, np.ndarray]:
    """Class 1 of one row."""
    return {"target": np.ones((1, 1, 1), np.int64), "target.weight": np.ones((1, 1), np.float32)}


def path_feeds(x: np.ndarray) -> dict[str, np.ndarray]:
    """One point for each row, at its end of the path from 0."""
    n = len(x)
    feeds = {name: np.repeat(array, n, axis=0) for name, array in target_feeds().items()}
    ends = {"alpha": np.ones((n, 1), np.float32), "weight": np.ones((n, 1, 1), np.float32)}
    return feeds | ends | {"x": x, "x.baseline": np.zeros_like(x)[:, None]}


def captum_of(network: Network) -> Callable[[], np.ndarray]:
    """Captum's integrated gradients of class 1 from a baseline of zeros, tokens at their embedding."""
    from captum.attr import IntegratedGradients

    settings = {"target": 1, "n_steps": STEPS, "internal_batch_size": INTERNAL_BATCH}
    if network.name != BERT:
        method = IntegratedGradients(network.module)
        return lambda: method.attribute(network.row, baselines=torch.zeros_like(network.row), **settings).numpy()
    module: Any = network.module
    method = IntegratedGradients(module.encoded)

    def attribute() -> np.ndarray:
        with torch.no_grad():
            embedded, baseline = module.word(network.row), module.word(torch.zeros_like(network.row))
        found = method.attribute(embedded, baselines=baseline, **settings)
        return found.sum(dim=-1).detach().numpy()

    return attribute


def peak_memory(name: str, steps: int, threads: int) -> float:
    """Bytes that a process of its own took at its peak."""
    with tempfile.TemporaryDirectory() as folder:
        make(name, Path(folder))
        file = str(Path(folder) / "network.onnx")
        command = [sys.executable, __file__, "--peak-memory", file, str(steps), "--threads", str(threads)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report_peak_memory(bench: Bench, file: str, steps: int) -> None:
    """Explain one image and print the peak of this process, in bytes."""
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    bench.attribute(explain.Model(file), Sessions(), x, "integrated_gradients", n_steps=steps)
    status = Path("/proc/self/status").read_text()  # of this program alone: ru_maxrss remembers who started it
    print(next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")))


def sections(bench: Bench) -> dict[str, list[Callable[[], list[Row]]]]:
    """What can be measured, by the name it has on the command line."""
    bars = {RESNET_18: None, RESNET_50: 1.3, BERT: 1.5, MLP: 10.0}
    return {
        "gradient": [lambda n=n, r=r: bench.gradient(n, r) for n in MAKERS for r in (1, 8)],
        "integrated_gradients": [lambda n=n, b=b: bench.integrated_gradients(n, b) for n, b in bars.items()],
        "grad_cam": [lambda n=n: bench.grad_cam(n) for n in (RESNET_18, RESNET_50)],
        "deep": [bench.deep_shap, *(lambda n=n: bench.deeplift(n) for n in (RESNET_18, RESNET_50))],
        "memory": [lambda: bench.memory(RESNET_50)],
        "compile": [lambda n=n: bench.compiling(n, 3.0 if n == RESNET_50 else None) for n in MAKERS],
    }


HEAD = "| what | median (least to most) | ratio | floor | bar | |\n|---|---|---|---|---|---|"
NOTES = """
Gradients and maps are in forward passes. A ratio is the median of those of the turns, beside it that of the least CPU
times of all threads, which other work on the machine disturbs less; a bar is met where both meet it. Weights are
random, one input row is fixed. Integrated gradients are whole calls of `explain.attribute`: the prediction, the two
ends of the path and the figures of quality are in them.
"""


def main() -> None:
    """Measure the sections asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    names = list(sections(Bench(1, 1)))
    parser.add_argument("sections", nargs="*", default=names, help=f"of {', '.join(names)}; default all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--peak-memory", nargs=2, metavar=("FILE", "STEPS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    bench = Bench(given.threads, given.repeats)
    if given.peak_memory:
        report_peak_memory(bench, given.peak_memory[0], int(given.peak_memory[1]))
        return
    if unknown := sorted(set(given.sections) - set(names)):
        parser.error(f"section {unknown[0]!r} is unknown; expected {', '.join(names)}")
    chosen = sections(bench)
    command = f"PYTHONPATH=. python benchmarks/explain.py {' '.join(given.sections)}".strip()
    lines = ["# What explanations cost", "", machine(given.threads), f"Made by `{command}`.", "", HEAD]
    print("\n".join(lines))
    for part in (part for name in given.sections for part in chosen[name]):
        for row in part():
            lines.append(str(row))
            print(row, flush=True)
    given.results.parent.mkdir(exist_ok=True)
    given.results.write_text("\n".join(lines) + "\n" + NOTES)


if __name__ == "__main__":
    main()
