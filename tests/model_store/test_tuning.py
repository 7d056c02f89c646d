"""How a version is run: checked, kept beside it, renewed, collected and verified like a certificate."""

import json

import msgspec
import pytest

from model_store import InvalidTuning, Measured, Point, Store, Tuning, UnknownVersion

FILES = {"model": b"the graph"}
POINT = Point(threads=2, instances=1, batch=8, milliseconds=1.5, items_per_second=5333.3)
TUNING = Tuning(
    max_batch=8,
    max_wait_ms=0.0,
    instances=1,
    threads=2,
    deadline_seconds=1.5,
    run_rows=100,
    measured=Measured(machine="a processor", cores=2, runtime="1.22", at="2026-01-01T00:00:00+00:00", table=[POINT]),
)


def test_it_is_read_as_it_was_written():
    assert Tuning.from_bytes(TUNING.to_bytes()) == TUNING
    assert json.loads(TUNING.to_bytes())["measured"]["table"][0]["batch"] == 8
    assert Tuning.from_bytes(b"{}") == Tuning()
    assert Tuning(max_batch=3, max_wait_ms=0.5).told == "3 items in a run, 0.5 ms of waiting for company"
    assert Tuning().told == "as the server is"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_batch": 0}, "max_batch: got 0, expected 1 or more"),
        ({"threads": -1}, "threads: got -1"),
        ({"instances": 0}, "instances: got 0"),
        ({"run_rows": 0}, "run_rows: got 0"),
        ({"max_wait_ms": -0.5}, "max_wait_ms: got -0.5, expected 0 or more"),
        ({"max_wait_ms": float("nan")}, "max_wait_ms: got nan"),
        ({"deadline_seconds": 0.0}, "deadline_seconds: got 0.0, expected more than 0"),
        ({"schema_version": 2}, "schema_version: got 2, expected 1"),
        ({"max_batch": "many"}, r"max_batch"),
        ({"threads": 1.5}, r"threads"),
    ],
)
def test_what_is_none_is_refused_by_name(store, mixed, change, told):
    store.publish(mixed, FILES)
    wrong = msgspec.structs.replace(TUNING, **change)
    with pytest.raises(InvalidTuning, match=told):
        wrong.to_bytes()
    with pytest.raises(InvalidTuning, match=told):
        store.set_tuning("mixed", 1, wrong)
    assert store.resolve("mixed").tuning() is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"speed": 3}', b"\xff", b"null"])
def test_what_is_not_even_readable_is_refused(data):
    with pytest.raises(InvalidTuning, match="readable"):
        Tuning.from_bytes(data)


def test_it_is_renewed_and_forgotten_without_a_new_version(store, mixed):
    published = store.publish(mixed, FILES)
    assert (published.tuning_digest, published.tuning()) == (None, None)
    tuned = store.set_tuning("mixed", 1, TUNING)
    assert store.resolve("mixed") == tuned
    assert (tuned.tuning(), tuned.digest, tuned.version) == (TUNING, published.digest, 1)
    before = store.changed_at("mixed")
    again = store.set_tuning("mixed", "1", Tuning(max_batch=3))
    assert again.tuning() == Tuning(max_batch=3)
    assert store.changed_at("mixed") != before, "whoever serves it is told"
    assert store.gc().blobs == (tuned.tuning_digest,)
    store.set_certificate("mixed", 1, b"{}")
    assert store.resolve("mixed").tuning() == Tuning(max_batch=3)
    assert store.set_tuning("mixed", 1, None).tuning() is None
    assert store.set_tuning("mixed", 1, None).tuning() is None
    assert store.gc().blobs == (again.tuning_digest,)
    assert store.verify() == []
    with pytest.raises(UnknownVersion):
        store.set_tuning("mixed", 2, TUNING)


def test_verify_tells_of_one_that_is_wrong(store, mixed):
    for _ in range(3):
        store.publish(mixed, FILES)
    digest = store.set_tuning("mixed", 1, TUNING).tuning_digest
    folder = store.root / "models" / "mixed" / "tuning"
    (store.root / "blobs" / "sha256" / digest[:2] / digest[2:]).unlink()
    (folder / "2").write_text(store.put_blob(b"no tuning") + "\n")
    (folder / "3").write_text("nonsense")
    (folder / "7").write_text(digest + "\n")
    told = {each.path: each.problem for each in Store(store.root).verify()}
    assert told["models/mixed/tuning/1"] == f"its tuning (digest {digest}) is not in the store"
    assert "is not readable" in told["models/mixed/tuning/2"]
    assert told["models/mixed/tuning/3"] == "is corrupt: it holds no digest"
    assert told["models/mixed/tuning/7"] == "is the tuning of a version that is not there"
