"""The small files of one model that point: versions to what is known of them, aliases to versions.

::

    models/<name>/versions/<int>    "<manifest digest>"
    models/<name>/aliases/<alias>   "<version> <check>"
    models/<name>/archived/<int>    empty; its presence is the fact
    models/<name>/certificates/<int>  "<certificate digest>" of a certificate made after publishing
    models/<name>/tuning/<int>      "<digest of a tuning>"

Whoever changes one of them then sets the time of the folder `models/<name>`: a reader that remembers what it found
looks at that one time to know whether it still holds.

A digest proves itself, since only the right bytes hash to it. An alias is a bare number, in which a
flipped bit gives another good number; so a check, the SHA-256 of `name/alias/version`, stands beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from .errors import CorruptBlob, InvalidName
from .files import (
    TEMPORARY,
    flush_folder,
    names_in,
    read_if_there,
    set_changed,
    translated,
    write_first,
    write_replacing,
)
from .validation import DIGEST, NAME, NAME_RULE

Renewable = Literal["certificates", "tuning"]
RENEWABLE: tuple[Renewable, ...] = ("certificates", "tuning")


def is_version(name: str) -> bool:
    """Whether a text is a version number as the store writes it: 1, 2, 3 …"""
    return name.isascii() and name.isdigit() and not name.startswith("0") and len(name) < 10


def check_alias(alias: str) -> str:
    """The alias itself; InvalidName if it cannot be one (all digits would read as a version)."""
    if not isinstance(alias, str) or not NAME.fullmatch(alias) or alias.isdigit():
        raise InvalidName("alias", alias, f"{NAME_RULE}, and not digits alone")
    return alias


class Pointers:
    """The folder `models/<name>` of a store. `name` must have passed the name rule."""

    def __init__(self, root: Path, name: str) -> None:
        self._root, self._name = root, name
        self._folder = root / "models" / name

    def versions(self) -> list[int]:
        """The version numbers, ascending."""
        return self._numbers("versions")

    def archived(self) -> set[int]:
        """The versions that are no longer offered by themselves."""
        return set(self._numbers("archived"))

    def _numbers(self, kind: str) -> list[int]:
        with translated("read a model"):
            return sorted(int(name) for name in names_in(self._folder / kind) if is_version(name))

    def add_version(self, digest: str) -> int:
        """Take the next free number for a manifest; of two writers each gets its own."""
        version = max(self.versions(), default=0) + 1
        with self._changing("publish a version"):
            while not write_first(self._folder / "versions" / str(version), f"{digest}\n".encode()):
                version += 1
        return version

    def manifest_digest(self, version: int) -> str | None:
        """The digest a version points to; None if there is no such version. Raises CorruptBlob."""
        return self._digest(self._folder / "versions" / str(version))

    def renewed(self, kind: Renewable) -> list[int]:
        """The versions that have one of this kind, made after publishing, ascending."""
        return self._numbers(kind)

    def renewed_digest(self, kind: Renewable, version: int) -> str | None:
        """The digest of the latest of this kind; None if there is none. Raises CorruptBlob."""
        return self._digest(self._folder / kind / str(version))

    def renew(self, kind: Renewable, version: int, digest: str) -> None:
        """Point a version at a new one of this kind, in one step."""
        with self._changing(f"keep what belongs to {kind}"):
            write_replacing(self._folder / kind / str(version), f"{digest}\n".encode())

    def remove_renewed(self, kind: Renewable, version: int) -> bool:
        """Whether there was one of this kind to forget."""
        return self._remove(self._folder / kind / str(version), f"forget what belongs to {kind}")

    def aliases(self) -> list[str]:
        """The names of the aliases, sorted."""
        with translated("read a model"):
            return [name for name in names_in(self._folder / "aliases") if NAME.fullmatch(name)]

    def alias(self, alias: str) -> int | None:
        """The version an alias stands for; None if there is no such alias. Raises CorruptBlob."""
        path = self._folder / "aliases" / alias
        text = self._text(path)
        if text is None:
            return None
        version = text.split(" ")[0]
        if not is_version(version) or text != self._alias_text(alias, int(version)):
            raise CorruptBlob("none", self._relative(path), "its version and its check do not agree")
        return int(version)

    def set_alias(self, alias: str, version: int) -> None:
        """Point an alias at a version, in one step."""
        with self._changing("set an alias"):
            write_replacing(self._folder / "aliases" / alias, self._alias_text(alias, version).encode())

    def remove_alias(self, alias: str) -> bool:
        """Whether there was such an alias to remove."""
        return self._remove(self._folder / "aliases" / alias, "remove an alias")

    def archive(self, version: int, archived: bool) -> None:
        """Mark a version as archived, or take the mark away."""
        path = self._folder / "archived" / str(version)
        if archived:
            with self._changing("archive a version"):
                write_first(path, b"")
        else:
            self._remove(path, "restore a version")

    def leftovers(self) -> Iterator[Path]:
        """Temporary files that a dead writer left."""
        for kind in ("versions", "aliases", "archived", *RENEWABLE):
            for name in names_in(self._folder / kind):
                if name.startswith(TEMPORARY):
                    yield self._folder / kind / name

    def _alias_text(self, alias: str, version: int) -> str:
        check = hashlib.sha256(f"{self._name}/{alias}/{version}".encode()).hexdigest()
        return f"{version} {check}\n"

    def _digest(self, path: Path) -> str | None:
        text = self._text(path)
        if text is None:
            return None
        digest = text.removesuffix("\n")
        if not DIGEST.fullmatch(digest):
            raise CorruptBlob("none", self._relative(path), "it holds no digest")
        return digest

    def _text(self, path: Path) -> str | None:
        with translated("read a model"):
            data = read_if_there(path)
        return None if data is None else data.decode("ascii", errors="replace")

    def _remove(self, path: Path, doing: str) -> bool:
        with self._changing(doing):
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            flush_folder(path.parent)
        return True

    @contextlib.contextmanager
    def _changing(self, doing: str) -> Iterator[None]:
        """For a change of a pointer: says so to those who remember, and translates what goes wrong."""
        with translated(doing):
            yield
            set_changed(self._folder)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()
