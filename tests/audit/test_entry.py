"""The entry names every fact in canonical bytes, and refuses what JSON cannot say by its path."""

import hashlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

import audit
from audit.entry import canonical, compose, instant, plain

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
NOW = datetime(2026, 3, 4, 5, 6, 8, tzinfo=UTC)
Make = Callable[..., Any]


def test_bytes_are_canonical_and_digested(draft: Make) -> None:
    made = compose(draft(2), 1, ULID, NOW, 12)
    again = json.loads(made.content)
    # ECMAScript writes 1e-07 as 1e-7; all else here is written by Python's sorted, compact form as RFC 8785 asks.
    text = json.dumps(again, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert made.content.decode() == text.replace("e-07", "e-7").replace("1.0]", "1]")
    assert made.digest == hashlib.sha256(made.content).hexdigest()
    assert (made.id, again["id"], again["row"], again["rows"]) == (f"{ULID}.1", f"{ULID}.1", 1, 2)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_the_short_way_writes_what_the_standard_says(value: Any) -> None:
    try:
        expected = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        with pytest.raises(audit.InvalidDraft):
            canonical(value)
    else:
        assert canonical(value) == expected


def test_names_every_tensor_by_digest(draft: Make) -> None:
    made = compose(draft(), 0, ULID, NOW, 12)
    entry = json.loads(made.content)
    x = np.linspace(-1, 1, 6, dtype="<f4").tobytes()
    assert entry["inputs"]["x"] == {"dtype": "<f4", "shape": [1, 2, 3], "digest": hashlib.sha256(x).hexdigest()}
    assert entry["received"]["digest"] == hashlib.sha256(b"[1, 2, 3]\x00\xff").hexdigest()
    assert entry["received"]["media_type"] == "application/json"
    assert set(entry["attributions"]) == {"x"}
    assert set(entry["explanation_tensors"]) == {"standard_error"}
    assert entry["explanation"]["parameters"] == {"steps": 32, "rule": "gauss"}


def test_times_are_utc_with_microseconds(draft: Make) -> None:
    eastern = datetime(2026, 3, 4, 0, 6, 7, tzinfo=timezone(timedelta(hours=-5)))
    assert instant("received_at", eastern) == "2026-03-04T05:06:07.000000Z"
    entry = json.loads(compose(draft(), 0, ULID, NOW, 12).content)
    assert (entry["received_at"], entry["answered_at"]) == (
        "2026-03-04T05:06:07.000890Z",
        "2026-03-04T05:06:08.000000Z",
    )


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, float("nan")]}, r"'explanation\.a\[1\]'.*nan"),
        ({"a": {"b": float("-inf")}}, r"'explanation\.a\.b'.*-inf"),
        ({"a": np.float32("nan")}, r"'explanation\.a'.*nan"),
        ({"a": 2**53}, r"'explanation\.a'.*9007199254740992"),
        ({"a": np.zeros(2)}, r"'explanation\.a'.*ndarray"),
        ({"a": b"x"}, r"'explanation\.a'.*bytes"),
        ({1: 2}, r"'explanation'.*key 1"),
        ({"a": "\ud800"}, "entry"),
    ],
)
def test_refuses_what_json_cannot_say(draft: Make, row: Make, value: dict[Any, Any], path: str) -> None:
    rows = [row(explanation={"method": "saliency"} | value)]
    with pytest.raises(audit.InvalidDraft, match=path):
        compose(draft(rows=rows), 0, ULID, NOW, 12)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"model": {"name": "m", "version": 1, "digest": "a" * 64}}, r"model\.model_digest"),
        ({"model": {"name": "m", "version": 0, "digest": "a" * 64, "model_digest": "b" * 64}}, r"model\.version"),
        ({"model": {"name": "m", "version": 1, "digest": "short", "model_digest": "b" * 64}}, r"model\.digest"),
        ({"received_at": datetime(2026, 1, 1)}, "received_at"),
        ({"route": None}, "route"),
        ({"runtime": {"threads": "two"}}, r"runtime\.threads"),
    ],
)
def test_refuses_a_draft_that_leaves_the_schema(draft: Make, changes: dict[str, Any], path: str) -> None:
    with pytest.raises(audit.InvalidDraft, match=path):
        compose(draft(**changes), 0, ULID, NOW, 12)


def test_refuses_a_row_that_leaves_the_schema(draft: Make, row: Make) -> None:
    for changes, path in [({"status": "fine"}, "status"), ({"explanation": {}}, r"explanation\.method")]:
        with pytest.raises(audit.InvalidDraft, match=path):
            compose(draft(rows=[row(**changes)]), 0, ULID, NOW, 12)


def test_plain_turns_numpy_scalars_and_tuples_into_json() -> None:
    assert plain({"a": (np.int64(3), np.float32(0.5), np.bool_(True)), "b": None}, "") == {
        "a": [3, 0.5, True],
        "b": None,
    }


def test_duration_counts_from_the_draft(log: audit.AuditLog, draft: Make) -> None:
    made = draft(received_ns=time.monotonic_ns() - 5_000_000_000)
    assert log.get(log.record(made)[0]).entry["duration_ns"] >= 5_000_000_000
