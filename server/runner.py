"""One served model on decoded rows: in one go where items lie along axis 0, else one run for each row."""

from __future__ import annotations

import time

import numpy as np

import engine
from model_store import Decoded, from_model_layout, to_model_layout

from .loaded import LoadedModel
from .messages import Array, Runs
from .pool import step_aside

# A run shorter than this costs less than waking another thread to lead meanwhile.
SHORT_SECONDS = 250e-6
# By how much the memory of the shortest run gives way at each request, so that a model may become slower.
FORGETTING = 1.02


def run_model(
    runner: engine.Engine,
    loaded: LoadedModel,
    decoded: Decoded,
    deadline: float,
    runs: Runs,
    tag: str = "",
    lane: engine.Lane = "predict",
) -> dict[str, Array]:
    """The model's outputs by name, axis 0 = rows, counted in ``runs``; ``tag`` is what they can be cancelled by. What
    is to be explained runs in the ``lane`` of explanations: else a crowd of them would hold up predictions."""
    if loaded.row_seconds * decoded.rows > SHORT_SECONDS:
        step_aside()
    began = time.perf_counter()
    outputs = _run(runner, loaded, decoded, deadline, runs, tag, lane)
    seconds = (time.perf_counter() - began) / max(1, decoded.rows)
    loaded.row_seconds = min(seconds, loaded.row_seconds * FORGETTING or seconds)
    return outputs


def _run(
    runner: engine.Engine,
    loaded: LoadedModel,
    decoded: Decoded,
    deadline: float,
    runs: Runs,
    tag: str,
    lane: engine.Lane,
) -> dict[str, Array]:
    if not loaded.row_by_row:
        result = runner.run(loaded.artifact, decoded.inputs, lane=lane, deadline=deadline, tag=tag)
        runs.add(result)
        return result.outputs
    rows: list[dict[str, Array]] = []
    for row in range(decoded.rows):
        item = {name: array[row : row + 1] for name, array in decoded.inputs.items()}
        feeds = to_model_layout(loaded.manifest, item)
        result = runner.run(loaded.artifact, feeds, lane=lane, deadline=deadline, tag=tag)
        runs.add(result)
        rows.append(from_model_layout(loaded.manifest, result.outputs))
    return {name: np.concatenate([outputs[name] for outputs in rows]) for name in rows[0]}
