"""One HTTP connection of a load generator, on a raw socket: whole requests out, whole answers back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

CONNECTION_LOST, NO_ANSWER = 0, 1
PATIENCE_SECONDS = 120.0
Told = Callable[[int, bool, bytes], None]  # status, whether Retry-After came, body


class Connection(asyncio.Protocol):
    """One connection with at most one request under way; reconnects when it is used after its end."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.told: Told | None = None
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        found = parsed(self.buffer)
        if found is not None:
            status, retry, body, closing = found
            self.buffer.clear()
            if closing and self.transport is not None:
                self.transport.close()
                self.transport = None
            self._tell(status, retry, body)

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        self._tell(CONNECTION_LOST, False, b"")

    def _tell(self, status: int, retry: bool, body: bytes) -> None:
        told, self.told = self.told, None
        if told is not None:
            told(status, retry, body)

    def send(self, request: bytes, told: Told) -> bool:
        """Asks, and has the answer told; false where there is no connection."""
        if self.transport is None or self.transport.is_closing():
            return False
        self.buffer.clear()
        self.told = told
        self.transport.write(request)
        return True

    async def connect(self, port: int) -> bool:
        """Whether there is a connection."""
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        return self.transport is not None

    async def ask(self, port: int, request: bytes) -> tuple[int, bool, bytes]:
        """(status, whether Retry-After came, body); one more try where an idle connection had been closed."""
        fresh = self.transport is None
        found = await self._once(port, request)
        return await self._once(port, request) if found[0] == CONNECTION_LOST and not fresh else found

    async def _once(self, port: int, request: bytes) -> tuple[int, bool, bytes]:
        answered: asyncio.Future[tuple[int, bool, bytes]] = asyncio.get_running_loop().create_future()

        def told(status: int, retry: bool, body: bytes) -> None:
            if not answered.done():
                answered.set_result((status, retry, body))

        if (self.transport is None and not await self.connect(port)) or not self.send(request, told):
            return CONNECTION_LOST, False, b""
        try:
            return await asyncio.wait_for(answered, PATIENCE_SECONDS)
        except TimeoutError:
            if self.transport is not None:
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
