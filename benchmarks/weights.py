"""Memory and time of a model and its programs, with constants of their own and with those that the engine holds once.

    python -m benchmarks.weights            # writes benchmarks/results/weights.md

A model is loaded into an engine, then `path_gradient` and `masked_forward` of it, each case in a process of its own.
Memory is the process's proportional set size above what it had before; times are the median of 10 runs of 2 rows.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import engine
import explain
from benchmarks.support.networks import MAKERS, make
from benchmarks.support.timing import machine

RESULT = Path(__file__).parent / "results" / "weights.md"
NAMES = [name for name in MAKERS if not name.startswith("MLP")]
PROGRAMS = ("path_gradient", "masked_forward")
THREADS = 2


@dataclass(frozen=True)
class Alone:
    """A program whose constants nobody is told of."""

    program: explain.Program

    def __getattr__(self, name: str) -> Any:
        if name == "constants":
            return None
        return getattr(self.program, name)


def memory() -> float:
    """MiB of this process, shared pages by their share."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def measure(folder: Path, shared: bool) -> dict[str, float]:
    """One case: MiB behind each session, and milliseconds of the model and of its gradient."""
    data, row = (folder / "network.onnx").read_bytes(), np.load(folder / "row.npy")
    model, x = explain.Model(data), np.repeat(row, 2, axis=0)
    programs = [explain.compile(model, name) for name in PROGRAMS]
    runner = engine.InProcessEngine(threads=THREADS)
    constants = explain.weights if shared else None
    served = engine.StoredModel(model.digest, {"x": "item"}, {"y": "item"}, lambda: data, constants=constants)
    before, found = memory(), {}
    for name, artifact in zip(("model", *PROGRAMS), (served, *programs), strict=True):
        runner.load(artifact if shared or artifact is served else Alone(artifact))
        found[name] = memory() - before
    one = np.ones((2, 1), np.float32)
    feeds = {"x": x, "x.baseline": np.zeros_like(x)[:, None], "alpha": one, "weight": one[..., None]}
    feeds |= {"target": np.ones((2, 1, 1), np.int64), "target.weight": one}
    found["ms"] = timed(lambda: runner.run(served, {"x": x}))
    found["ms gradient"] = timed(lambda: runner.run(programs[0], feeds))
    return found


def timed(call: Any) -> float:
    """Median milliseconds of 10 calls."""
    call()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3


def main() -> None:
    """Measure every network both ways."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--case", nargs=2, metavar=("FOLDER", "SHARED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(measure(Path(given.case[0]), given.case[1] == "True")))
        return
    names = ("network", "constants", "model, MiB", "+ path_gradient", "+ masked_forward", "forward, ms", "gradient, ms")
    lines = [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            network = make(name, Path(folder))
            np.save(Path(folder) / "row.npy", network.row.numpy())
            for shared in (False, True):
                command = [sys.executable, "-m", "benchmarks.weights", "--case", folder, str(shared)]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                cells = " | ".join(f"{value:.0f}" if value > 100 else f"{value:.1f}" for value in found.values())
                lines.append(f"| {name} | {'held once' if shared else 'of their own'} | {cells} |")
                print(lines[-1], flush=True)
    text = f"# Constants held once\n\n{(__doc__ or '').split('weights.md')[1].strip()}\n\n{machine(THREADS)}\n\n"
    RESULT.write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
