"""Costs side by side: contenders run in turns in one process, and are compared turn by turn, on two clocks."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """Of one thing measured: seconds on the wall and of CPU time, turn by turn."""

    walls: list[float]
    cpus: list[float]

    @property
    def median(self) -> float:
        """Median wall seconds."""
        return statistics.median(self.walls)

    def __str__(self) -> str:
        return f"{self.median * 1e3:.4g} ms ({min(self.walls) * 1e3:.4g} to {max(self.walls) * 1e3:.4g})"


@dataclass(frozen=True)
class Ratio:
    """One cost in units of another: the median of the turns on the wall, and of the least CPU times."""

    wall: float
    cpu: float

    @classmethod
    def of(cls, cost: Cost, unit: Cost) -> Ratio:
        """`cost` / `unit`, the wall's turn by turn."""
        turns = (mine / theirs for mine, theirs in zip(cost.walls, unit.walls, strict=True))
        return cls(statistics.median(turns), min(cost.cpus) / min(unit.cpus))

    def at_most(self, bar: float) -> str:
        """Verdict on a bar from above."""
        return verdict(self.wall <= bar, self.cpu <= bar)

    def at_least(self, bar: float) -> str:
        """Verdict on a bar from below."""
        return verdict(self.wall >= bar, self.cpu >= bar)

    def __str__(self) -> str:
        return f"{self.wall:.2f} (CPU {self.cpu:.2f})"


def verdict(wall: bool, cpu: bool) -> str:
    """What the two clocks say together."""
    return {(True, True): "met", (False, False): "**not met**", (True, False): "met on the wall only"}.get(
        (wall, cpu), "met in CPU time only"
    )


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    measured: str
    ratio: str
    floor: str
    bar: str = ""
    met: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.measured} | {self.ratio} | {self.floor} | {self.bar} | {self.met} |"


def in_turns(contenders: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Cost]:
    """Run each once to warm up, then all in turns, `repeats` times."""
    costs = {name: Cost([], []) for name in contenders}
    for turn in range(repeats + 1):
        for name, contender in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            contender()
            if turn:
                costs[name].walls.append(time.perf_counter() - wall)
                costs[name].cpus.append(time.process_time() - cpu)
    return costs


def machine(threads: int) -> str:
    """Where and with what the table was measured."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("onnxruntime", "onnx", "torch", "captum", "shap", "numpy")
    )
    load = Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "?"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {model or platform.machine()}, {platform.system()}, {threads} threads, "
        f"load of the machine {load}. Python {platform.python_version()}, {packages}."
    )
