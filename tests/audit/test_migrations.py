"""Migrations are applied once, in order, by one process at a time, and leave the tables that the room reads."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

import audit
from audit.migrations import MIGRATIONS, migrate
from audit.tables import metadata


def columns(engine: sa.Engine) -> dict[str, list[tuple[str, str, bool, bool]]]:
    inspector = sa.inspect(engine)
    return {
        table: [
            (
                c["name"],
                str(c["type"]),
                c["nullable"],
                c["name"] in inspector.get_pk_constraint(table)["constrained_columns"],
            )
            for c in inspector.get_columns(table)
        ]
        for table in metadata.tables
    }


@pytest.fixture
def empty(tmp_path: Path) -> sa.Engine:
    return audit.open_database(tmp_path / "empty.db")


def test_migrations_make_the_tables_of_this_release(database: sa.Engine, empty: sa.Engine) -> None:
    metadata.create_all(empty)
    assert columns(database) == columns(empty)
    assert sa.inspect(database).get_foreign_keys("payload")[0]["referred_table"] == "decision"


def test_the_comparison_notices_a_column(database: sa.Engine, empty: sa.Engine) -> None:
    metadata.create_all(empty)
    with empty.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE decision ADD COLUMN extra TEXT")
    assert columns(database) != columns(empty)


def test_only_what_is_missing_is_applied_and_recorded(empty: sa.Engine) -> None:
    ran: list[str] = []

    def first(_: sa.Connection) -> None:
        ran.append("first")

    def second(_: sa.Connection) -> None:
        ran.append("second")

    assert migrate(empty, [first]) == [1]
    assert migrate(empty, [first, second]) == [2]
    assert migrate(empty, [first, second]) == []
    assert ran == ["first", "second"]
    with empty.begin() as connection:
        rows = connection.exec_driver_sql("SELECT number, name FROM audit_migration ORDER BY number").fetchall()
    assert [tuple(row) for row in rows] == [(0, "lock"), (1, "first"), (2, "second")]


def test_a_failing_migration_leaves_nothing(empty: sa.Engine) -> None:
    def half(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE half (a INTEGER)")
        connection.exec_driver_sql("CREATE TABLE half (a INTEGER)")

    with pytest.raises(audit.InvalidDatabase, match="half"):
        migrate(empty, [*MIGRATIONS, half])
    assert sa.inspect(empty).get_table_names() == ["audit_migration"]
    assert migrate(empty) == [1]


def test_a_newer_or_another_history_is_refused(empty: sa.Engine) -> None:
    def other(_: sa.Connection) -> None: ...

    migrate(empty, [*MIGRATIONS, other])
    with pytest.raises(audit.InvalidDatabase, match="newer release: unknown migration 2 'other'"):
        migrate(empty)
    with pytest.raises(audit.InvalidDatabase, match="'create_decisions' in the database, 'other' here"):
        migrate(empty, [other, other])


def test_processes_migrate_at_once(tmp_path: Path, repository: Path) -> None:
    script = "import sys, audit; sys.stdin.read(1); print(audit.migrate(audit.open_database(sys.argv[1])))"
    path = tmp_path / "shared.db"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            cwd=repository,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("g")
        child.stdin.flush()
    answers = [child.communicate(timeout=120) for child in children]
    assert [error for _, error in answers] == [""] * 4
    assert sorted(out.strip() for out, _ in answers) == ["[1]", "[]", "[]", "[]"]
