"""Clients on raw sockets in one event loop: open loops at a fixed rate, and closed ones over a list of requests.

In an *open loop* request i is due at i / rate whether or not earlier ones have been answered, and its latency counts
from then: a server that stalls is charged for all that came meanwhile (no coordinated omission). Where every connection
waits for an answer the request waits here, and that counts too; `lag` says how much of the latency it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from .asking import COUNTER, Ask
from .connection import CONNECTION_LOST, NO_ANSWER, PATIENCE_SECONDS, Connection
from .load import Load, percentiles

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """Request `number` was due, sent and answered at these moments (time.monotonic).

    Status 0 is a connection that ended, 1 one that was given up after `PATIENCE_SECONDS`.
    """

    number: int
    due: float
    sent: float
    done: float
    status: int
    retry_after: bool
    body: bytes

    @property
    def seconds(self) -> float:
        """Latency from when it was due."""
        return self.done - self.due

    @property
    def lag(self) -> float:
        """How late it was sent."""
        return self.sent - self.due


def load_of(answers: Sequence[Answer], seconds: float) -> Load:
    """Rate and latencies of what was answered with 200; the rest failed."""
    good = [answer.seconds for answer in answers if answer.status == 200]
    return Load(len(good) / seconds, *percentiles(good), len(answers) - len(good), len(answers))


def statuses(answers: Sequence[Answer]) -> str:
    """How many of each status, in words."""
    counts = Counter(answer.status for answer in answers)
    words = {CONNECTION_LOST: "connection ended", NO_ANSWER: "no answer"}
    return ", ".join(f"{words.get(status, status)}: {count:,}" for status, count in sorted(counts.items()))


def open_loop(
    port: int,
    asks: Sequence[Ask],
    rate: float,
    seconds: float,
    connections: int = 64,
    keep: Callable[[Answer], object] | None = None,
) -> list[Answer]:
    """Ask in turn at `rate` requests per second for so long; every answer in the order of requests.

    `keep` sees each answer as it comes; with it, their bodies are not kept here.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    return _run(_OpenLoop(port, asks, rate, round(rate * seconds), connections, keep).run())


def _run(work: Coroutine[Any, Any, T]) -> T:
    """In the leanest event loop there is: what asks takes its time from what answers, on the same machine."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


class _OpenLoop:
    """Sends what is due, without a task or a timer for each request."""

    def __init__(
        self,
        port: int,
        asks: Sequence[Ask],
        rate: float,
        count: int,
        connections: int,
        keep: Callable[[Answer], object] | None,
    ) -> None:
        self.port, self.asks, self.rate, self.count, self.keep = port, asks, rate, count, keep
        self.idle = deque(Connection() for _ in range(connections))
        self.wires = [None if COUNTER in ask.path or COUNTER.encode() in ask.body else ask.wire(port) for ask in asks]
        self.answers: list[Answer] = []
        self.freed, self.ended = asyncio.Event(), asyncio.Event()
        self.connecting: set[asyncio.Task[None]] = set()

    async def run(self) -> list[Answer]:
        """Every answer, in the order of requests."""
        self.start = time.monotonic() + 0.1
        for number in range(self.count):
            due = self.start + number / self.rate
            await asyncio.sleep(0)  # even where it is late, it looks at what has come before it goes on
            while (left := due - time.monotonic()) > 0:
                await asyncio.sleep(math.ceil(left * 1000) / 1000)  # timers know whole milliseconds, about
            while not self.idle:
                self.freed.clear()
                await self.freed.wait()
            self._ask(number, self.idle.pop())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), PATIENCE_SECONDS)
        answered, now = {answer.number for answer in self.answers}, time.monotonic()
        missing = [self._due(number) for number in range(self.count) if number not in answered]
        self.answers += [Answer(number, due, due, now, NO_ANSWER, False, b"") for number, due in missing]
        for connection in self.idle:
            if connection.transport is not None:
                connection.transport.close()
        return sorted(self.answers, key=lambda answer: answer.number)

    def _due(self, number: int) -> tuple[int, float]:
        return number, self.start + number / self.rate

    def _ask(self, number: int, connection: Connection) -> None:
        wire = self.wires[number % len(self.asks)] or self.asks[number % len(self.asks)].wire(self.port, number)
        sent = time.monotonic()
        fresh = connection.transport is None

        def told(status: int, retry: bool, body: bytes) -> None:
            if status == CONNECTION_LOST and not fresh:
                self._reconnect(number, connection, sent, wire)
            else:
                self._answered(number, connection, sent, status, retry, body)

        if not connection.send(wire, told):
            self._reconnect(number, connection, sent, wire)

    def _reconnect(self, number: int, connection: Connection, sent: float, wire: bytes) -> None:
        """A connection is made, or one that the server had closed is made again."""

        async def connected() -> None:
            done = partial(self._answered, number, connection, sent)
            if not await connection.connect(self.port) or not connection.send(wire, done):
                done(CONNECTION_LOST, False, b"")

        task = asyncio.get_running_loop().create_task(connected())
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)

    def _answered(
        self, number: int, connection: Connection, sent: float, status: int, retry: bool, body: bytes
    ) -> None:
        _, due = self._due(number)
        answer = Answer(number, due, sent, time.monotonic(), status, retry, body)
        if self.keep:
            self.keep(answer)
            answer = replace(answer, body=b"")
        self.answers.append(answer)
        self.idle.append(connection)
        self.freed.set()
        if len(self.answers) == self.count:
            self.ended.set()


def closed(
    port: int, asks: Callable[[int], Ask | None], connections: int, keep: Callable[[Answer], object], first: int = 0
) -> None:
    """Ask on so many connections until `asks(number)` gives None; `keep` sees each answer."""

    async def client(numbers: list[int]) -> None:
        connection = Connection()
        while (ask := asks(number := numbers.pop())) is not None:
            numbers.append(number + 1)
            sent = time.monotonic()
            status, retry, body = await connection.ask(port, ask.wire(port, number))
            keep(Answer(number, sent, sent, time.monotonic(), status, retry, body))
        numbers.append(number)
        if connection.transport is not None:
            connection.transport.close()

    async def all_of_them() -> None:
        numbers = [first]
        await asyncio.gather(*(client(numbers) for _ in range(connections)))

    _run(all_of_them())


def main() -> None:
    """What load.py asks for where there is no wrk."""
    spec, port, connections, seconds, first = sys.argv[1:6]
    given = json.loads(spec)
    ask = Ask(given["path"], Path(given["body"]).read_bytes(), given["headers"], given["method"])
    until, came = time.monotonic() + float(seconds), []
    closed(
        int(port), lambda _: ask if time.monotonic() < until else None, int(connections), came.append, int(first) + 1
    )
    good = [answer.seconds for answer in came if 200 <= answer.status < 300]
    p50, p99 = percentiles(good)
    found = {"requests": len(came), "us": float(seconds) * 1e6, "failed": len(came) - len(good)}
    print("@" + json.dumps(found | {"p50": p50 * 1e6, "p99": p99 * 1e6}))


if __name__ == "__main__":
    main()
