"""Finds a recipe's data: in the folder the user names, in the local cache, or by one checked download.

Data sets that scikit-learn carries never come through here. A file is looked for in the folder given by
the caller, in the one named by ``GLASSHOUSE_DATA``, in the cache, and is then downloaded into the cache and
checked against its digest. What is found in a folder is the user's own and is taken as it is: its SHA-256
goes into the lineage of the model, so that the file can be told apart later.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import MissingData

Array = NDArray[Any]


@dataclass(frozen=True)
class DataFile:
    """One file of a published data set: its name in a data folder, where it comes from, and its digest.

    ``checksum`` is in pooch's spelling: plain hex is SHA-256, another algorithm is named before a colon.
    """

    name: str
    url: str
    checksum: str


@dataclass(frozen=True)
class Dataset:
    """A whole data set, in the arrays a network takes and in the words a client would use.

    inputs    by input name; axis 0 = rows, in the dtype and units that the model's clients send
    labels    [rows], int64 class numbers or float32 values
    instance  row -> what a client sends for it, made from the raw record and not from ``inputs``: parity
              measured from these therefore also checks the encoding
    parts     [rows] of 0, 1, 2 (training, validation, test) where the publisher fixed the split
    """

    name: str
    origin: str
    sha256: str
    inputs: dict[str, Array]
    labels: Array
    instance: Callable[[int], Any]
    parts: Array | None = None


def digest_of(*arrays: Array) -> str:
    """SHA-256 (hex) over dtype, shape and bytes of the arrays: the identity of data that is not a file."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def cache_folder() -> Path:
    """Where downloads are kept: ``GLASSHOUSE_CACHE``, else the user's cache folder."""
    named = os.environ.get("GLASSHOUSE_CACHE")
    if named:
        return Path(named) / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glasshouse" / "data"


def data_folder(data: str | os.PathLike[str] | None) -> Path | None:
    """The folder of data the user named, by argument or by ``GLASSHOUSE_DATA``; None when there is none."""
    named = os.fspath(data) if data is not None else os.environ.get("GLASSHOUSE_DATA", "")
    return Path(named) if named else None


def find(file: DataFile, data: str | os.PathLike[str] | None = None) -> Path:
    """The path of ``file``, downloaded when it is nowhere near. Raises MissingData in one line."""
    folder = data_folder(data)
    if folder is not None and (folder / file.name).is_file():
        return folder / file.name
    if data is not None:
        raise MissingData(f"{file.name} is not in the data folder {folder}; get it from {file.url} and put it there")
    cached = cache_folder() / file.name
    if not cached.is_file():
        _download(file, cached)
    return cached


def _download(file: DataFile, target: Path) -> None:
    """Fetch into the cache; pooch writes beside, checks the digest, then moves."""
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    try:
        pooch.retrieve(file.url, known_hash=file.checksum, fname=target.name, path=target.parent, progressbar=False)
    except (OSError, ValueError) as error:
        # pooch raises ValueError for a digest that differs and requests' errors are OSErrors
        reason = "its digest differs" if "known hash" in str(error) else type(error).__name__
        raise MissingData(
            f"{file.name} is missing and could not be downloaded ({reason}): get it from {file.url} and put it in "
            f"{target.parent} or in the folder named by GLASSHOUSE_DATA"
        ) from error
