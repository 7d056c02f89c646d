"""Where an engine process is spoken to, and whether it is there.

A folder of this machine holds one local socket for each kind of talk, and a file that says, for each engine, which of
its lives it is in: a number that whoever starts the engines counts up, 0 while it is down. Who waits for an answer
looks at it and learns at once that an engine has died.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from .errors import InvalidSettings

Talk = Literal["predict", "explain", "control"]
TALKS: tuple[Talk, ...] = ("predict", "explain", "control")
ANYWHERE = "/tmp"  # noqa: S108 # not a file: where a folder of our own is made
# The address of a local socket is a path; macOS takes 103 bytes, Linux 107. Of these a folder that is made in a place
# takes 20, and the name of a socket in it 22.
LONGEST_PLACE = 103 - 42
_NUMBER = struct.Struct("<q")


def place_for_sockets() -> str:
    """Where to make a folder for local sockets: with other temporary files, unless their path is too long for that.

    Raises `InvalidSettings` where it is, and nothing can be written in /tmp either.
    """
    wanted = tempfile.gettempdir()
    if len(os.fsencode(wanted)) <= LONGEST_PLACE:
        return wanted
    if os.access(ANYWHERE, os.W_OK | os.X_OK):
        return ANYWHERE
    came = f"{wanted} ({len(os.fsencode(wanted))} bytes)"
    expected = f"a folder whose path has at most {LONGEST_PLACE}, or {ANYWHERE} to write in"
    raise InvalidSettings(f"TMPDIR: came {came}, expected {expected}: the addresses of sockets are that short")


@dataclass(frozen=True)
class Place:
    """One engine process of a folder."""

    folder: str
    index: int

    def address(self, talk: Talk) -> str:
        """Where its socket for this talk is."""
        return f"ipc://{self.folder}/{self.index}-{talk}"

    def life(self) -> int:
        """The number of its present life; 0 while it is down."""
        number: int = _NUMBER.unpack_from(self._lives, self.index * _NUMBER.size)[0]
        return number

    @cached_property
    def _lives(self) -> mmap.mmap:
        with _lives(self.folder).open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getstate__(self) -> tuple[str, int]:
        return self.folder, self.index

    def __setstate__(self, state: tuple[str, int]) -> None:
        self.__dict__.update(folder=state[0], index=state[1])


class Lives:
    """The file of lives, for the one who writes it."""

    def __init__(self, folder: str, engines: int) -> None:
        _lives(folder).write_bytes(bytes(_NUMBER.size * engines))
        with _lives(folder).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def set(self, index: int, life: int) -> None:
        """An engine has begun a life, or (0) is down."""
        _NUMBER.pack_into(self._map, index * _NUMBER.size, life)

    def close(self) -> None:
        """The file may be removed."""
        self._map.close()


def _lives(folder: str) -> Path:
    return Path(folder) / "lives"
