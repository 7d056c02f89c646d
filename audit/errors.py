"""What can go wrong in the audit room.

AuditError
├── InvalidDatabase    the database cannot be used: no file to keep, a newer schema, a failing migration
├── InvalidDraft       a decision that cannot be written down; names the field, what came, what was expected
├── CommitFailed       the database did not take the decisions of a request; none of them is kept
├── ReadFailed         the database could not be read
├── UnknownDecision    no decision has this id
└── CorruptDecision    what is stored differs from what was recorded; names each difference
"""


class AuditError(Exception):
    """Any failure of the audit room."""


class InvalidDatabase(AuditError):
    """The database cannot hold decisions."""


class InvalidDraft(AuditError):
    """A decision that cannot be recorded as it was handed over."""

    def __init__(self, field: str, came: str, expected: str) -> None:
        super().__init__(f"decision field '{field}': got {came}, expected {expected}")
        self.field, self.came, self.expected = field, came, expected


class CommitFailed(AuditError):
    """The transaction that records a request failed; nothing of it is stored."""


class ReadFailed(AuditError):
    """The database could not answer a read."""


class UnknownDecision(AuditError):
    """There is no decision of this id."""

    def __init__(self, decision_id: str) -> None:
        super().__init__(f"unknown decision '{decision_id}'")
        self.decision_id = decision_id


class CorruptDecision(AuditError):
    """A stored decision does not match its own digests."""

    def __init__(self, decision_id: str, differences: list[str]) -> None:
        super().__init__(f"decision '{decision_id}' is corrupt: {'; '.join(differences)}")
        self.decision_id, self.differences = decision_id, differences
