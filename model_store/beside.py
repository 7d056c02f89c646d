"""The files that lie beside a model's file and hold its data: found by the names it has for them, and opened with
care.

The names are read in the gate's child. A name is that of an ordinary file in the same folder, no link to it, and no
second name of it: what is checked is then what is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from .errors import RefusedModel, shown
from .outside import DataFile, is_plain


def opened(files: Mapping[str, Path], stack: ExitStack) -> dict[str, DataFile]:
    """Open data files for reading, until the stack is left. Raises RefusedModel for what is no ordinary file."""
    found = {}
    for name, path in files.items():
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise RefusedModel(
                f"the model is refused: its data file {shown(name)} cannot be opened: {os.strerror(error.errno or 0)}"
            ) from error
        stack.callback(os.close, handle)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise RefusedModel(f"the model is refused: its data file {shown(name)} is no ordinary file of one name")
        found[name] = DataFile(handle, status.st_size)
    return found


def named(names: list[str], folder: Path) -> dict[str, Path]:
    """Where files of these names lie in a folder. Raises RefusedModel for a name that leads elsewhere."""
    for name in names:
        if not is_plain(name):
            raise RefusedModel(
                f"the model is refused: its data lie in {shown(name)}, which is not a file beside the model"
            )
    return {name: folder / name for name in names}
