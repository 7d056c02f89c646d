"""A certificate may be renewed: one pointer per version, in one step, kept by the collector, checked by verify."""

import hashlib
import os

import pytest

from model_store import CorruptBlob, Store, StoreUnavailable, UnknownVersion

FILES = {"model": b"the graph"}


def pointer(store):
    return store.root / "models" / "mixed" / "certificates" / "1"


def test_without_a_certificate_there_is_none(store, mixed):
    version = store.publish(mixed, FILES)
    assert (version.certificate_digest, version.certificate()) == (None, None)


def test_a_renewed_certificate_takes_the_place_of_the_published_one(store, mixed):
    published = store.publish(mixed, {**FILES, "certificate": b"{}"})
    assert published.certificate() == b"{}"
    renewed = store.set_certificate("mixed", 1, b'{"passed":true}')
    found = store.resolve("mixed")
    assert renewed == found
    assert found.certificate() == b'{"passed":true}'
    assert found.certificate_digest == hashlib.sha256(b'{"passed":true}').hexdigest()
    assert (found.digest, found.manifest, found.version) == (published.digest, published.manifest, 1)
    assert found.file("certificate") == b"{}"
    store.set_certificate("mixed", "1", b'{"passed":false}')
    assert store.resolve("mixed").certificate() == b'{"passed":false}'
    assert [path.name for path in pointer(store).parent.iterdir()] == ["1"]


def test_the_collector_keeps_what_the_pointer_names_and_no_earlier_one(store, mixed):
    store.publish(mixed, FILES)
    first = store.set_certificate("mixed", 1, b"first").certificate_digest
    second = store.set_certificate("mixed", 1, b"second").certificate_digest
    assert store.gc().blobs == (first,)
    assert store.resolve("mixed").certificate_digest == second
    assert store.gc().blobs == ()
    assert store.verify() == []


def test_an_archived_version_keeps_its_certificate(store, mixed):
    store.publish(mixed, FILES)
    store.archive("mixed", 1)
    store.set_certificate("mixed", 1, b"late")
    assert store.gc().blobs == ()
    assert store.resolve("mixed", 1).certificate() == b"late"


def test_verify_tells_of_a_pointer_that_is_wrong(store, mixed):
    store.publish(mixed, FILES)
    digest = store.set_certificate("mixed", 1, b"first").certificate_digest
    (store.root / "blobs" / "sha256" / digest[:2] / digest[2:]).unlink()
    (pointer(store).parent / "7").write_text(digest + "\n")
    assert [(each.path, each.problem.split(" (")[0]) for each in store.verify()] == [
        ("models/mixed/certificates/1", "its certificate"),
        ("models/mixed/certificates/7", "is the certificate of a version that is not there"),
    ]


def test_a_pointer_that_holds_no_digest_is_corrupt(store, mixed):
    store.publish(mixed, FILES)
    store.set_certificate("mixed", 1, b"first")
    pointer(store).write_text("nonsense")
    with pytest.raises(CorruptBlob, match="certificates/1 is corrupt: it holds no digest"):
        store.resolve("mixed")
    assert [each.path for each in store.verify()] == ["models/mixed/certificates/1"]


def test_a_certificate_is_of_a_version_that_exists(store, mixed):
    store.publish(mixed, FILES)
    with pytest.raises(UnknownVersion):
        store.set_certificate("mixed", 2, b"{}")
    assert not pointer(store).parent.exists()


def test_a_store_that_may_not_be_written_still_shows_its_certificates(store, mixed, monkeypatch):
    store.publish(mixed, FILES)
    store.set_certificate("mixed", 1, b"first")

    def refuse(*_arguments, **_options):
        raise OSError(30, "Read-only file system")

    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *rest: refuse() if flags & 3 else real(path, flags, *rest))
    reader = Store(store.root)
    assert reader.resolve("mixed").certificate() == b"first"
    with pytest.raises(StoreUnavailable, match="Read-only"):
        reader.set_certificate("mixed", 1, b"second")
