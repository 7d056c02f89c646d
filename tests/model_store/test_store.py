"""The store's promises: versions, aliases, whole or not at all, and nothing corrupt is handed out."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from model_store import (
    Conflict,
    CorruptBlob,
    FileRef,
    InvalidManifest,
    InvalidName,
    Store,
    StoreUnavailable,
    UnknownAlias,
    UnknownBlob,
    UnknownModel,
    UnknownVersion,
)

FILES = {"model": b"the graph", "background": b"the rows"}


def every_file(store: Store) -> list[Path]:
    return sorted(path for path in store.root.rglob("*") if path.is_file())


def leftovers(store: Store) -> list[Path]:
    return [path for path in every_file(store) if path.name.startswith(".tmp-")]


def test_what_is_published_is_found_again(store, mixed):
    published = store.publish(mixed, FILES)
    found = store.resolve("mixed", 1)
    assert found == published
    assert (found.version, found.archived, found.model_digest) == (1, False, hashlib.sha256(b"the graph").hexdigest())
    assert found.file("background") == b"the rows"
    assert found.manifest.created
    assert (found.has("background"), found.has("tokenizer")) == (True, False)
    with pytest.raises(UnknownBlob):
        found.file("tokenizer")
    assert store.models() == ["mixed"]
    assert store.verify() == []


def test_the_layout_is_the_one_that_is_documented(store, mixed):
    version = store.publish(mixed, FILES)
    digest = version.model_digest
    assert (store.root / "blobs" / "sha256" / digest[:2] / digest[2:]).read_bytes() == b"the graph"
    assert (store.root / "models" / "mixed" / "versions" / "1").read_text().strip() == version.digest
    store.set_alias("mixed", "live", 1)
    assert (store.root / "models" / "mixed" / "aliases" / "live").read_text().split()[0] == "1"


def test_versions_count_up_and_the_highest_offered_one_is_served(store, mixed):
    for _ in range(11):
        store.publish(mixed, FILES)
    assert [each.version for each in store.versions("mixed")] == list(range(1, 12))
    assert store.resolve("mixed").version == 11
    store.archive("mixed", 11)
    assert store.resolve("mixed").version == 10
    assert store.resolve("mixed", 11).archived
    store.archive("mixed", 11, archived=False)
    assert store.resolve("mixed").version == 11


def test_a_version_is_named_by_number_digits_or_alias(store, mixed):
    store.publish(mixed, FILES)
    store.publish(mixed, FILES)
    store.set_alias("mixed", "live", 1)
    assert [store.resolve("mixed", each).version for each in (1, "1", "live", 2, "2", None)] == [1, 1, 1, 2, 2, 2]
    store.set_alias("mixed", "default", "live")
    assert store.resolve("mixed").version == 1
    assert store.aliases("mixed") == {"default": 1, "live": 1}
    store.remove_alias("mixed", "default")
    assert store.resolve("mixed").version == 2


@pytest.mark.parametrize("version", [0, 9, -1, "9", "01", "²", True, 1.0, "9" * 5000])
def test_a_version_that_is_not_there_is_named(store, mixed, version):
    store.publish(mixed, FILES)
    with pytest.raises(UnknownVersion, match="it has: 1"):
        store.resolve("mixed", version)


@pytest.mark.parametrize("name", ["other", "", "..", "../mixed", "mixed/..", "a\0b", "mixed\n", "é", "x" * 300, None])
def test_a_model_that_is_not_there_is_named(store, mixed, name):
    store.publish(mixed, FILES)
    for call in (store.resolve, store.versions, store.aliases):
        with pytest.raises(UnknownModel):
            call(name)


@pytest.mark.parametrize("alias", ["other", "..", "../versions/1", "a b", "x\0"])
def test_an_alias_that_is_not_there_is_named(store, mixed, alias):
    store.publish(mixed, FILES)
    with pytest.raises(UnknownAlias):
        store.resolve("mixed", alias)
    with pytest.raises(UnknownAlias):
        store.remove_alias("mixed", alias)


@pytest.mark.parametrize("alias", ["", "12", "..", "a/b", ".tmp-1", "x" * 101])
def test_an_alias_has_a_name_that_is_no_path_and_no_number(store, mixed, alias):
    store.publish(mixed, FILES)
    with pytest.raises(InvalidName):
        store.set_alias("mixed", alias, 1)


def test_aliases_and_archiving_do_not_contradict_each_other(store, mixed):
    store.publish(mixed, FILES)
    store.publish(mixed, FILES)
    store.set_alias("mixed", "live", 1)
    with pytest.raises(Conflict, match="live"):
        store.archive("mixed", 1)
    store.archive("mixed", 2)
    with pytest.raises(Conflict, match="archived"):
        store.set_alias("mixed", "next", 2)
    store.remove_alias("mixed", "live")
    store.archive("mixed", 1)
    with pytest.raises(UnknownVersion):
        store.resolve("mixed")


def test_a_version_needs_a_model_and_known_roles(store, mixed):
    with pytest.raises(InvalidManifest, match=r"files\.model"):
        store.publish(mixed, {"background": b""})
    with pytest.raises(InvalidManifest, match=r"files\.script"):
        store.publish(mixed, {"model": b"", "script": b""})
    with pytest.raises(InvalidManifest, match="name"):
        store.publish(msgspec.structs.replace(mixed, name="../x"), FILES)
    assert store.models() == []


def test_files_already_in_the_store_may_be_named_by_digest(store, mixed):
    digest = store.put_blob(b"the graph")
    named = mixed.with_files({"model": FileRef(digest, 9)}, "")
    assert store.publish(named, {}).file("model") == b"the graph"
    with pytest.raises(InvalidManifest, match=r"files\.model\.size"):
        store.publish(mixed.with_files({"model": FileRef(digest, 8)}, ""), {})
    with pytest.raises(UnknownBlob):
        store.publish(mixed.with_files({"model": FileRef("0" * 64, 9)}, ""), {})


def test_a_flipped_bit_in_any_file_is_refused_by_name(store, mixed):
    version = store.publish(mixed, FILES)
    store.set_alias("mixed", "live", 1)
    checked = 0
    for path in every_file(store):
        whole = path.read_bytes()
        for position in range(0, len(whole), max(1, len(whole) // 12)):
            for bit in (0, 1, 5):
                broken = bytearray(whole)
                broken[position] ^= 1 << bit
                path.write_bytes(bytes(broken))
                relative = path.relative_to(store.root).as_posix()
                assert any(problem.path in (relative, "models/mixed/versions/1") for problem in store.verify()), (
                    relative
                )
                with pytest.raises(CorruptBlob) as caught:
                    _read_everything(store)
                assert relative in str(caught.value) or version.digest in str(caught.value)
                assert str(store.root) not in str(caught.value)
                checked += 1
        path.write_bytes(whole)
    assert checked > 100
    assert store.verify() == []


def test_damage_is_said_once_and_names_what_it_hits(store, mixed):
    version = store.publish(mixed, FILES)
    for digest in (version.model_digest, version.digest):
        path = store.root / "blobs" / "sha256" / digest[:2] / digest[2:]
        path.write_bytes(path.read_bytes()[::-1])
    found = {problem.path: problem.problem for problem in store.verify()}
    relative = {digest: f"blobs/sha256/{digest[:2]}/{digest[2:]}" for digest in (version.model_digest, version.digest)}
    assert sorted(found) == sorted([*relative.values(), "models/mixed/versions/1"])
    came = hashlib.sha256(FILES["model"][::-1]).hexdigest()
    assert found[relative[version.model_digest]] == (
        f"blob {version.model_digest} is corrupt: its bytes have the digest {came}"
    )
    assert found["models/mixed/versions/1"].startswith(f"is corrupt: its manifest (digest {version.digest}) is damaged")
    with pytest.raises(CorruptBlob) as caught:
        version.file("model")
    assert str(caught.value) == f"{relative[version.model_digest]} is corrupt: its bytes have the digest {came}"
    with pytest.raises(CorruptBlob, match=r"^models/mixed/versions/1 is corrupt: its manifest"):
        store.resolve("mixed")


def test_numbers_are_told_without_reading_the_versions(store, mixed):
    for _ in range(3):
        version = store.publish(mixed, FILES)
    store.archive("mixed", 2)
    (store.root / "blobs" / "sha256" / version.digest[:2] / version.digest[2:]).unlink()
    assert (store.numbers("mixed"), store.numbers("mixed", archived=False)) == ([1, 2, 3], [1, 3])
    with pytest.raises(UnknownModel):
        store.numbers("nothing")


def _read_everything(store: Store) -> None:
    version = store.resolve("mixed", "live")
    for role in version.manifest.files:
        version.file(role)


def test_putting_bytes_again_repairs_them(store):
    digest = store.put_blob(b"content")
    (path,) = [path for path in every_file(store) if path.name == digest[2:]]
    path.write_bytes(b"c0ntent")
    with pytest.raises(CorruptBlob):
        store.get_blob(digest)
    assert store.put_blob(b"content") == digest
    assert store.get_blob(digest) == b"content"


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "a" * 63, "0" * 64, "a" * 64 + "\n"])
def test_only_digests_address_blobs(store, digest):
    with pytest.raises(UnknownBlob):
        store.get_blob(digest)


def test_the_collector_removes_what_no_version_names_and_nothing_else(store, mixed):
    version = store.publish(mixed, FILES)
    store.archive("mixed", 1)
    kept, lost = store.put_blob(b"kept"), store.put_blob(b"lost")
    left = store.root / "models" / "mixed" / "versions" / ".tmp-1-00"
    left.write_bytes(b"half")
    report = store.gc(keep=[kept])
    assert (report.blobs, report.leftovers, report.bytes) == ((lost,), ("models/mixed/versions/.tmp-1-00",), 8)
    assert (store.get_blob(kept), version.file("model"), store.resolve("mixed", 1).file("background")) == (
        b"kept",
        *FILES.values(),
    )
    assert store.verify() == []


def test_the_collector_stops_before_a_manifest_it_cannot_read(store, mixed):
    version = store.publish(mixed, FILES)
    path = store.root / "blobs" / "sha256" / version.digest[:2] / version.digest[2:]
    path.write_bytes(b"{}")
    before = every_file(store)
    with pytest.raises(CorruptBlob):
        store.gc()
    assert every_file(store) == before


def test_verify_tells_what_is_missing_and_what_is_foreign(store, mixed):
    version = store.publish(mixed, FILES)
    store.publish(mixed, FILES)
    store.set_alias("mixed", "live", 2)
    (store.root / "models" / "mixed" / "versions" / "2").unlink()
    digest = version.model_digest
    (store.root / "blobs" / "sha256" / digest[:2] / digest[2:]).unlink()
    (store.root / "blobs" / "sha256" / "zz").mkdir()
    (store.root / "blobs" / "sha256" / "zz" / "note.txt").write_text("hello")
    (store.root / "models" / "bad name").mkdir()
    assert [problem.path for problem in store.verify()] == [
        "blobs/sha256/zz/note.txt",
        "models/bad name",
        "models/mixed/versions/1",
        "models/mixed/aliases/live",
    ]


def test_a_store_that_may_not_be_written_can_be_read(store, mixed, monkeypatch):
    store.publish(mixed, FILES)

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *rest: refuse() if flags & 3 else real(path, flags, *rest))
    for call in ("mkdir", "link", "replace", "unlink", "write"):
        monkeypatch.setattr(os, call, refuse)
    reader = Store(store.root)
    assert reader.resolve("mixed").file("model") == b"the graph"
    assert (reader.models(), reader.aliases("mixed"), reader.verify()) == (["mixed"], {}, [])
    for write in (lambda: reader.put_blob(b"x"), lambda: reader.publish(mixed, FILES), lambda: reader.gc()):
        with pytest.raises(StoreUnavailable, match="Read-only"):
            write()


def test_a_store_that_is_not_there_is_made_only_if_asked(tmp_path):
    with pytest.raises(StoreUnavailable, match="no store"):
        Store(tmp_path / "none", create=False)
    assert Store(tmp_path / "new").models() == []
    assert Store(tmp_path / "new", create=False).verify() == []


PUBLISHER = """
import sys
from model_store import Manifest, Store
store, manifest = Store(sys.argv[1]), Manifest.from_bytes(sys.stdin.buffer.read())
print(*[store.publish(manifest, {"model": b"graph %d" % (k % 3)}).version for k in range(25)])
"""


def test_processes_that_publish_at_once_never_share_a_number(store, mixed):
    root = Path(__file__).resolve().parents[2]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
        )
        for _ in range(3)
    ]
    for worker in workers:
        worker.stdin.write(mixed.to_bytes())
        worker.stdin.close()
    taken = []
    for worker in workers:
        taken += [int(number) for number in worker.stdout.read().split()]
        worker.stdout.close()
        assert worker.wait() == 0
    assert sorted(taken) == list(range(1, 76))
    assert [each.version for each in store.versions("mixed")] == list(range(1, 76))
    assert (store.verify(), leftovers(store)) == ([], [])


def test_every_change_of_a_model_is_told_by_one_time(store, mixed):
    """What a reader remembers of a model holds until this time differs, however quickly changes follow each other."""
    assert store.changed_at("mixed") is None
    assert store.changed_at("../models") is None
    seen = []
    changes = [
        lambda: store.publish(mixed, {"model": b"1"}),
        lambda: store.publish(mixed, {"model": b"2"}),
        lambda: store.set_alias("mixed", "default", 1),
        lambda: store.set_alias("mixed", "default", 1),
        lambda: store.remove_alias("mixed", "default"),
        lambda: store.archive("mixed", 1),
        lambda: store.archive("mixed", 1, False),
        lambda: store.set_certificate("mixed", 1, b"{}"),
    ]
    for change in changes:
        change()
        seen.append(store.changed_at("mixed"))
        store.resolve("mixed")
        assert store.changed_at("mixed") == seen[-1], "reading changes nothing"
    assert len(set(seen)) == len(changes)


def test_who_does_not_own_the_folder_of_a_model_tells_of_a_change_too(store, mixed, monkeypatch):
    store.publish(mixed, {"model": b"1"})
    real = os.utime

    def not_the_owner(path, *arguments, **options):
        if options:
            raise PermissionError(1, "Operation not permitted")
        real(path, *arguments)

    real(store.root / "models" / "mixed", ns=(1, 1))
    monkeypatch.setattr(os, "utime", not_the_owner)
    store.set_alias("mixed", "default", 1)
    assert store.changed_at("mixed") > 1
