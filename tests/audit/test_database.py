"""A database file is durable, private and refused by name when it cannot be one."""

import stat
from pathlib import Path

import pytest
import sqlalchemy as sa

import audit


def test_pragmas_hold_on_every_connection(database: sa.Engine) -> None:
    with database.connect() as one, database.connect() as two:
        for connection in (one, two):
            values = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
            assert values == ["wal", 2, 1, 30000]


def test_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "d.db"
    path.parent.mkdir()
    path.touch(mode=0o644)
    engine = audit.open_database(path)
    audit.migrate(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM decision")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"d.db": 0o600, "d.db-wal": 0o600, "d.db-shm": 0o600}
    engine.dispose()


def test_url_and_path_open_the_same_file(tmp_path: Path) -> None:
    audit.migrate(audit.open_database(tmp_path / "d.db"))
    assert audit.migrate(audit.open_database(f"sqlite:///{tmp_path / 'd.db'}")) == []


@pytest.mark.parametrize("address", ["", ":memory:", "sqlite://", "sqlite:///:memory:", "sqlite:///f.db?mode=memory"])
def test_memory_is_refused(address: str) -> None:
    with pytest.raises(audit.InvalidDatabase, match="outlive"):
        audit.open_database(address)


def test_what_cannot_be_opened_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, and long enough to be read as a header of one" * 20)
    with pytest.raises(audit.InvalidDatabase, match=r"text\.db"):
        audit.open_database(tmp_path / "text.db")
    with pytest.raises(audit.InvalidDatabase, match="cannot be opened"):
        audit.open_database(tmp_path)
    with pytest.raises(audit.InvalidDatabase, match="cannot be opened"):
        audit.open_database("nonsense://x")
