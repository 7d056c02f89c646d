"""How large the runs of explanations may be, so that a prediction never waits long behind one.

How long a row of a model takes is measured once for each model in use, when it is first explained; from then on its
programs run at most so many rows at a time. The number is the same for every request, because attributions depend on
it in their last digits, and is told in answers and records.
"""

from __future__ import annotations

import numpy as np

import engine
from model_store import Decoded

from .config import Config
from .loaded import LoadedModel
from .messages import Runs
from .runner import run_model

COST = 2.5  # rows that a row of a program counts for: a gradient takes two to three times the model's time
MEASURED_ROWS = 8
REPEATS = 3
MOST_ROWS = 1 << 16


def decide(runner: engine.Engine, loaded: LoadedModel, decoded: Decoded, config: Config, deadline: float) -> None:
    """Bounds the runs of a model's programs, unless that has been done.

    Raises what a prediction raises.
    """
    if loaded.run_rows is not None:
        return
    on_gpu = any("CUDA" in provider for provider in runner.info().providers)
    quantum = (config.explain_quantum_ms or (engine.GPU_QUANTUM_MS if on_gpu else engine.CPU_QUANTUM_MS)) / 1000
    if loaded.row_by_row:
        loaded.bound_runs(1)
        return
    one, many = (_seconds(runner, loaded, decoded, rows, deadline) for rows in (1, MEASURED_ROWS))
    loaded.bound_runs(rows_within(quantum / COST, one, many))


def rows_within(seconds: float, one: float, many: float) -> int:
    """How many rows a run of so many seconds has, where one row takes `one` and `MEASURED_ROWS` rows take `many`
    seconds: a power of two, at least 1."""
    each = max((many - one) / (MEASURED_ROWS - 1), 1e-9)
    return rows_at(seconds - one + each, each)


def rows_at(seconds: float, each: float) -> int:
    """How many rows a run of so many seconds has, where each takes so many: a power of two, at least 1."""
    rows = min(seconds / each, MOST_ROWS)
    return 1 << max(0, int(rows).bit_length() - 1) if rows >= 1 else 1


def _seconds(runner: engine.Engine, loaded: LoadedModel, decoded: Decoded, rows: int, deadline: float) -> float:
    """The shortest of some runs of the model on this many rows like the first."""
    inputs = {name: np.repeat(array[:1], rows, axis=0) for name, array in decoded.inputs.items()}
    alike, seconds = Decoded(inputs, rows, decoded.images[:1]), []
    for _ in range(REPEATS):
        runs = Runs()
        run_model(runner, loaded, alike, deadline, runs)
        seconds.append(runs.run_seconds)
    return min(seconds)
