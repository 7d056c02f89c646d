"""Decisions are all there or not there at all: under failing statements, kills and crowds."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

import audit

Make = Callable[..., Any]

KILLED_WRITER = """
import os, signal, sys
import sqlalchemy as sa
import audit
sys.path.insert(0, "tests/audit")
from conftest import make_draft

engine = audit.open_database(sys.argv[1])
audit.migrate(engine)
log = audit.AuditLog(engine)
print(*log.record(make_draft(3)), flush=True)
moment, seen = sys.argv[2], 0

def die(*_):
    global seen
    seen += 1
    if moment == "commit" or seen == int(moment):
        os.kill(os.getpid(), signal.SIGKILL)

sa.event.listen(engine, "commit" if moment == "commit" else "after_cursor_execute", die)
while True:
    print(*log.record(make_draft(3)), flush=True)
"""


def statements(engine: sa.Engine, act: Callable[[], Any]) -> int:
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    act()
    sa.event.remove(engine, "before_cursor_execute", note)
    return len(seen)


def assert_sound(engine: sa.Engine, acknowledged: list[str]) -> None:
    """The database holds what was acknowledged, whole requests only, and nothing differs from its digests."""
    log = audit.AuditLog(engine)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        stored = [row.id for row in connection.exec_driver_sql("SELECT id FROM decision")]
        orphans = "SELECT count(*) FROM payload WHERE decision_id NOT IN (SELECT id FROM decision)"
        assert connection.exec_driver_sql(orphans).scalar() == 0
    assert set(acknowledged) <= set(stored)
    for decision_id in stored:
        ulid, _, _ = decision_id.partition(".")
        rows = log.get(decision_id).entry["rows"]
        assert {f"{ulid}.{row}" for row in range(rows)} <= set(stored)


def test_what_was_recorded_is_read_back(log: audit.AuditLog, draft: Make, row: Make) -> None:
    sent = draft(rows=[row(), row(outputs={"logits": np.array([np.nan, 1.0])}, status="invalid_output", note="NaN")])
    ids = log.record(sent)
    assert [i.split(".")[1] for i in ids] == ["0", "1"]
    assert log.count() == 2
    for decision_id, item in zip(ids, sent.rows, strict=True):
        found = log.get(decision_id)
        assert found.id == decision_id
        for field in ("inputs", "outputs", "attributions", "explanation_tensors"):
            arrays = getattr(found, field)
            assert arrays.keys() == getattr(item, field).keys()
            for name, array in getattr(item, field).items():
                np.testing.assert_array_equal(arrays[name], array)
        assert found.received == item.received
        assert (found.entry["status"], found.entry["note"]) == (item.status, item.note)


def test_unknown_ids_are_named(log: audit.AuditLog) -> None:
    for name in ("", "x", "01ARZ3NDEKTSV4RRFFQ69G5FAV.0", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "\ud800", "a\x00b"):
        with pytest.raises(audit.UnknownDecision) as caught:
            log.get(name)
        assert caught.value.decision_id == name


def test_a_request_without_rows_is_refused(log: audit.AuditLog, draft: Make) -> None:
    with pytest.raises(audit.InvalidDraft, match="rows"):
        log.record(draft(rows=[]))


def test_one_bad_row_keeps_the_whole_request_out(log: audit.AuditLog, draft: Make, row: Make) -> None:
    with pytest.raises(audit.InvalidDraft, match=r"explanation\.seed"):
        log.record(draft(rows=[row(), row(explanation={"method": "saliency", "seed": float("nan")})]))
    assert log.count() == 0


def test_any_failing_statement_leaves_nothing(database: sa.Engine, log: audit.AuditLog, draft: Make) -> None:
    log.record(draft(2))
    total = statements(database, lambda: log.record(draft(3)))
    assert total >= 3
    for failing in range(1, total + 1):
        seen = 0

        def fail(*_: Any, failing: int = failing) -> None:
            nonlocal seen
            seen += 1
            if seen == failing:
                raise sa.exc.OperationalError("statement", {}, Exception("disk full"))

        sa.event.listen(database, "before_cursor_execute", fail)
        with pytest.raises(audit.CommitFailed, match="disk full"):
            log.record(draft(3))
        sa.event.remove(database, "before_cursor_execute", fail)
        assert log.count() == 5
        assert_sound(database, [])


def test_a_failing_commit_leaves_nothing(database: sa.Engine, log: audit.AuditLog, draft: Make) -> None:
    def fail(*_: Any) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, Exception("disk full"))

    sa.event.listen(database, "commit", fail)
    with pytest.raises(audit.CommitFailed, match="disk full"):
        log.record(draft(3))
    sa.event.remove(database, "commit", fail)
    assert log.count() == 0
    assert len(log.record(draft(3))) == 3


def test_the_soundness_check_notices_half_a_request(database: sa.Engine, log: audit.AuditLog, draft: Make) -> None:
    first, second = log.record(draft(2))
    assert_sound(database, [first, second])
    with pytest.raises(AssertionError):
        assert_sound(database, ["01ARZ3NDEKTSV4RRFFQ69G5FAV.0"])
    with database.begin() as connection:
        connection.exec_driver_sql("DELETE FROM payload WHERE decision_id = ?", (second,))
        connection.exec_driver_sql("DELETE FROM decision WHERE id = ?", (second,))
    with pytest.raises(AssertionError):
        assert_sound(database, [first])


@pytest.mark.parametrize("moment", ["1", "2", "3", "commit"])
def test_a_killed_writer_leaves_it_sound(tmp_path: Path, repository: Path, draft: Make, moment: str) -> None:
    path = tmp_path / "killed.db"
    environment = os.environ | {"PYTHONPATH": str(repository)}
    child = subprocess.run(
        [sys.executable, "-c", KILLED_WRITER, str(path), moment],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    engine = audit.open_database(path)
    assert_sound(engine, child.stdout.split())
    log = audit.AuditLog(engine)
    assert log.count() == 3
    log.record(draft(2))
    assert log.count() == 5
    engine.dispose()


def test_a_writer_killed_at_any_moment_keeps_what_it_answered(tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "killed.db"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED_WRITER, str(path), "1000000"],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(25)]
    child.kill()
    lines.append(child.communicate()[0])
    engine = audit.open_database(path)
    assert_sound(engine, [i for line in lines for i in line.split() if "." in i and len(i) >= 28])
    engine.dispose()


def test_a_crowd_of_threads_records(database: sa.Engine, log: audit.AuditLog, draft: Make) -> None:
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda n: log.record(draft(1 + n % 3)), range(192)))
    ids = [i for answer in answers for i in answer]
    assert len(set(ids)) == len(ids) == log.count() == 384
    assert_sound(database, ids)


def held(database: sa.Engine, log: audit.AuditLog, drafts: list[Any], until: Callable[[], None]) -> list[Any]:
    """What recording the drafts gave: the first one's commit waits until all others wait behind it."""
    reached, free = threading.Event(), threading.Event()

    def hold(*_: Any) -> None:
        reached.set()
        assert free.wait(30)

    sa.event.listen(database, "commit", hold)

    def record(sent: Any) -> Any:
        try:
            return log.record(sent)
        except audit.CommitFailed as error:
            return error

    with ThreadPoolExecutor(len(drafts)) as pool:
        first = pool.submit(record, drafts[0])
        assert reached.wait(30)
        rest = [pool.submit(record, sent) for sent in drafts[1:]]
        while len(log._commits._waiting) < len(rest):
            time.sleep(0.001)
        until()
        free.set()
        return [first.result(), *(each.result() for each in rest)]


