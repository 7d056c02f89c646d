"""Writers that are killed, or whose disk fails, at every single step: the store stays sound."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from model_store import Store, StoreUnavailable
from model_store import files as file_operations

FILES = {"model": b"the graph", "background": b"the rows"}
CALLS = ("open", "write", "fsync", "close", "link", "replace", "unlink", "mkdir")


def leftovers(store: Store) -> list[Path]:
    return [path for path in store.root.rglob(".tmp-*") if path.is_file()]


def strike(at: int, when: str, blow) -> list[int]:
    """Make the `at`-th file operation of this process the last: `blow` before it, after it, or midway in a write."""
    count = [0]

    def struck(name, real):
        def call(*args, **kwargs):
            count[0] += 1
            if count[0] != at:
                return real(*args, **kwargs)
            if when == "after":
                real(*args, **kwargs)
            elif when == "midway" and name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            return blow()

        return call

    for name in CALLS:
        setattr(os, name, struck(name, getattr(os, name)))
    return count


def in_child(work, at: int, when: str) -> bool:
    """Run `work` in a forked process that is killed at its `at`-th file operation; whether it was."""
    pid = os.fork()
    if pid == 0:
        strike(at, when, lambda: os.kill(os.getpid(), signal.SIGKILL))
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def killed_everywhere(store: Store, work, check) -> int:
    """Kill `work` at each of its file operations in three ways, on a fresh copy each time; how often it was killed."""
    kills = 0
    for when in ("before", "midway", "after"):
        at = 1
        while True:
            target = store.root.with_name("copy")
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(store.root, target)
            copy = Store(target)
            if not in_child(lambda copy=copy: work(copy), at, when):
                break
            kills += 1
            check(copy)
            at += 1
    return kills


def test_a_writer_killed_at_any_step_leaves_the_store_sound(store, mixed):
    first = store.publish(mixed, FILES)

    def sound(copy: Store) -> None:
        assert copy.verify() == []
        assert copy.resolve("mixed", 1) == first
        seen = [each.version for each in copy.versions("mixed")]
        assert seen in ([1], [1, 2])
        assert copy.publish(mixed, {"model": b"third"}).version == seen[-1] + 1
        copy.gc()
        assert (copy.verify(), leftovers(copy)) == ([], [])

    assert killed_everywhere(store, lambda copy: copy.publish(mixed, {"model": b"second"}), sound) > 40


def test_a_process_killed_while_it_sets_an_alias_or_collects_leaves_the_store_sound(store, mixed):
    store.publish(mixed, FILES)
    store.publish(mixed, FILES)
    store.set_alias("mixed", "live", 1)
    store.put_blob(b"waste")

    def sound(copy: Store) -> None:
        assert copy.verify() == []
        assert copy.resolve("mixed", "live").version in (1, 2)
        assert copy.resolve("mixed", 2).file("model") == b"the graph"

    assert killed_everywhere(store, lambda copy: copy.set_alias("mixed", "live", 2), sound) > 5
    assert killed_everywhere(store, lambda copy: copy.gc(), sound) > 3


def test_the_killer_of_these_tests_finds_a_writer_that_writes_in_place(store, mixed, monkeypatch):
    store.publish(mixed, FILES)

    def in_place(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.write(handle, data)
        os.close(handle)

    monkeypatch.setattr("model_store.blobs.write_replacing", in_place)
    broken = []
    killed_everywhere(
        store, lambda copy: copy.publish(mixed, {"model": b"second"}), lambda copy: broken.extend(copy.verify())
    )
    assert broken


@pytest.mark.parametrize("failure", [OSError(5, "Input/output error"), OSError(28, "No space left on device")])
def test_a_file_operation_that_fails_is_one_clear_error_and_leaves_the_store_sound(store, mixed, failure):
    first = store.publish(mixed, FILES)
    real = {name: getattr(os, name) for name in CALLS}

    def fail():
        raise failure

    at = 0
    while True:
        at += 1
        count = strike(at, "before", fail)
        try:
            store.publish(mixed, {"model": b"model %d" % at})
            told = ""
        except StoreUnavailable as error:
            told = str(error)
        finally:
            for name, call in real.items():
                setattr(os, name, call)
        assert (store.verify(), store.resolve("mixed", 1)) == ([], first)
        assert not told or failure.strerror in told
        if not told and count[0] < at:
            break
    assert at > 20


def test_the_helpers_of_the_store_are_whole_or_not_at_all(tmp_path):
    place = tmp_path / "a" / "b"
    assert file_operations.write_first(place, b"one")
    assert not file_operations.write_first(place, b"two")
    assert place.read_bytes() == b"one"
    file_operations.write_replacing(place, b"three")
    assert (place.read_bytes(), file_operations.names_in(place.parent)) == (b"three", ["b"])
    assert file_operations.names_in(tmp_path / "none") == []
    assert file_operations.read_if_there(place / "deeper") is None
