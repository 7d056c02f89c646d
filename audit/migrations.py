"""The history of the tables: a list of functions that only grows, each applied once and recorded by its number.

A migration is never edited after a release: it keeps its own copy of what it makes. All that are missing are applied
in one transaction, under a lock that is a row of the record itself (number 0): every migrator updates it first, and so
waits for whoever came before and then sees what that one did. That holds on any database with row or file locks.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateTable

from .errors import InvalidDatabase

Migration = Callable[[sa.Connection], None]

_record = sa.Table(
    "audit_migration",
    sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("applied_at", sa.String(32), nullable=False),
)
LOCK_ROW = 0
BOOTSTRAP_ATTEMPTS = 20


def create_decisions(connection: sa.Connection) -> None:
    """Decisions and their payloads."""
    tables = sa.MetaData()
    sa.Table(
        "decision",
        tables,
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    sa.Table(
        "payload",
        tables,
        sa.Column("decision_id", sa.String(40), sa.ForeignKey("decision.id"), primary_key=True),
        sa.Column("role", sa.String(16), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("dtype", sa.String(16), nullable=False),
        sa.Column("shape", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    tables.create_all(connection, checkfirst=False)


MIGRATIONS: tuple[Migration, ...] = (create_decisions,)


def migrate(engine: sa.Engine, migrations: Sequence[Migration] = MIGRATIONS) -> list[int]:
    """Apply what is missing and return the numbers applied; safe to call from many processes at once.

    Raises InvalidDatabase when the database is of a newer release, has another history, or refuses a migration.
    """
    _bootstrap(engine)
    try:
        with engine.begin() as connection:
            connection.execute(sa.update(_record).where(_record.c.number == LOCK_ROW).values(applied_at=_now()))
            rows = connection.execute(sa.select(_record.c.number, _record.c.name).where(_record.c.number > LOCK_ROW))
            applied = {row.number: row.name for row in rows}
            _same_history(applied, migrations)
            missing = [(n, m) for n, m in enumerate(migrations, 1) if n not in applied]
            for number, migration in missing:
                migration(connection)
                row = {"number": number, "name": migration.__name__, "applied_at": _now()}
                connection.execute(sa.insert(_record).values(row))
    except SQLAlchemyError as error:
        raise InvalidDatabase(f"the audit database could not be migrated: {error}") from error
    return [number for number, _ in missing]


def _same_history(applied: dict[int, str], migrations: Sequence[Migration]) -> None:
    known = {number: migration.__name__ for number, migration in enumerate(migrations, 1)}
    for number, name in sorted(applied.items()):
        if number not in known:
            raise InvalidDatabase(f"the audit database is of a newer release: unknown migration {number} '{name}'")
        if known[number] != name:
            raise InvalidDatabase(f"audit migration {number} is '{name}' in the database, '{known[number]}' here")


def _bootstrap(engine: sa.Engine) -> None:
    """Make the record and its lock row; another process may be doing the same, so look again after a failure."""
    for attempt in range(BOOTSTRAP_ATTEMPTS):
        try:
            with engine.begin() as connection:
                connection.execute(CreateTable(_record, if_not_exists=True))
                if connection.scalar(sa.select(_record.c.number).where(_record.c.number == LOCK_ROW)) is None:
                    row = {"number": LOCK_ROW, "name": "lock", "applied_at": _now()}
                    connection.execute(sa.insert(_record).values(row))
            return
        except SQLAlchemyError as error:
            if attempt == BOOTSTRAP_ATTEMPTS - 1:
                raise InvalidDatabase(f"the audit database cannot be used: {error}") from error
            time.sleep(0.05)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
