"""Decision records: what came, what the model answered and why, committed before the answer leaves.

A request becomes one `DecisionDraft`; `AuditLog.record` writes a decision per row in one transaction, and
`AuditLog.get` reads one back with every digest recomputed. This room owns its tables, is handed a database engine
(`open_database`, `migrate`) and knows nothing of models or HTTP.
"""

from .database import open_database
from .decision import Decision
from .draft import DecisionDraft, RowDraft
from .errors import (
    AuditError,
    CommitFailed,
    CorruptDecision,
    InvalidDatabase,
    InvalidDraft,
    ReadFailed,
    UnknownDecision,
)
from .log import AuditLog, Recording
from .migrations import migrate
from .schema import check_entry, entry_schema

__all__ = [
    "AuditError",
    "AuditLog",
    "CommitFailed",
    "CorruptDecision",
    "Decision",
    "DecisionDraft",
    "InvalidDatabase",
    "InvalidDraft",
    "ReadFailed",
    "Recording",
    "RowDraft",
    "UnknownDecision",
    "check_entry",
    "entry_schema",
    "migrate",
    "open_database",
]
