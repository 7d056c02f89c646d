"""The models taken out of service on request, known to all worker processes of a server through a folder."""

from __future__ import annotations

import os
import time
from pathlib import Path


class Withdrawn:
    """Names of models that are not served until they are loaded again. Without a folder, of this process alone."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._path = None if folder is None else str(folder)
        self._names: set[str] = set()
        self._moment = 0

    def changed(self) -> int:
        """A number that differs after each request to load or to unload, whichever process it came to."""
        if self._path is None:
            return self._moment
        return os.stat(self._path).st_mtime_ns  # noqa: PTH116 # asked for every request

    def __contains__(self, name: str) -> bool:
        return name in self._names if self._folder is None else (self._folder / name).exists()

    def add(self, name: str) -> None:
        """Out of service. `name` is that of a model in the store, and so a good file name."""
        self._names.add(name)
        if self._folder is not None:
            (self._folder / name).touch()
        self.tell()

    def discard(self, name: str) -> None:
        """Back in service."""
        self._names.discard(name)
        if self._folder is not None:
            (self._folder / name).unlink(missing_ok=True)
        self.tell()

    def tell(self) -> None:
        """Has every process look at the store anew."""
        self._moment = time.time_ns()
        if self._folder is not None:
            os.utime(self._folder, ns=(self._moment, self._moment))
