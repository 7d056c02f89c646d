"""The front: Granian's event loop reads each request whole, and only then a thread answers it.

A thread is never held by a client: not by a body that comes byte by byte (it is read in the loop, within
``body_seconds``), not by one that never ends (it is counted as it comes), not by somebody who reads slowly (the answer
is handed to Granian whole). What cannot be taken is refused in the loop, at once, whatever the threads are doing.

Why this and not another server: docs/adr/0005-requests-are-read-in-an-event-loop.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]  # its __all__ is missing

from . import envelope, gateway
from .errors import BadRequest, BodyTooLarge, BodyTooSlow, Overloaded, ServerError
from .flow import Flow
from .logs import access, flush
from .pool import MustWait, Pool, without_waiting
from .reply import Reply

LOOK_SECONDS = 0.001
NOT_HERE: Future[None] = Future()  # stands for: a thread has to begin it
# What may be done in the loop, before a thread could be woken for it: addresses, and the largest body.
PREDICTIONS = ("/infer", ":predict")
PROMPT = (*PREDICTIONS, "/v2/health/live")
PROMPT_BYTES = 16 * 1024
RETRY_SECONDS, MOST_REMEMBERED = 1.0, 1024
# A body of this size is read even where the request is refused: then the connection can be used again.
READ_BYTES = 256 * 1024
MOST_DIGITS = 16


class Front:
    """A WSGI application as Granian's RSGI calls one, of one worker process.

    Args:
        application: the WSGI application.
        threads: how many requests are answered at the same time.
        waiting: how many more may wait for a thread; beyond that they are refused with 503.
        queue_seconds: how long a prediction may have to wait, as far as can be told; others are refused too.
        max_body: largest body in bytes.
        body_seconds: how long a body may take to arrive.
        refused: told the status and the type of error of each request that is refused here.
        prompt: whether small predictions are tried in the loop itself. What would have to wait there (`pool.MustWait`)
            is done in a thread, and so are others at its address for a second.
    """

    def __init__(
        self,
        application: gateway.Application,
        *,
        threads: int,
        waiting: int,
        max_body: int,
        body_seconds: float,
        queue_seconds: float = 0.5,
        refused: Callable[[int, str], None] = lambda *_: None,
        prompt: bool = False,
    ) -> None:
        self._application = application
        self._threads = threads
        self._most = threads + waiting
        self._flow = Flow(queue_seconds)
        self._max_body = max_body
        self._body_seconds = body_seconds
        self._refused = refused
        self._prompt = prompt
        self._not_before: dict[str, float] = {}
        self._readers: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._under_way = 0
        self._answered: deque[tuple[Reply, asyncio.Future[None]]] = deque()
        self._telling = False
        self._looking = False

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called once by Granian, before the first request."""
        self._loop = loop
        self._pool = Pool(self._threads)
        self._sweep()

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called once by Granian, after the last request."""
        flush()

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Called by Granian for each request; returns when it is answered."""
        arrived, body = time.monotonic(), None
        try:
            if self._under_way and not _is_small(scope):
                self._require_room(scope.path)
            body = await self._body(scope, protocol)
            if self._under_way:
                self._require_room(scope.path)
        except ServerError as error:
            self._refuse(scope, protocol, error, arrived, whole=body is not None)
            return
        reply = Reply(scope, protocol, body, arrived, self._loop)
        until = self._begun_here(reply) if self._prompt and scope.path.endswith(PROMPT) else NOT_HERE
        if until is None:
            return
        self._begin(reply)
        answered = self._loop.create_future()
        if until is NOT_HERE:
            self._submit(reply, answered)
        else:
            self._hold(reply, until, answered)
        await answered

    def _begun_here(self, reply: Reply) -> Future[None] | None:
        """As `Reply.begin`; `NOT_HERE` where something would have to be waited for in the loop."""
        path = reply.scope.path
        if len(reply.body) > PROMPT_BYTES or self._not_before.get(path, 0.0) > reply.arrived:
            return NOT_HERE
        try:
            with without_waiting():
                return reply.begin(self._application)
        except MustWait:
            if len(self._not_before) >= MOST_REMEMBERED:
                self._not_before.clear()
            self._not_before[path] = reply.arrived + RETRY_SECONDS
            return NOT_HERE

    def _submit(self, reply: Reply, answered: asyncio.Future[None]) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_later(LOOK_SECONDS, self._look)
        self._pool.submit(partial(self._answer, reply, answered))

    def _answer(self, reply: Reply, answered: asyncio.Future[None]) -> None:
        """In a thread, which answers by itself; the loop only learns that it is done."""
        until = None
        try:
            until = reply.begin(self._application)
        finally:
            if until is None:
                self._tell(reply, answered)
            else:
                self._hold(reply, until, answered)

    def _hold(self, reply: Reply, until: Future[None], answered: asyncio.Future[None]) -> None:
        """Answers in the thread in which the waiting ends."""

        def give(_: object) -> None:
            try:
                reply.give()
            finally:
                self._tell(reply, answered)

        until.add_done_callback(give)

    def _look(self) -> None:
        self._looking = self._pool.look()
        if self._looking:
            self._loop.call_later(LOOK_SECONDS, self._look)

    def _begin(self, reply: Reply) -> None:
        self._under_way += 1
        if reply.scope.path.endswith(PREDICTIONS):
            self._flow.begin()

    def _end(self, reply: Reply) -> None:
        self._under_way -= 1
        if reply.scope.path.endswith(PREDICTIONS):
            self._flow.end()

    def _require_room(self, path: str) -> None:
        if self._under_way >= self._most:
            raise Overloaded(f"requests: got one more than the {self._most} that may be under way, expected it later")
        if self._flow.full and path.endswith(PREDICTIONS):
            raise Overloaded(f"requests: one more would wait about {self._flow.wait():.1f} s, expected it later")

    async def _body(self, scope: Any, protocol: Any) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: it is announced as too large, or becomes too large while it comes.
            BodyTooSlow: it did not come in time.
            BadRequest: it was cut short.
        """
        announced = scope.headers.get("content-length")
        chunked = "transfer-encoding" in scope.headers
        if not chunked and (announced is None or announced == "0"):
            return b""
        if not chunked and int(announced) > self._max_body:
            raise BodyTooLarge(f"body: got {announced} bytes, expected at most {self._max_body}")
        reader = asyncio.current_task()
        assert reader is not None  # noqa: S101 # a coroutine that runs is a task's
        self._readers[reader] = time.monotonic() + self._body_seconds
        try:
            body = await self._counted(protocol) if chunked else await protocol()
        except asyncio.CancelledError as error:
            if reader not in self._late:
                raise
            self._late.discard(reader)
            reader.uncancel()
            raise BodyTooSlow(f"body: got a part of it, expected all of it in {self._body_seconds:g} s") from error
        except (ProtocolClosed, ProtocolError) as error:
            raise BadRequest("body", "a part of it", f"{announced or 'all'} bytes") from error
        finally:
            del self._readers[reader]
        if not chunked and len(body) != int(announced):
            raise BadRequest("body", f"{len(body)} bytes", f"the {announced} that Content-Length announces")
        return bytes(body)

    def _sweep(self) -> None:
        """Now and then: ends the reading of bodies that take too long. One look at all costs less than a timer each."""
        now = time.monotonic()
        for reader, until in self._readers.items():
            if until > now:
                break  # those behind came later
            if reader not in self._late:
                self._late.add(reader)
                reader.cancel()
        self._loop.call_later(min(1.0, self._body_seconds / 4), self._sweep)

    async def _counted(self, protocol: Any) -> bytes:
        """A body of unknown length. Its end is one empty piece; a second one says that it broke off before."""
        pieces: list[bytes] = []
        size = ends = 0
        async for piece in protocol:
            size += len(piece)
            ends += not piece
            pieces.append(piece)
            if size > self._max_body:
                raise BodyTooLarge(f"body: got more bytes, expected at most {self._max_body}")
        if ends > 1:
            raise BadRequest("body", "chunks that break off or end in trailers", "whole chunks without trailers")
        return b"".join(pieces)

    def _refuse(self, scope: Any, protocol: Any, error: Exception, arrived: float, *, whole: bool) -> None:
        """Answers from the loop, without a thread. Where the body was not read whole, the connection closes."""
        request_id = envelope.request_id(scope.headers.get(envelope.REQUEST_ID_HEADER.lower()))
        status, headers, content = envelope.failure(error)
        headers |= envelope.HEADERS | {envelope.REQUEST_ID_HEADER: request_id}
        if not whole:
            headers["Connection"] = "close"
        protocol.response_bytes(status, list(headers.items()), content)
        self._refused(status, type(error).__name__)
        access(request_id, None, scope.method, scope.path, status, time.monotonic() - arrived)

    def _tell(self, reply: Reply, answered: asyncio.Future[None]) -> None:
        """Lets the loop know; one call for all that end before it looks."""
        self._answered.append((reply, answered))
        if not self._telling:
            self._telling = True
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to be told
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._telling = False
        while self._answered:
            reply, answered = self._answered.popleft()
            self._end(reply)
            if not answered.done():
                answered.set_result(None)


def _is_small(scope: Any) -> bool:
    """Whether a body is short enough to be read though it may be for nothing."""
    if "transfer-encoding" in scope.headers:
        return False
    announced = scope.headers.get("content-length") or "0"
    return len(announced) < MOST_DIGITS and int(announced) <= READ_BYTES
