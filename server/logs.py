"""Log lines: one JSON object a line, with request and decision ids, never with payloads.

JSON escapes line breaks, so a client cannot forge a second line; values that come from clients are shortened.
The line that every request leaves is written by a thread of its own, for many at a time (`AccessLines`).
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, NamedTuple, TextIO

LOGGER = "glasshouse"
FIELDS = ("request_id", "decision", "method", "route", "status", "milliseconds", "model", "error", "reason")
LONGEST = 300
LONGEST_REASON = 4000


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, message, and those of :data:`FIELDS` it carries."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        for field in FIELDS:
            value = getattr(record, field, None)
            if value is not None:
                longest = LONGEST_REASON if field == "reason" else LONGEST
                line[field] = value[:longest] if isinstance(value, str) else value
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


class AccessLine(NamedTuple):
    """What is known of an answered request; ``at`` in seconds since 1970."""

    at: float
    request_id: str
    decision: str | None
    method: str
    route: str
    status: int
    milliseconds: float

    def text(self) -> str:
        """The line, without its end, as `JsonLines` writes them; without a decision where there is none."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds"),
            "level": "info",
            "message": "request",
            **self._asdict(),
        }
        del line["at"]
        if self.decision is None:
            del line["decision"]
        return json.dumps(line, ensure_ascii=True)


class AccessLines:
    """Lines that wait until a thread writes them, at most `PAUSE` seconds later.

    A request that wrote its own line would let go of the interpreter for it, and at every request wait to get it back.
    """

    PAUSE = 0.05
    MOST = 10_000

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: deque[AccessLine] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._ringing = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, line: AccessLine) -> None:
        """Leaves a line to be written; where thousands wait because nobody takes them, this waits too."""
        self._waiting.append(line)
        if len(self._waiting) > self.MOST:
            self.flush()
        elif not self._ringing:
            self._ringing = True
            self._bell.put(None)
            self._start()

    def _start(self) -> None:
        """Not before there is a line, so that a process that forks before then has no thread to lose."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
                self._thread.start()

    def _write(self) -> None:
        while True:
            self._bell.get()
            time.sleep(self.PAUSE)
            self._ringing = False
            self.flush()

    def flush(self) -> None:
        """Writes every line that waits."""
        with self._lock:
            texts = [self._waiting.popleft().text() + "\n" for _ in range(len(self._waiting))]
            self._stream.write("".join(texts))
            self._stream.flush()


def reasons(error: BaseException) -> str:
    """What an error says and what its causes said, in one line, each once."""
    said: list[str] = []
    at: BaseException | None = error
    while at is not None:
        words = " ".join(str(at).split()) or type(at).__name__
        if not any(words in earlier for earlier in said):
            said.append(words)
        at = at.__cause__
    return "; because ".join(said)


_LOGGER = logging.getLogger(LOGGER)


def log() -> logging.Logger:
    """The server's logger."""
    return _LOGGER


def access(request_id: str, decision: str | None, method: str, route: str, status: int, seconds: float) -> None:
    """The line of one answered request; of level info."""
    logger = log()
    if not logger.isEnabledFor(logging.INFO):
        return
    milliseconds = round(seconds * 1000, 3)
    if _access is not None:
        _access.add(AccessLine(time.time(), request_id, decision, method, route[:LONGEST], status, milliseconds))
        return
    values = (request_id, decision, method, route, status, milliseconds)
    logger.info("request", extra=dict(zip(FIELDS, values, strict=False)))


def flush() -> None:
    """Writes the lines that still wait."""
    if _access is not None:
        _access.flush()


_access: AccessLines | None = None


def configure(level: str) -> None:
    """Sends the server's log lines of at least this level to standard error, as JSON."""
    global _access
    _access = AccessLines(sys.stderr)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger = log()
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
