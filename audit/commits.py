"""Group commit: requests that wait for the disk are written together, in one transaction.

One thread writes, as long as there is something to write: all that came while it wrote the last group is the next one.
So a busy log pays for one commit and a few statements a group, an idle one waits for nobody, and whoever asked may wait
or be told. (P. Helland et al., Group Commit Timers and High Volume Transaction Systems, 1987.)
"""

import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from .entry import Entry
from .tables import decision, payload
from .tensors import Payload

LARGEST = 64
MOST_ROWS = 64  # of one statement
# Of a database that is locked, full or away (PEP 249), or of too many who use it: the fault of no write.
OF_THE_DATABASE = (OperationalError, sa.exc.TimeoutError)
IDLE_SECONDS = 5.0  # a writer that has nothing to write for so long ends; the next request starts another


@dataclass
class Write:
    """The rows of one request, and what becomes of them."""

    decisions: list[dict[str, Any]]
    payloads: list[dict[str, Any]]
    committed: "Future[None]" = field(default_factory=Future)

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> "Write":
        """What is inserted for the entries of a request."""
        decisions = [{"id": entry.id, "entry": entry.content, "digest": entry.digest} for entry in entries]
        return cls(decisions, [_payload_row(entry, item) for entry in entries for item in entry.payloads])


class Commits:
    """Writes to a migrated database; any number of threads may share it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._waiting: list[Write] = []
        self._came = threading.Condition()
        self._writing = False

    def submit(self, write: Write) -> None:
        """Has it written; its `committed` ends then, with what the database said where it was rolled back.

        What is called back by `committed` is called in the thread that writes, and holds up the next group.
        """
        with self._came:
            if not self._writing:
                try:
                    threading.Thread(target=self._write_all, name="decisions", daemon=True).start()
                except RuntimeError as error:  # the system gives no thread
                    write.committed.set_exception(error)
                    return
                self._writing = True
            self._waiting.append(write)
            self._came.notify()

    def _write_all(self) -> None:
        while group := self._taken():
            self._write(group)

    def _taken(self) -> list[Write]:
        """What waits, the first come first, up to `LARGEST`; nothing where nothing comes any more."""
        with self._came:
            if not self._waiting and not self._came.wait_for(lambda: self._waiting, IDLE_SECONDS):
                self._writing = False
            group = self._waiting[:LARGEST]
            del self._waiting[:LARGEST]
            return group

    def _write(self, group: list[Write]) -> None:
        """All of a group or, where that fails, each of it by itself: one that cannot be written fails alone.

        Where the database fails, all fail: each by itself would wait as long again for what nobody gets.
        """
        failures: list[BaseException | None] = [None for _ in group]
        try:
            self._transaction(group)
        except BaseException as error:
            failures = self._apart(group) if _is_of_one(error) and len(group) > 1 else [error for _ in group]
        for write, failure in zip(group, failures, strict=True):
            if failure is None:
                write.committed.set_result(None)
            else:
                write.committed.set_exception(failure)

    def _apart(self, group: list[Write]) -> list[BaseException | None]:
        """What became of each by itself, until the database fails."""
        failures: list[BaseException | None] = []
        for write in group:
            try:
                self._transaction([write])
                failures.append(None)
            except BaseException as error:
                failures.append(error)
                if not _is_of_one(error):
                    break
        return failures + failures[-1:] * (len(group) - len(failures))

    def _transaction(self, group: list[Write]) -> None:
        with self._engine.begin() as connection:
            _insert(connection, decision, [row for write in group for row in write.decisions])
            _insert(connection, payload, [row for write in group for row in write.payloads])


def _is_of_one(error: BaseException) -> bool:
    """Whether others, written without the one at fault, may do better."""
    return isinstance(error, SQLAlchemyError | OverflowError) and not isinstance(error, OF_THE_DATABASE)


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Many rows a statement: for each of them the driver lets go of the interpreter, and waits to get it back."""
    start = 0
    while start < len(rows):
        size = min(MOST_ROWS, 1 << (len(rows) - start).bit_length() - 1)
        values = enumerate(rows[start : start + size])
        connection.execute(
            _statement(table, size), {f"{name}_{index}": row[name] for index, row in values for name in row}
        )
        start += size


@cache
def _statement(table: sa.Table, rows: int) -> sa.TextClause:
    """Text, because SQLAlchemy compiles an insert of several rows anew at each execution. `rows` is a power of two, so
    that there are few of them."""
    names = table.columns.keys()
    places = (", ".join(f":{name}_{row}" for name in names) for row in range(rows))
    return sa.text(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {', '.join(f'({row})' for row in places)}")  # noqa: S608 # names of our own


def _payload_row(entry: Entry, item: Payload) -> dict[str, Any]:
    return {
        "decision_id": entry.id,
        "role": item.role,
        "name": item.name,
        "dtype": item.dtype,
        "shape": json.dumps(item.shape),
        "content": item.content,
    }