def test_those_who_wait_are_written_together(database: sa.Engine, log: audit.AuditLog, draft: Make) -> None:
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    given = held(
        database,
        log,
        [draft(1 + n % 3) for n in range(20)],
        lambda: sa.event.listen(database, "before_cursor_execute", note),
    )
    kinds = [statement.split()[0] for statement in seen]
    assert kinds[0] == "BEGIN"
    assert set(kinds[1:]) == {"INSERT"}
    assert len(kinds) <= 1 + 2 * 7
    ids = [each for answer in given for each in answer]
    assert len(ids) == log.count() == sum(1 + n % 3 for n in range(20))
    assert_sound(database, ids)


def test_who_cannot_be_written_fails_alone(
    database: sa.Engine, log: audit.AuditLog, draft: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = iter([f"{n:026d}" for n in range(5)] + ["0" * 26])
    monkeypatch.setattr("audit.log.new_ulid", lambda: next(twice))
    given = held(database, log, [draft(2) for _ in range(6)], lambda: None)
    failed = [answer for answer in given if isinstance(answer, audit.CommitFailed)]
    assert len(failed) == 1
    assert "UNIQUE" in str(failed[0])
    ids = [each for answer in given if isinstance(answer, list) for each in answer]
    assert len(ids) == log.count() == 10
    assert_sound(database, ids)


def test_two_logs_on_one_file_wait_for_each_other(tmp_path: Path, database: sa.Engine, draft: Make) -> None:
    other = audit.open_database(tmp_path / "decisions.db")
    logs = [audit.AuditLog(database), audit.AuditLog(other)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: logs[n % 2].record(draft()), range(40)))
    assert logs[0].count() == logs[1].count() == 40
    other.dispose()


def test_a_database_without_tables_fails_by_name(tmp_path: Path, draft: Make) -> None:
    engine = audit.open_database(tmp_path / "bare.db")
    log = audit.AuditLog(engine)
    with pytest.raises(audit.CommitFailed, match="no such table"):
        log.record(draft())
    with pytest.raises(audit.ReadFailed, match="no such table"):
        log.get("01ARZ3NDEKTSV4RRFFQ69G5FAV.0")
    with pytest.raises(audit.ReadFailed, match="no such table"):
        log.count()
    engine.dispose()


def test_the_rows_of_a_request_are_found_by_what_they_share(log: audit.AuditLog, draft: Make) -> None:
    several, one = log.record(draft(11)), log.record(draft(1))
    assert log.ids(several[0].split(".")[0]) == several
    assert log.ids(one[0].split(".")[0]) == one
    for unknown in ("0" * 26, "", one[0], "01JD%", several[0].split(".")[0].lower()):
        with pytest.raises(audit.UnknownDecision) as caught:
            log.ids(unknown)
        assert caught.value.decision_id == unknown


def test_a_damaged_first_row_is_said(log: audit.AuditLog, draft: Make, database: sa.Engine) -> None:
    ids = log.record(draft(2))
    for damage in ("X'7b7d'", "7"):
        with database.begin() as connection:
            connection.execute(sa.text(f"update decision set entry = {damage} where id = :id"), {"id": ids[0]})
        with pytest.raises(audit.CorruptDecision):
            log.ids(ids[0].split(".")[0])
