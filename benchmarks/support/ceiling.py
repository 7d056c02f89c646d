"""What the raw ONNX Runtime session does in this process: the most that any server of it could."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ceiling:
    """Rows per second with one setting: rows of a run, threads of a run, runs at a time; `raw` is its session."""

    rate: float
    x: np.ndarray
    threads: int
    callers: int
    raw: Any

    def again(self, seconds: float) -> float:
        """Rows per second now."""
        return measured(self.raw, self.x, self.callers, seconds)

    def __str__(self) -> str:
        words = f"{len(self.x)} rows a run, {self.threads} threads, {self.callers} at a time"
        return f"{words} ({self.rate:,.0f} rows/s)"


def session(data: bytes, threads: int, providers: Sequence[Any] = ("CPUExecutionProvider",)) -> Any:
    """As the engine opens them: threads that wait do not spin."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(data, options, providers=list(providers))


def ceiling(data: bytes, row: np.ndarray, seconds: float, batches: Sequence[int] = (1, 2, 4, 8, 16, 32)) -> Ceiling:
    """The best over rows of a run, and over sharing the cores within one run or among several."""
    cores = len(os.sched_getaffinity(0))
    ways = sorted({(cores, 1), (1, cores), (1, 1)})
    found = []
    for batch, (threads, callers) in itertools.product(batches, ways):
        raw, x = session(data, threads), np.repeat(row, batch, axis=0)
        found.append(Ceiling(measured(raw, x, callers, seconds), x, threads, callers, raw))
    return max(found, key=lambda each: each.rate)


def measured(raw: Any, x: np.ndarray, callers: int, seconds: float) -> float:
    """Rows per second of so many threads that call `run` for so long."""
    name, counts = raw.get_inputs()[0].name, [0] * callers
    raw.run(None, {name: x})
    start = time.perf_counter()

    def call(place: int) -> None:
        while time.perf_counter() < start + seconds:
            raw.run(None, {name: x})
            counts[place] += 1

    threads = [threading.Thread(target=call, args=(place,)) for place in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(x) * sum(counts) / (time.perf_counter() - start)
