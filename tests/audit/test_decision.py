"""A change to any stored byte is noticed and named; what is read is strict JSON."""

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

import audit

Make = Callable[..., Any]
CHANGES = [
    ("UPDATE payload SET content = zeroblob(length(content)) WHERE role = 'input' AND name = 'x'", "input 'x': digest"),
    ("UPDATE payload SET content = zeroblob(length(content)) WHERE role = 'received'", "received 'body': digest"),
    ("UPDATE payload SET dtype = '<i4' WHERE name = 'x' AND role = 'attribution'", "attribution 'x': dtype differ"),
    ("UPDATE payload SET shape = '[6]' WHERE name = 'x' AND role = 'input'", "input 'x': shape differ"),
    ("UPDATE payload SET shape = 'six' WHERE name = 'x' AND role = 'input'", "not of its type"),
    ("UPDATE payload SET name = 'z' WHERE name = 'logits'", "output 'logits': missing; output 'z': not named"),
    ("DELETE FROM payload WHERE role = 'explanation'", "explanation 'standard_error': missing"),
    ("UPDATE decision SET digest = 'x'", "entry: its bytes do not match"),
    ("UPDATE decision SET entry = CAST(replace(entry, 'risk-desk', 'someone') AS BLOB)", "entry: its bytes"),
]


@pytest.mark.parametrize(("statement", "named"), CHANGES, ids=[named for _, named in CHANGES])
def test_any_change_is_named(database: sa.Engine, log: audit.AuditLog, draft: Make, statement: str, named: str) -> None:
    (decision_id,) = log.record(draft())
    log.get(decision_id)
    with database.begin() as connection:
        assert connection.exec_driver_sql(statement).rowcount == 1
    with pytest.raises(audit.CorruptDecision, match=named) as caught:
        log.get(decision_id)
    assert caught.value.decision_id == decision_id


def test_every_flipped_byte_of_an_entry_is_noticed(database: sa.Engine, log: audit.AuditLog, draft: Make) -> None:
    (decision_id,) = log.record(draft())
    with database.begin() as connection:
        content = connection.exec_driver_sql("SELECT entry FROM decision").scalar_one()
    for position in range(0, len(content), 37):
        changed = bytearray(content)
        changed[position] ^= 1
        with database.begin() as connection:
            connection.exec_driver_sql("UPDATE decision SET entry = ?", (bytes(changed),))
        with pytest.raises(audit.CorruptDecision):
            log.get(decision_id)


def test_an_entry_under_another_id_is_noticed(database: sa.Engine, log: audit.AuditLog, draft: Make) -> None:
    first, second = log.record(draft(2))
    with database.begin() as connection:
        both = "UPDATE decision SET (entry, digest) = (SELECT entry, digest FROM decision WHERE id = ?) WHERE id = ?"
        connection.exec_driver_sql(both, (first, second))
    with pytest.raises(audit.CorruptDecision, match=f"entry of decision '{first}'"):
        log.get(second)


def test_json_is_strict_and_says_where_nulls_stand(log: audit.AuditLog, draft: Make, row: Make) -> None:
    outputs = {"logits": np.array([[np.nan, 1.5], [-np.inf, 2.0]], np.float32)}
    (decision_id,) = log.record(draft(rows=[row(outputs=outputs, status="invalid_output")]))
    shown = json.loads(log.get(decision_id).to_json(), parse_constant=lambda text: pytest.fail(text))
    assert shown["id"] == decision_id == shown["entry"]["id"]
    assert shown["outputs"]["logits"] == {"dtype": "<f4", "shape": [2, 2], "data": [[None, 1.5], [None, 2.0]]}
    assert shown["notes"] == ["outputs.logits: null stands for 2 value(s) that are NaN or infinite"]
    assert shown["inputs"]["words"] == {"dtype": "utf8", "shape": [2], "data": ["né", ""]}
    assert shown["explanation"]["method"] == "integrated_gradients"
    assert base64.b64decode(shown["received"]["base64"]) == b"[1, 2, 3]\x00\xff"
    assert shown["entry"]["attributions"]["x"]["digest"]


def test_a_decision_without_explanation_or_received_bytes(log: audit.AuditLog, draft: Make, row: Make) -> None:
    bare = row(received=None, received_type=None, explanation=None, attributions=None, explanation_tensors=None)
    shown = log.get(log.record(draft(rows=[bare]))[0]).to_dict()
    assert (shown["received"], shown["explanation"], shown["attributions"]) == (None, None, {})
