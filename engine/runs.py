"""One batch through the runtime: join the inputs, run, part the outputs.

A batch that fails is run again request by request, so that the request at fault fails alone and the others get what
they would have got alone. A request that is larger than a run may be goes through in slices.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from .counters import Counters
from .errors import DeadlineExceeded, EngineError, RunFailed
from .feeds import check_rows, cut, join, part, stack
from .lanes import Request
from .protocol import Array, RunResult

Outcome = RunResult | EngineError


def execute(batch: Sequence[Request], max_batch: int, counters: Counters) -> list[Outcome]:
    """The outcome of each request of the batch (equal keys), in order. Never raises an `EngineError`."""
    outcomes = _together(batch, counters)
    if outcomes is None:
        outcomes = [_alone(request, max_batch, counters) for request in batch]
    ended = time.monotonic()
    for request, outcome in zip(batch, outcomes, strict=True):
        if not isinstance(outcome, DeadlineExceeded):
            counters.request(
                request.artifact.digest,
                queue_ns=_ns(request.started - request.arrived),
                total_ns=_ns(ended - request.arrived),
                succeeded=isinstance(outcome, RunResult),
            )
    return outcomes


def _together(batch: Sequence[Request], counters: Counters) -> list[Outcome] | None:
    """All of them in one run; None when they have to be run one by one."""
    if len(batch) == 1:
        return None
    first = batch[0]
    counts = [request.checked.items for request in batch]
    started = time.monotonic()
    try:
        outputs = _run(first, [request.checked.feeds for request in batch], sum(counts), counters)
        parts = part(first.artifact.outputs, outputs, counts)
    except RunFailed:
        return None
    seconds = time.monotonic() - started
    return [
        RunResult(own, sum(counts) - count, sum(counts), request.started - request.arrived, seconds)
        for request, own, count in zip(batch, parts, counts, strict=True)
    ]


def _alone(request: Request, max_batch: int, counters: Counters) -> Outcome:
    """One request by itself, in as many runs as its size needs."""
    items, feeds = request.checked.items, request.checked.feeds
    most = min(items, request.checked.slice_size(max_batch))
    started = time.monotonic()
    slices: list[dict[str, Array]] = []
    try:
        for start in range(0, items, most):
            if start and request.expired(time.monotonic()):
                counters.expired()
                return DeadlineExceeded(f"the deadline passed after {start} of {items} items")
            stop = min(start + most, items)
            piece = feeds if most == items else cut(request.artifact.inputs, feeds, start, stop)
            slices.append(_run(request, [piece], stop - start, counters))
        outputs = slices[0] if len(slices) == 1 else stack(request.artifact.outputs, slices)
    except RunFailed as error:
        return error
    except MemoryError:
        return RunFailed(f"no memory for the outputs of {items} items")
    return RunResult(outputs, 0, most, started - request.arrived, time.monotonic() - started, len(slices))


def _run(request: Request, feeds: Sequence[Mapping[str, Array]], items: int, counters: Counters) -> dict[str, Array]:
    """One run of the runtime; `request` stands for all that share it."""
    artifact = request.artifact
    names = list(artifact.outputs)
    begin = time.monotonic_ns()
    try:
        joined = join(artifact.inputs, feeds)
    except MemoryError as error:
        raise RunFailed(f"no memory to join {items} items") from error
    ready = time.monotonic_ns()
    arrays = dict(zip(names, request.session.run(names, joined), strict=True))
    done = time.monotonic_ns()
    if request.checked.has_items:
        check_rows(artifact.outputs, arrays, items)
    end = time.monotonic_ns()
    counters.run(artifact.digest, items=items, input_ns=ready - begin, infer_ns=done - ready, output_ns=end - done)
    return arrays


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
