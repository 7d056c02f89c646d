"""Opening the database of decisions. All that is SQLite's own is set here and nowhere else.

No error tells the values of a statement: they are decisions, and errors are logged.

SQLite runs in WAL mode with synchronous=FULL: with NORMAL, a commit that was answered for can be lost with the power.
"""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from .errors import InvalidDatabase

BUSY_TIMEOUT_S = 30
OPEN_ATTEMPTS = 100


def open_database(url_or_path: str | os.PathLike[str]) -> sa.Engine:
    """An engine for a database URL or for the path of a SQLite file, which is made with mode 0600 when missing.

    Raises InvalidDatabase when the address cannot be read, the driver is missing or the file cannot be opened.
    """
    try:
        url = _url(url_or_path)
        if url.get_backend_name() == "sqlite":
            return _open_sqlite(url)
        return sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
    except ImportError as error:
        raise InvalidDatabase(f"the driver of this database is not installed: {error}") from error
    except (ArgumentError, OSError) as error:
        raise InvalidDatabase(f"the audit database cannot be opened: {error}") from error


def _url(url_or_path: str | os.PathLike[str]) -> URL:
    text = os.fspath(url_or_path)
    return make_url(text) if "://" in text else URL.create("sqlite", database=text)


def _open_sqlite(url: URL) -> sa.Engine:
    if url.database in (None, "", ":memory:") or url.query:
        raise InvalidDatabase(f"'{url}' is no plain file: decisions must outlive the process; give a path")
    path = Path(str(url.database))
    path.parent.mkdir(parents=True, exist_ok=True)
    # The side files of WAL mode take the permissions of the database, so it is closed to others before it is opened.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True)
    sa.event.listen(engine, "connect", _prepare_connection)
    sa.event.listen(engine, "begin", _begin)
    _switch_to_wal(engine)
    return engine


def _prepare_connection(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver would open transactions at its own moments (and never for DDL); `_begin` opens them instead.
    connection.isolation_level = None
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _switch_to_wal(engine: sa.Engine) -> None:
    """WAL is a property of the file; the switch does not wait for other openers, so it is tried until it stands."""
    for attempt in range(OPEN_ATTEMPTS):
        raw = None
        try:
            raw = engine.raw_connection()
            cursor = raw.cursor()
            if cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise InvalidDatabase(f"'{engine.url.database}' cannot be switched to WAL mode")
            return
        except (sqlite3.Error, SQLAlchemyError) as error:
            if "locked" not in str(error) or attempt == OPEN_ATTEMPTS - 1:
                raise InvalidDatabase(f"'{engine.url.database}' is no usable SQLite database: {error}") from error
            time.sleep(0.05)
        finally:
            if raw is not None:
                raw.close()
