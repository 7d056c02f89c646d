"""The answer to one request that has come whole, from the call of the application to Granian.

It is begun in the event loop or in a thread, and given there, or by whoever ends what it waits for (`gateway.Held`).
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Future
from typing import Any

from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]  # its __all__ is missing

from . import envelope, gateway
from .logs import log
from .pool import step_aside


class Reply:
    """``scope`` and ``protocol`` are Granian's, ``arrived`` is when the request came, ``loop`` the one it came in."""

    __slots__ = ("_call", "_loop", "_protocol", "arrived", "body", "scope")

    def __init__(self, scope: Any, protocol: Any, body: bytes, arrived: float, loop: asyncio.AbstractEventLoop) -> None:
        self.scope, self.body, self.arrived = scope, body, arrived
        self._protocol, self._loop = protocol, loop
        self._call: gateway.Call | None = None

    def begin(self, application: gateway.Application) -> Future[None] | None:
        """Calls the application and answers, unless the answer waits for what is then returned: see `give`.

        Raises `pool.MustWait` in the loop, and nothing else.
        """
        variables = gateway.environ(self.scope, self.body, self.arrived)
        try:
            self._call = gateway.Call(application, variables)
        except Exception as error:
            self._fail(error)
            return None
        if self._call.until is None:
            self.give()
        return self._call.until

    def give(self) -> None:
        """Answers with what the application has. Never raises."""
        assert self._call is not None  # noqa: S101 # `begin` comes first
        try:
            status, headers, chunks = self._call.answer()
            try:
                if gateway.is_streamed(headers):
                    self._stream(self._protocol.response_stream(status, headers), chunks)
                else:
                    self._protocol.response_bytes(status, headers, b"".join(chunks))
            finally:
                gateway.close(chunks)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """The application has handlers of its own: this is a failure of what stands before it."""
        log().error("request failed", extra={"error": type(error).__name__}, exc_info=error)
        status, headers, content = envelope.failure(error)
        self._protocol.response_bytes(status, list(headers.items()), content)

    def _stream(self, transport: Any, chunks: Any) -> None:
        """Piece by piece, until the client has left: then the pieces are closed, and the work behind them ends."""

        async def send(piece: bytes) -> None:
            await transport.send_bytes(piece)

        step_aside()
        with contextlib.suppress(ProtocolClosed, ProtocolError):
            for piece in chunks:
                asyncio.run_coroutine_threadsafe(send(piece), self._loop).result()
