"""Clients on raw sockets in one event loop: open loops at a fixed rate, and closed ones over a list of requests.

In an *open loop* request i is due at i / rate whether or not earlier ones have been answered, and its latency counts
from then: a server that stalls is charged for all that came meanwhile (no coordinated omission). Where every connection
waits for an answer the request waits here, and that counts too; `lag` says how much of the latency it was.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .asking import Ask
from .load import Load, percentiles

CONNECTION_LOST, NO_ANSWER = 0, 1
PATIENCE_SECONDS = 120.0


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


class Connection(asyncio.Protocol):
    """One connection with at most one request under way; reconnects when it is used after its end."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.waiting: asyncio.Future[tuple[int, bool, bytes]] | None = None
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        found = parsed(self.buffer)
        if found is not None and self.waiting is not None and not self.waiting.done():
            status, retry, body, closing = found
            self.buffer.clear()
            if closing and self.transport is not None:
                self.transport.close()
                self.transport = None
            self.waiting.set_result((status, retry, body))

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result((CONNECTION_LOST, False, b""))

    async def ask(self, port: int, request: bytes) -> tuple[int, bool, bytes]:
        """(status, whether Retry-After came, body); one more try where an idle connection had been closed."""
        fresh = self.transport is None
        found = await self._once(port, request)
        return await self._once(port, request) if found[0] == CONNECTION_LOST and not fresh else found

    async def _once(self, port: int, request: bytes) -> tuple[int, bool, bytes]:
        loop = asyncio.get_running_loop()
        self.buffer.clear()
        self.waiting = loop.create_future()
        if self.transport is None:
            try:
                await loop.create_connection(lambda: self, "127.0.0.1", port)
            except OSError:
                return CONNECTION_LOST, False, b""
        if self.transport is None:
            return CONNECTION_LOST, False, b""
        self.transport.write(request)
        try:
            return await asyncio.wait_for(self.waiting, PATIENCE_SECONDS)
        except TimeoutError:
            self.transport.abort()
            self.transport = None
            return NO_ANSWER, False, b""


def parsed(buffer: bytearray) -> tuple[int, bool, bytes, bool] | None:
    """(status, Retry-After, body, connection ends) of a whole answer with Content-Length; None while it is not whole.

    Raises ValueError for an answer without a length.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[:end]).lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise ValueError(f"an answer without Content-Length came: {head[:200]!r}")
    length = int(head[at + 17 :].split(b"\r\n", 1)[0])
    if len(buffer) < end + 4 + length:
        return None
    body = bytes(buffer[end + 4 : end + 4 + length])
    return int(head[9:12]), b"\r\nretry-after:" in head, body, b"\r\nconnection: close" in head


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
    return asyncio.run(_open_loop(port, asks, rate, round(rate * seconds), connections, keep))


async def _open_loop(
    port: int, asks: Sequence[Ask], rate: float, count: int, connections: int, keep: Callable[[Answer], object] | None
) -> list[Answer]:
    idle = deque(Connection() for _ in range(connections))
    freed, answers, tasks = asyncio.Condition(), [], set()
    start = time.monotonic() + 0.1

    async def one(number: int, connection: Connection) -> None:
        due, sent = start + number / rate, time.monotonic()
        status, retry, body = await connection.ask(port, asks[number % len(asks)].wire(port, number))
        answer = Answer(number, due, sent, time.monotonic(), status, retry, b"" if keep else body)
        if keep:
            keep(Answer(number, due, sent, answer.done, status, retry, body))
        answers.append(answer)
        async with freed:
            idle.append(connection)
            freed.notify()

    for number in range(count):
        await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
        async with freed:
            await freed.wait_for(lambda: bool(idle))
        task = asyncio.create_task(one(number, idle.pop()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for connection in idle:
        if connection.transport is not None:
            connection.transport.close()
    return sorted(answers, key=lambda answer: answer.number)


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

    asyncio.run(all_of_them())


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
