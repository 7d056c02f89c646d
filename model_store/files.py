"""The few file operations the store is made of: whole or not at all, and on the disk when they return.

A file is written beside its place, flushed, and put there in one step: by rename where the newest wins, by link
where the first wins. A writer that dies leaves at most a file named `.tmp-…`, which nobody reads and `gc` removes.
Foreign errors (OSError) are translated here and nowhere else in the room.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import StoreUnavailable

TEMPORARY = ".tmp-"
PIECE = 1 << 22  # bytes of a file that are in memory at a time


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Any OSError in the block becomes StoreUnavailable, which says what was being done."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"the store cannot {doing}: {error.strerror or error} ({error.filename})") from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it; each new one is on the disk when this returns."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_replacing(path: Path, data: bytes) -> None:
    """Put `data` at `path`, replacing what is there; readers see the old bytes or the new, never a part."""
    make_folder(path.parent)
    with _written_beside(path, data) as beside:
        beside.replace(path)
        flush_folder(path.parent)


def write_first(path: Path, data: bytes) -> bool:
    """Put `data` at `path` if nothing is there. False if somebody else was first; their bytes stay."""
    make_folder(path.parent)
    with _written_beside(path, data) as beside:
        try:
            os.link(beside, path)
        except FileExistsError:
            return False
        flush_folder(path.parent)
        return True


def _written_beside(path: Path, data: bytes) -> contextlib.AbstractContextManager[Path]:
    """A flushed temporary file in the folder of `path`, gone when the block ends however it ends."""
    return copied_beside(path, io.BytesIO(data))


@contextlib.contextmanager
def copied_beside(path: Path, source: IO[bytes]) -> Iterator[Path]:
    """The same of what is read from an open file, piece by piece."""
    beside = path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            while piece := source.read(PIECE):
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        yield beside
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


@contextlib.contextmanager
def locked(path: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the lock file: shared by writers, exclusive for the collector. The kernel frees it when a holder dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def read_if_there(path: Path) -> bytes | None:
    """The file's bytes, or None if there is no such file. Other failures are OSError."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


def names_in(path: Path) -> list[str]:
    """The sorted names in a folder; none if the folder is not there."""
    try:
        return sorted(entry.name for entry in path.iterdir())
    except FileNotFoundError:
        return []


def set_changed(folder: Path) -> None:
    """Give a folder a time that it never had before (the file system's own clock may be as coarse as some ms)."""
    now = time.time_ns()
    try:
        os.utime(folder, ns=(now, now))
    except PermissionError:  # another's folder: a time of one's own choice is the owner's right alone
        os.utime(folder)


def changed_at(folder: Path | str) -> int | None:
    """The time of a folder in nanoseconds, None if it is not there. Asked very often: one call of the system."""
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 # a Path would cost more than the call
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreUnavailable(f"the store cannot read a model: {error.strerror or error}") from error
