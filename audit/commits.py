"""Group commit: requests that wait for the disk are written together, in one transaction.

Writers take turns, and whoever has the turn writes what waits, its own and the others'; a writer that finds its own
written already has nothing left to do. So a busy log pays for one commit and two statements a group, an idle one waits
for nobody. (P. Helland et al., Group Commit Timers and High Volume Transaction Systems, 1987.)
"""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from .entry import Entry
from .tables import decision, payload
from .tensors import Payload

LARGEST = 64
INSERT_DECISION, INSERT_PAYLOAD = sa.insert(decision), sa.insert(payload)


@dataclass
class Write:
    """The rows of one request, and what became of them."""

    decisions: list[dict[str, Any]]
    payloads: list[dict[str, Any]]
    done: bool = False
    failure: BaseException | None = None

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> "Write":
        """What is inserted for the entries of a request."""
        decisions = [{"id": entry.id, "entry": entry.content, "digest": entry.digest} for entry in entries]
        return cls(decisions, [_payload_row(entry, item) for entry in entries for item in entry.payloads])


class Commits:
    """Writes to a migrated database; any number of threads may share it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._waiting: list[Write] = []
        # Waiting in the database would mean polling its lock, and the unlucky time out.
        self._turn = threading.Lock()

    def commit(self, write: Write) -> None:
        """Committed when this returns; raises what the database said where it was rolled back."""
        with self._lock:
            self._waiting.append(write)
        with self._turn:
            if not write.done:
                self._write(self._taken(write))
        if write.failure is not None:
            raise write.failure

    def _taken(self, own: Write) -> list[Write]:
        """What waits, the first come first, up to `LARGEST`; the own is among them."""
        with self._lock:
            self._waiting.remove(own)
            group = [own, *self._waiting[: LARGEST - 1]]
            del self._waiting[: LARGEST - 1]
        return group

    def _write(self, group: list[Write]) -> None:
        """All of a group or, where that fails, each of it by itself: one that cannot be written fails alone."""
        try:
            self._transaction(group)
        except (SQLAlchemyError, OverflowError) as error:
            for write in group:
                write.failure = error if len(group) == 1 else self._alone(write)
        except BaseException as error:
            for write in group:
                write.failure = error
        for write in group:
            write.done = True

    def _alone(self, write: Write) -> BaseException | None:
        try:
            self._transaction([write])
        except BaseException as error:
            return error
        return None

    def _transaction(self, group: list[Write]) -> None:
        payloads = [row for write in group for row in write.payloads]
        with self._engine.begin() as connection:
            connection.execute(INSERT_DECISION, [row for write in group for row in write.decisions])
            if payloads:
                connection.execute(INSERT_PAYLOAD, payloads)


def _payload_row(entry: Entry, item: Payload) -> dict[str, Any]:
    return {
        "decision_id": entry.id,
        "role": item.role,
        "name": item.name,
        "dtype": item.dtype,
        "shape": json.dumps(item.shape),
        "content": item.content,
    }
