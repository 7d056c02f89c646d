"""An explanation's programs run in this process with nothing around them: the floor of what a server can do."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import explain

from .ceiling import session

Arrays = dict[str, np.ndarray]


@dataclass
class Bare:
    """A model's explanations: `record` makes one, and afterwards `loop` runs its programs on the same arrays again."""

    data: bytes
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    chunks: list[tuple[Any, list[str], Arrays]] = field(default_factory=list)
    sessions: dict[str, Any] = field(default_factory=dict)

    def record(self, x: np.ndarray, method: str, **options: Any) -> None:
        """Explain class 1 of one row, and keep what was run."""
        self.chunks.clear()
        explain.attribute(explain.Model(self.data), {"x": x}, method=method, target=1, run=self._run, **options)

    def _run(self, program: explain.Program, feeds: Mapping[str, np.ndarray]) -> Arrays:
        if program.digest not in self.sessions:
            self.sessions[program.digest] = session(program.serialize(), self.threads)
        found, outputs = self.sessions[program.digest], list(program.outputs)
        self.chunks.append((found, outputs, dict(feeds)))
        return dict(zip(outputs, found.run(outputs, dict(feeds)), strict=True))

    def loop(self) -> float:
        """Seconds of all runs of the recorded explanation."""
        start = time.perf_counter()
        for found, outputs, feeds in self.chunks:
            found.run(outputs, feeds)
        return time.perf_counter() - start

    def longest(self, repeats: int = 20) -> float:
        """Seconds of the longest of the recorded runs, the median of its repeats."""
        seconds = []
        for found, outputs, feeds in self.chunks:
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                found.run(outputs, feeds)
                times.append(time.perf_counter() - start)
            seconds.append(statistics.median(times))
        return max(seconds)
