"""The one thread that writes decisions: when the database fails, when none can be started, when it has just ended."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import audit

Make = Callable[..., Any]


class Waiting:
    """The first commit waits until `free`; what is begun meanwhile waits behind it, as one group."""

    def __init__(self, database: sa.Engine) -> None:
        self.reached, self.free = threading.Event(), threading.Event()
        self.begun = 0
        sa.event.listen(database, "commit", self._hold)
        sa.event.listen(database, "begin", self._count)

    def _hold(self, _: object) -> None:
        self.reached.set()
        assert self.free.wait(30)

    def _count(self, _: object) -> None:
        self.begun += 1


def outcome(recording: Any) -> Any:
    """The ids, or the failure."""
    try:
        return recording.result()
    except audit.CommitFailed as error:
        return error


def test_a_locked_database_is_waited_for_once_by_all(
    tmp_path: Path, draft: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.database.BUSY_TIMEOUT_S", 0.2)
    database = audit.open_database(tmp_path / "decisions.db")
    audit.migrate(database)
    log, waiting = audit.AuditLog(database), Waiting(database)
    first = log.begin(draft())
    assert waiting.reached.wait(30)
    rest = [log.begin(draft(2)) for _ in range(20)]
    other = sqlite3.connect(tmp_path / "decisions.db", isolation_level=None, check_same_thread=False)

    def lock(_: object) -> None:
        if waiting.begun == 2:
            other.execute("BEGIN IMMEDIATE")

    sa.event.listen(database, "begin", lock)
    waiting.free.set()
    assert isinstance(outcome(first), list)
    failed = [outcome(each) for each in rest]
    assert all(isinstance(each, audit.CommitFailed) and "locked" in str(each) for each in failed)
    assert waiting.begun == 2
    other.execute("ROLLBACK")
    assert log.record(draft())
    assert log.count() == 2
    other.close()
    database.dispose()


def test_a_database_that_fails_among_those_written_apart_is_not_asked_again(
    database: sa.Engine, log: audit.AuditLog, draft: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 8 one is there already, so each is tried alone; from the fourth try on the disk is full."""
    names = iter([f"{n:026d}" for n in range(8)] + ["0" * 26])
    monkeypatch.setattr("audit.log.new_ulid", lambda: next(names))
    waiting = Waiting(database)
    first = log.begin(draft())
    assert waiting.reached.wait(30)
    rest = [log.begin(draft()) for _ in range(8)]
    refusals: list[None] = []

    def full(*_: object) -> None:
        if waiting.begun >= 2 + 4:
            refusals.append(None)
            raise sa.exc.OperationalError("statement", {}, Exception("disk full"))

    sa.event.listen(database, "before_cursor_execute", full)
    waiting.free.set()
    outcomes = [outcome(each) for each in (first, *rest)]
    assert [isinstance(each, list) for each in outcomes] == [True] * 4 + [False] * 5
    assert len(refusals) == 1
    sa.event.remove(database, "before_cursor_execute", full)
    assert log.count() == 4


def test_a_system_without_threads_fails_one_request_and_not_those_after_it(
    log: audit.AuditLog, draft: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", none)
        with pytest.raises(audit.CommitFailed, match="new thread"):
            log.record(draft())
    assert len(log.record(draft(2))) == log.count() == 2


@pytest.mark.parametrize("idle", [0.0, 1e-6, 1e-4])
def test_a_writer_that_ends_all_the_time_loses_nothing(
    log: audit.AuditLog, draft: Make, monkeypatch: pytest.MonkeyPatch, idle: float
) -> None:
    monkeypatch.setattr("audit.commits.IDLE_SECONDS", idle)
    drafts = [draft(1 + n % 2) for n in range(2)]

    def hammer(number: int) -> list[str]:
        return [each for _ in range(40) for each in log.record(drafts[number % 2])]

    with ThreadPoolExecutor(4) as pool:
        ids = [each for found in pool.map(hammer, range(4)) for each in found]
    assert len(set(ids)) == len(ids) == log.count() == 4 * 60


def test_errors_tell_no_value_of_a_decision(database: sa.Engine, log: audit.AuditLog, draft: Make) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE decision RENAME TO gone")
    with pytest.raises(audit.CommitFailed) as caught:
        log.record(draft())
    said = f"{caught.value} {caught.value.__cause__}"
    assert "INSERT INTO decision" in said
    assert "risk-desk" not in said
    assert "parameters: " not in said
    assert "risk-desk" in str(sa.exc.OperationalError("INSERT", {"who": "risk-desk"}, Exception())), "it would be told"
