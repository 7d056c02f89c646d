"""The published schema describes real records, and the check that says so is shown to fail."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

import audit
from audit.schema import compiled

Make = Callable[..., Any]
SPOILED: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("note", lambda e: e.pop("note")),
    ("schema_version", lambda e: e.update(schema_version=2)),
    ("schema_version", lambda e: e.update(schema_version=True)),
    ("id", lambda e: e.update(id="01ARZ3NDEKTSV4RRFFQ69G5FAV.01")),
    ("id", lambda e: e.update(id="01ARZ3NDEKTSV4RRFFQ69G5FAV.1\n")),
    ("row", lambda e: e.update(row=True)),
    ("row", lambda e: e.update(row=-1)),
    ("rows", lambda e: e.update(rows=1.0)),
    ("received_at", lambda e: e.update(received_at="2026-03-04T05:06:07Z")),
    ("status", lambda e: e.update(status="fine")),
    ("surprise", lambda e: e.update(surprise=1)),
    ("inputs.x.digest", lambda e: e["inputs"]["x"].update(digest="A" * 64)),
    ("inputs.x.shape[0]", lambda e: e["inputs"]["x"].update(shape=["1"])),
    ("explanation.program_digest", lambda e: e["explanation"].update(program_digest=3)),
    ("received.size", lambda e: e["received"].update(size=3)),
]


@pytest.fixture
def entry(log: audit.AuditLog, draft: Make) -> dict[str, Any]:
    return log.get(log.record(draft())[0]).entry


def test_real_records_validate(log: audit.AuditLog, draft: Make, row: Make) -> None:
    bare = row(received=None, received_type=None, explanation=None, attributions=None, explanation_tensors=None)
    for decision_id in log.record(draft(rows=[row(), bare, row(status="invalid_output", note="logits: NaN in row 2")])):
        audit.check_entry(log.get(decision_id).entry)


@pytest.mark.parametrize(("field", "spoil"), SPOILED, ids=[f"{i}-{field}" for i, (field, _) in enumerate(SPOILED)])
def test_the_check_fails_where_it_must(
    entry: dict[str, Any], field: str, spoil: Callable[[dict[str, Any]], Any]
) -> None:
    spoiled = copy.deepcopy(entry)
    spoil(spoiled)
    with pytest.raises(audit.InvalidDraft) as caught:
        audit.check_entry(spoiled)
    assert caught.value.field == field


def test_the_check_refuses_keywords_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="maxLength"):
        compiled({"properties": {"name": {"maxLength": 3}}}, {})


def test_every_field_of_an_entry_is_described_and_required() -> None:
    schema = audit.entry_schema()
    assert set(schema["required"]) == set(schema["properties"])
    assert json.loads(json.dumps(schema)) == schema
