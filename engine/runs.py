"""One batch through the runtime: join the inputs, run, part the outputs.

A batch that fails is run again request by request, so that the request at fault fails alone and the others get what
they would have got alone. A request that is larger than a run may be goes through in slices; one that does not fit into
memory, in smaller and smaller ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from .counters import Counters
from .errors import Cancelled, DeadlineExceeded, EngineError, OutOfMemory, RunFailed
from .feeds import check_rows, cut, join, part, stack
from .lanes import Request
from .protocol import Array, RunResult
from .sessions import Session
from .stopping import Running

Outcome = RunResult | EngineError


class Runner:
    """Runs batches and counts what they did. `reopen` makes the session of a request anew."""

    def __init__(self, max_batch: int, counters: Counters, reopen: Callable[[Request], Session]) -> None:
        self._max_batch = max_batch
        self._counters = counters
        self._reopen = reopen

    def execute(self, running: Running) -> list[Outcome]:
        """The outcome of each request of the batch (equal keys), in order. Never raises an `EngineError`."""
        batch = running.requests
        outcomes = self._together(running)
        if outcomes is None:
            outcomes = [self._alone(request, running) for request in batch]
        ended = time.monotonic()
        for request, outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, Cancelled | DeadlineExceeded):
                self._counters.request(
                    request.artifact.digest,
                    request.lane,
                    queue_ns=_ns(request.started - request.arrived),
                    total_ns=_ns(ended - request.arrived),
                    succeeded=isinstance(outcome, RunResult),
                )
        return outcomes

    def at_once(self, request: Request) -> RunResult:
        """One request, whose run is short, without anything that longer runs need. Raises `RunFailed`."""
        artifact, checked = request.artifact, request.checked
        names, begin = list(artifact.outputs), time.monotonic_ns()
        try:
            outputs = dict(zip(names, request.session.run(names, checked.feeds), strict=True))
            if checked.has_items:
                check_rows(artifact.outputs, outputs, checked.items)
        except RunFailed:
            (outcome,) = self.execute(Running([request]))
            if isinstance(outcome, EngineError):
                raise outcome from None
            return outcome
        spent = time.monotonic_ns() - begin
        self._counters.at_once(artifact.digest, request.lane, items=checked.items, infer_ns=spent)
        return RunResult(outputs, 0, checked.items, 0.0, spent / 1e9)

    def _together(self, running: Running) -> list[Outcome] | None:
        """All of them in one run; None when they have to be run one by one."""
        batch = running.requests
        if len(batch) == 1:
            return None
        first = batch[0]
        counts = [request.checked.items for request in batch]
        started = time.monotonic()
        try:
            outputs = self._run(first, [request.checked.feeds for request in batch], sum(counts), running)
            parts = part(first.artifact.outputs, outputs, counts)
        except RunFailed:
            return None
        seconds = time.monotonic() - started
        return [
            RunResult(own, sum(counts) - count, sum(counts), request.started - request.arrived, seconds)
            for request, own, count in zip(batch, parts, counts, strict=True)
        ]

    def _alone(self, request: Request, running: Running) -> Outcome:
        """One request by itself, in as many runs as its size needs."""
        items = request.checked.items
        most = min(items, request.most(self._max_batch))
        started = time.monotonic()
        while True:
            try:
                slices = self._slices(request, most, running)
                if isinstance(slices, EngineError):
                    return slices
                outputs = slices[0] if len(slices) == 1 else stack(request.artifact.outputs, slices)
                break
            except (OutOfMemory, MemoryError):
                smaller = request.checked.smaller(most)
                if smaller is None:
                    return RunFailed(f"no memory for the outputs of {items} items, {most} at a time")
                most = smaller
            except RunFailed as error:
                return request.over(time.monotonic(), "while it ran") or error
        return RunResult(outputs, 0, most, request.started - request.arrived, time.monotonic() - started, len(slices))

    def _slices(self, request: Request, most: int, running: Running) -> list[dict[str, Array]] | EngineError:
        items, feeds = request.checked.items, request.checked.feeds
        slices: list[dict[str, Array]] = []
        for start in range(0, items, most):
            # The first has just been looked at, unless others of its batch ran before it.
            unwanted = request.over(time.monotonic(), f"after {start} of {items} items")
            if unwanted is not None and (start or len(running.requests) > 1):
                self._counters.over(request.lane, unwanted)
                return unwanted
            stop = min(start + most, items)
            piece = feeds if most == items else cut(request.artifact.inputs, feeds, start, stop)
            slices.append(self._run(request, [piece], stop - start, running))
        return slices

    def _run(
        self, request: Request, feeds: Sequence[Mapping[str, Array]], items: int, running: Running
    ) -> dict[str, Array]:
        """One run of the runtime; `request` stands for all that share it."""
        artifact = request.artifact
        names = list(artifact.outputs)
        begin = time.monotonic_ns()
        try:
            joined = join(artifact.inputs, feeds)
        except MemoryError as error:
            raise OutOfMemory(f"no memory to join {items} items") from error
        ready = time.monotonic_ns()
        try:
            arrays = dict(zip(names, request.session.run(names, joined, running.stop), strict=True))
        except OutOfMemory:
            request.session = self._reopen(request)
            raise
        done = time.monotonic_ns()
        if request.checked.has_items:
            check_rows(artifact.outputs, arrays, items)
        end = time.monotonic_ns()
        spent = {"input_ns": ready - begin, "infer_ns": done - ready, "output_ns": end - done}
        self._counters.run(artifact.digest, request.lane, items=items, **spent)
        return arrays


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
