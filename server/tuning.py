"""How a version runs best on this machine: measured through the engine on its own examples, chosen by one rule.

The rule, which docs/serving.md tells in words: of the settings of threads and instances at which a run of one item
takes at most `LATENCY_FACTOR` times as long as at the best of them (any setting, where throughput is preferred), the
one with the highest throughput, at a batch whose run takes at most `BATCH_SECONDS`; and where several are within `TIE`
of the highest, the one that takes the fewest threads and then the smallest batch.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np

import engine
from model_store import Measured, ModelVersion, Point, Tuning, to_model_layout

from . import quantum
from .errors import ModelUnusable
from .loaded import LoadedModel, file_of, naming
from .machine import cpu
from .messages import Array

LATENCY_FACTOR = 1.5
BATCH_SECONDS = 0.1
TIE = 0.05
SHORTEST_SECONDS = 0.02
Tell = Callable[[Point], None]
Preference = Literal["latency", "throughput"]


def tune(
    version: ModelVersion,
    *,
    seconds: float = 30.0,
    max_batch: int = 64,
    deadline_seconds: float | None = None,
    prefer: Preference = "latency",
    tell: Tell | None = None,
) -> Tuning:
    """Measures for about `seconds`, telling each point as it is measured, and chooses; nothing is kept.

    Raises ModelUnusable where the version cannot be run, or has neither examples nor a background to run it on.
    """
    loaded = LoadedModel(version)
    rows = rows_of(loaded)
    cores = len(os.sched_getaffinity(0))
    batches = [1] if loaded.row_by_row else list(powers(max_batch))
    settings = [(threads, instances) for threads in powers(cores) for instances in powers(cores // threads)]
    share = max(SHORTEST_SECONDS, seconds / (len(settings) * len(batches)))
    points: list[Point] = []
    runtime = ""
    for threads, instances in settings:
        runner = engine.InProcessEngine(threads=threads, slots=instances, max_batch=max_batch)
        runtime = f"{runner.info().runtime} {runner.info().version}"
        try:
            for point in _measured(runner, loaded, rows, (threads, instances), batches, share):
                points.append(point)
                if tell is not None:
                    tell(point)
        finally:
            runner.close()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    measured = Measured(machine=cpu() or "unknown", cores=cores, runtime=runtime, at=at, table=points)
    return _tuning(choose(points, prefer), loaded, deadline_seconds, measured)


def choose(points: Sequence[Point], prefer: Preference = "latency") -> Point:
    """The point that the rule above picks."""
    alone = {(point.threads, point.instances): point.milliseconds for point in points if point.batch == 1}
    factor = LATENCY_FACTOR if prefer == "latency" else math.inf
    quick = {setting for setting, time in alone.items() if time <= factor * min(alone.values())}
    able = [
        point
        for point in points
        if (point.threads, point.instances) in quick and (point.batch == 1 or point.milliseconds <= BATCH_SECONDS * 1e3)
    ]
    most = max(point.items_per_second for point in able)
    alike = [point for point in able if point.items_per_second >= (1 - TIE) * most]
    return min(alike, key=lambda point: (point.threads * point.instances, point.batch, -point.items_per_second))


def powers(most: int) -> Iterator[int]:
    """1, 2, 4, … and `most` itself."""
    one = 1
    while one < most:
        yield one
        one *= 2
    yield max(1, most)


def rows_of(loaded: LoadedModel) -> Mapping[str, Array]:
    """Real rows by input name, axis 0 = rows: the version's examples, or else its background."""
    version = loaded.version
    if version.has("examples"):
        try:
            instances = [entry["instance"] for entry in json.loads(file_of(version, "examples"))]
        except (ValueError, LookupError, TypeError):
            instances = []
        if instances:
            return loaded.rows.decode(instances).inputs
    background = loaded.background
    if background is None:
        which = f"model {version.name} version {version.version}"
        raise ModelUnusable(f"{which}: it has neither examples nor a background, so there are no real rows to run")
    return background


def _measured(
    runner: engine.Engine,
    loaded: LoadedModel,
    rows: Mapping[str, Array],
    setting: tuple[int, int],
    batches: Sequence[int],
    seconds: float,
) -> Iterator[Point]:
    """One setting at each batch, up to the first whose run is too long to be chosen."""
    threads, instances = setting
    for batch in batches:
        knobs = engine.Knobs(max_batch=batch, max_wait_ms=0.0, instances=instances, threads=threads)
        artifact = dataclasses.replace(loaded.artifact, knobs=knobs)
        feeds = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in rows.items()}
        if loaded.row_by_row:
            feeds = to_model_layout(loaded.manifest, feeds)
        with naming(loaded.version):
            runner.run(artifact, feeds)  # makes the session and its buffers
        took = closed_loop(lambda: runner.run(artifact, feeds), instances, seconds)  # noqa: B023 # ends in here
        middle = statistics.median(took)  # what others did on the machine meanwhile moves a mean, not this
        yield Point(
            threads=threads,
            instances=instances,
            batch=batch,
            milliseconds=middle * 1e3,
            items_per_second=instances * batch / middle,
        )
        if middle > BATCH_SECONDS:
            return


def closed_loop(run: Callable[[], object], callers: int, seconds: float) -> list[float]:
    """Callers that each ask again as soon as they are answered: how many seconds each answer took."""
    took: list[float] = []
    failed: list[BaseException] = []
    begin = time.perf_counter()

    def call() -> None:
        try:
            now = time.perf_counter()
            while True:
                run()
                before, now = now, time.perf_counter()
                took.append(now - before)
                if now - begin >= seconds:
                    return
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return took


def _tuning(best: Point, loaded: LoadedModel, deadline: float | None, measured: Measured) -> Tuning:
    rows = quantum.rows_at(engine.CPU_QUANTUM_MS / 1e3 / quantum.COST, best.milliseconds / 1e3 / best.batch)
    return Tuning(
        max_batch=None if loaded.row_by_row else best.batch,
        max_wait_ms=0.0,
        instances=best.instances,
        threads=best.threads,
        deadline_seconds=deadline,
        run_rows=None if loaded.row_by_row else rows,
        measured=measured,
    )
