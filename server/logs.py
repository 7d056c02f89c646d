"""Log lines: one JSON object a line, with request and decision ids, never with payloads.

JSON escapes line breaks, so a client cannot forge a second line; values that come from clients are shortened.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

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


def log() -> logging.Logger:
    """The server's logger."""
    return logging.getLogger(LOGGER)


def configure(level: str) -> None:
    """Sends the server's log lines of at least this level to standard error, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger = log()
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
