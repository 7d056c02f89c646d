"""The log of decisions: a request's rows are recorded in one transaction, and read back with every digest checked."""

import json
import re
import time
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from .commits import Commits, Write
from .decision import Decision, checked_entry, restore
from .draft import DecisionDraft
from .entry import compose
from .errors import CommitFailed, CorruptDecision, InvalidDraft, ReadFailed, UnknownDecision
from .tables import decision, payload
from .tensors import Payload
from .ulid import new_ulid

WELL_FORMED = re.compile(r"[0-9A-Z]{26}\.[0-9]{1,9}")


@dataclass(frozen=True)
class Recording:
    """The decisions of a request on their way to the disk: `committed` ends when they are there.

    Nobody is told the `ids` before that: `result` has to be asked.
    """

    ids: list[str]
    committed: "Future[None]"

    def result(self) -> list[str]:
        """The ids, once they are committed. Raises CommitFailed (the transaction was rolled back)."""
        try:
            self.committed.result()
        except Exception as error:
            reason = getattr(error, "orig", None) or error
            raise CommitFailed(f"request {self.ids[0].partition('.')[0]} could not be recorded: {reason}") from error
        return self.ids


class AuditLog:
    """Decisions in a migrated database; one log may be shared by any number of threads."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._commits = Commits(engine)

    def record(self, draft: DecisionDraft) -> list[str]:
        """Record every row of a request and return their ids, `<ulid>.<row>`; committed when this returns.

        Raises InvalidDraft (nothing was written) or CommitFailed (the transaction was rolled back).
        """
        return self.begin(draft).result()

    def begin(self, draft: DecisionDraft) -> Recording:
        """As `record`, without waiting for the disk. Raises InvalidDraft."""
        if not draft.rows:
            raise InvalidDraft("rows", "no row", "at least one")
        ulid, answered_at = new_ulid(), datetime.now(UTC)
        duration_ns = time.monotonic_ns() - draft.received_ns
        entries = [compose(draft, row, ulid, answered_at, duration_ns) for row in range(len(draft.rows))]
        write = Write.of(entries)
        self._commits.submit(write)
        return Recording([entry.id for entry in entries], write.committed)

    def get(self, decision_id: str) -> Decision:
        """The decision of this id, its digests recomputed.

        Raises UnknownDecision, CorruptDecision naming each difference, or ReadFailed.
        """
        content, digest, payloads = self._read(decision_id)
        return restore(decision_id, content, digest, payloads)

    def ids(self, request: str) -> list[str]:
        """The ids of all decisions of a request, in the order of its rows, by the ULID that they share.

        Raises UnknownDecision, CorruptDecision when the first row's entry is damaged, or ReadFailed.
        """
        first = f"{request}.0"
        if not WELL_FORMED.fullmatch(first):
            raise UnknownDecision(request)
        try:
            with self._engine.begin() as connection:
                found = connection.execute(_head(first)).one_or_none()
            if found is None:
                raise UnknownDecision(request)
            entry = checked_entry(first, bytes(found.entry), found.digest)
        except (TypeError, ValueError) as error:
            raise CorruptDecision(first, [f"a stored column is not of its type ({error})"]) from error
        except SQLAlchemyError as error:
            raise ReadFailed(f"the decisions of '{request}' could not be read: {error}") from error
        # The rows of a request are recorded together or not at all, so the first one's entry speaks for all.
        return [f"{request}.{row}" for row in range(entry["rows"])]

    def count(self) -> int:
        """How many decisions are recorded."""
        try:
            with self._engine.begin() as connection:
                return connection.scalar(sa.select(sa.func.count()).select_from(decision)) or 0
        except SQLAlchemyError as error:
            raise ReadFailed(f"the decisions could not be counted: {error}") from error

    def _read(self, decision_id: str) -> tuple[bytes, str, list[Payload]]:
        if not WELL_FORMED.fullmatch(decision_id):
            raise UnknownDecision(decision_id)
        body = sa.select(payload).where(payload.c.decision_id == decision_id).order_by(payload.c.role, payload.c.name)
        try:
            with self._engine.begin() as connection:
                found = connection.execute(_head(decision_id)).one_or_none()
                if found is None:
                    raise UnknownDecision(decision_id)
                payloads = [_payload(dict(row)) for row in connection.execute(body).mappings()]
                return bytes(found.entry), found.digest, payloads
        except (TypeError, ValueError) as error:
            raise CorruptDecision(decision_id, [f"a stored column is not of its type ({error})"]) from error
        except SQLAlchemyError as error:
            raise ReadFailed(f"decision '{decision_id}' could not be read: {error}") from error


def _head(decision_id: str) -> sa.Select[tuple[bytes, str]]:
    return sa.select(decision.c.entry, decision.c.digest).where(decision.c.id == decision_id)


def _payload(row: dict[str, Any]) -> Payload:
    shape = tuple(json.loads(row["shape"]))
    return Payload(row["role"], row["name"], row["dtype"], shape, bytes(row["content"]))
