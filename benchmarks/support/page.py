"""The page of a benchmark: what it measures, where and when it was run, its tables."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
PACKAGES = ("granian", "flask", "onnxruntime", "onnxruntime-gpu", "onnx", "numpy", "pyzmq", "msgspec")
BUSY = 0.5


def arguments(about: str, seconds: float, connections: Sequence[int] = ()) -> argparse.ArgumentParser:
    """The flags that all of these benchmarks take."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=seconds, help=f"of each measurement; default {seconds:g}")
    if connections:
        parser.add_argument("--connections", type=int, nargs="+", default=list(connections), help="of closed loops")
    parser.add_argument("--quick", action="store_true", help="a short run that shows it works; prints, writes nothing")
    parser.add_argument("--serve", default="", metavar="FLAGS", help="further flags of `glasshouse serve`, as one text")
    parser.add_argument("--output", type=Path, help="write the page here instead of benchmarks/results/")
    return parser


@dataclass
class Table:
    """Lines under a heading."""

    heads: Sequence[str]
    title: str = ""
    lines: list[Sequence[object]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """A line, which is also printed."""
        self.lines.append(cells)
        print(" | ".join(str(cell) for cell in cells), flush=True)

    def __str__(self) -> str:
        head = [f"| {' | '.join(self.heads)} |", f"|{' --- |' * len(self.heads)}"]
        body = [f"| {' | '.join(str(cell) for cell in line)} |" for line in self.lines]
        return "\n".join([*([f"## {self.title}", ""] if self.title else []), *head, *body])


class Page:
    """Made when the benchmark begins: the load of the machine is that of others."""

    def __init__(self, name: str, title: str, about: str, given: argparse.Namespace) -> None:
        self.name, self.title, self.given = name, title, given
        self.about = about.strip()
        self.load = os.getloadavg()[0]
        self.tables: list[Table] = []
        self.notes: list[str] = []

    def table(self, *heads: str, title: str = "") -> Table:
        """A new table at the end of the page."""
        self.tables.append(Table(heads, title))
        return self.tables[-1]

    def note(self, text: str) -> None:
        """A sentence above the tables."""
        self.notes.append(text)
        print(text, flush=True)

    def write(self) -> None:
        """Into the folder of results, or where --output says; a quick run without --output is only printed."""
        path = self.given.output or (None if self.given.quick else RESULTS / f"{self.name}.md")
        if path is not None:
            path.write_text(str(self) + "\n")
            print(f"written to {path}", flush=True)

    def __str__(self) -> str:
        command = " ".join(["python", "-m", f"benchmarks.{self.name}", *sys.argv[1:]])
        parts = [f"# {self.title}", machine(self.load), f"Made by `{command}`.", self.about, *self.notes]
        return "\n\n".join([*parts, *map(str, self.tables)])


def machine(load: float) -> str:
    """Where and with what the page was measured; a machine that others used says so first."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0))
    text = (
        f"{datetime.now(UTC):%Y-%m-%d}, {model or platform.machine()}, {cores} cores, {platform.system()}, load of the "
        f"machine before {load:.2f}. Python {platform.python_version()}, {', '.join(versions(PACKAGES))}."
    )
    busy = "**The machine was busy with other work: these figures are no measurement.** "
    return busy + text if load > BUSY * cores else text


def versions(packages: Sequence[str]) -> list[str]:
    """The packages that are installed, with their versions."""
    found = []
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def met(held: bool) -> str:
    """What a line says of its bar."""
    return "met" if held else "**not met**"
