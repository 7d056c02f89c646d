"""Content by its SHA-256: written once, verified each time it is read.

`blobs/sha256/ab/cdef…`: the first two hex digits are the folder, the other sixty-two the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from .errors import CorruptBlob, UnknownBlob
from .files import (
    TEMPORARY,
    copied_beside,
    flush_folder,
    make_folder,
    names_in,
    read_if_there,
    translated,
    write_replacing,
)
from .validation import DIGEST


class Blobs:
    """The folder `blobs/sha256` of a store."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / "blobs" / "sha256"

    def place(self, digest: str) -> Path:
        """Where the content of this digest lies; UnknownBlob if it is no digest (nothing else ever becomes a path)."""
        if not DIGEST.fullmatch(digest):
            raise UnknownBlob(digest)
        return self._folder / digest[:2] / digest[2:]

    def put(self, data: bytes) -> str:
        """Keep the bytes and return their digest. Bytes already there are compared, and repaired if they differ."""
        digest = hashlib.sha256(data).hexdigest()
        place = self.place(digest)
        with translated("write a blob"):
            if read_if_there(place) != data:
                write_replacing(place, data)
        return digest

    def keep(self, data: bytes | Path) -> tuple[str, int]:
        """Keep bytes, or the content of a file; digest and size."""
        return self.put_file(data) if isinstance(data, Path) else (self.put(data), len(data))

    def put_file(self, source: Path) -> tuple[str, int]:
        """Keep the content of a file; its digest and its size. It is never in memory whole."""
        make_folder(self._folder)
        with translated("write a blob"), source.open("rb") as file, copied_beside(self._folder / "file", file) as copy:
            with copy.open("rb") as written:
                digest = hashlib.file_digest(written, "sha256").hexdigest()
            size, place = copy.stat().st_size, self.place(digest)
            make_folder(place.parent)
            copy.replace(place)
            flush_folder(place.parent)
        return digest, size

    def get(self, digest: str) -> bytes:
        """The bytes of this digest, hashed again. Raises UnknownBlob, CorruptBlob."""
        place = self.place(digest)
        with translated("read a blob"):
            data = read_if_there(place)
        if data is None:
            raise UnknownBlob(digest)
        self._compare(place, digest, hashlib.sha256(data).hexdigest())
        return data

    def whole(self, digest: str) -> Path:
        """Where the content of this digest lies, hashed again without being in memory whole. Raises UnknownBlob,
        CorruptBlob."""
        place = self.place(digest)
        if not self.has(digest):
            raise UnknownBlob(digest)
        with translated("read a blob"), place.open("rb") as file:
            self._compare(place, digest, hashlib.file_digest(file, "sha256").hexdigest())
        return place

    def _compare(self, place: Path, digest: str, came: str) -> None:
        if came != digest:
            raise CorruptBlob(digest, self.relative(place), f"its bytes have the digest {came}")

    def has(self, digest: str) -> bool:
        """Whether there is a file for this digest; its bytes are not looked at."""
        with translated("read a blob"):
            return self.place(digest).is_file()

    def all(self) -> Iterator[tuple[str, Path]]:
        """Every file in the folder with the digest its place stands for, or with "" where it is none of ours."""
        for first in names_in(self._folder):
            if first.startswith(TEMPORARY):
                continue
            for rest in names_in(self._folder / first):
                digest = first + rest
                path = self._folder / first / rest
                if rest.startswith(TEMPORARY):
                    continue
                yield (digest if len(first) == 2 and DIGEST.fullmatch(digest) else ""), path

    def leftovers(self) -> Iterator[Path]:
        """Temporary files that a dead writer left."""
        for first in names_in(self._folder):
            if first.startswith(TEMPORARY):
                yield self._folder / first
                continue
            for name in names_in(self._folder / first):
                if name.startswith(TEMPORARY):
                    yield self._folder / first / name

    def relative(self, path: Path) -> str:
        """A path as it may stand in an error text: from the store's root."""
        return path.relative_to(self._root).as_posix()
