"""One batch through the runtime: join the inputs, run, part the outputs.

A batch that fails is run again request by request, so that the request at fault fails alone and the others get what
they would have got alone. A request that is larger than a run may be goes through in slices; one that does not fit into
memory, in smaller and smaller ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from . import buckets
from .counters import Counters
from .errors import Cancelled, DeadlineExceeded, EngineError, OutOfMemory, RunFailed
from .feeds import check_rows, cut, join, part, stack
from .lanes import Request
from .protocol import Array, RunResult
from .sessions import Session
from .stopping import Running

Outcome = RunResult | EngineError


class Runner:
    """Runs batches and counts what they did. `reopen` makes the session of a request anew; `filled`: whether runs are
    filled up to fixed sizes."""

    def __init__(
        self, max_batch: int, counters: Counters, reopen: Callable[[Request], Session], filled: bool = False
    ) -> None:
        self._max_batch = max_batch
        self._counters = counters
        self._reopen = reopen
        self._filled = filled

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
        names, begin, size = list(artifact.outputs), time.monotonic_ns(), self._size(request, checked.items)
        try:
            feeds = checked.feeds if size == checked.items else _joined(request, [checked.feeds], size - checked.items)
            outputs = _taken(request, request.session.run(names, feeds), size, checked.items)
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
                smaller = self._smaller(request, most)
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
        names, size = list(request.artifact.outputs), self._size(request, items)
        begin = time.monotonic_ns()
        joined = _joined(request, feeds, size - items)
        ready = time.monotonic_ns()
        try:
            arrays = request.session.run(names, joined, running.stop)
        except OutOfMemory:
            request.session = self._reopen(request)
            raise
        done = time.monotonic_ns()
        outputs = _taken(request, arrays, size, items)
        end = time.monotonic_ns()
        spent = {"input_ns": ready - begin, "infer_ns": done - ready, "output_ns": end - done}
        self._counters.run(request.artifact.digest, request.lane, items=items, **spent)
        return outputs

    def _size(self, request: Request, items: int) -> int:
        """How many items a run of so many really carries: where runs are filled up, the next fixed size, unless the
        graph says how many it takes or has none."""
        checked = request.checked
        if not self._filled or checked.fixed or not checked.has_items:
            return items
        return buckets.fit(items, request.most(self._max_batch))

    def _smaller(self, request: Request, most: int) -> int | None:
        """How many items a run may carry after one of `most` was too large; None if it cannot carry fewer."""
        if self._filled and not request.checked.fixed and request.checked.has_items:
            return buckets.below(most, request.most(self._max_batch))
        return request.checked.smaller(most)


def _joined(request: Request, feeds: Sequence[Mapping[str, Array]], missing: int) -> dict[str, Array]:
    """One set of feeds for a run, the last item repeated for as many as are missing. Raises `OutOfMemory`."""
    inputs = request.artifact.inputs
    more = [buckets.repeated(inputs, feeds[-1], missing)] if missing else []
    try:
        return join(inputs, [*feeds, *more])
    except MemoryError as error:
        raise OutOfMemory(f"no memory to join the items of {len(feeds)} requests") from error


def _taken(request: Request, arrays: Sequence[Array], size: int, items: int) -> dict[str, Array]:
    """The outputs by name, of the items that were sent. Raises `RunFailed` where a run of `size` items answered another
    number of rows."""
    kinds = request.artifact.outputs
    outputs = dict(zip(kinds, arrays, strict=True))
    if request.checked.has_items:
        check_rows(kinds, outputs, size)
    return outputs if size == items else cut(kinds, outputs, 0, items)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
