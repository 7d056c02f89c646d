"""Constants that several sessions hold, in memory once.

A model and the programs compiled of it have the same tables (of embeddings, above all). ONNX Runtime takes constants
from outside where it is handed them by name. What it packs for speed, kernels and matrices, stays each session's own,
and is not handed over: beside the packed copies the original would be one more. benchmarks/results/weights.md has both.

Constants that are mapped files are handed over, all of them: one mapping serves every session, and processes share its
pages. From `UNPACKED` bytes on sessions pack nothing and fold nothing large, since each copy would be a whole model
more; below that a copy costs less than the speed it brings. benchmarks/results/large.md has the figures.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from .protocol import Array

if TYPE_CHECKING:
    import onnxruntime

UNPACKED = 1 << 30
FOLDED = 1 << 20  # bytes of the largest constant that a session without packed copies may make of others
Key = tuple[str, tuple[int, ...], bytes]


def mapped_bytes(weights: Mapping[str, Array]) -> int:
    """Bytes of those that are mapped files."""
    return sum(array.nbytes for array in weights.values() if place_of(array) is not None)


def place_of(array: Array) -> tuple[str, int] | None:
    """The file that an array is a read-only mapping of, and at which byte it begins; None where it is none. (What numpy
    calls a memmap may also be a part of one, whose place it does not know, or be written to.)"""
    if not isinstance(array, np.memmap) or not isinstance(array.base, mmap.mmap) or array.mode != "r":
        return None
    return None if array.filename is None else (os.fspath(array.filename), int(array.offset))


class SharedWeights:
    """Constants by their content, for as long as a session holds them."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[Key, onnxruntime.OrtValue] = WeakValueDictionary()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def lend(self, options: onnxruntime.SessionOptions, weights: Mapping[str, Array]) -> list[onnxruntime.OrtValue]:
        """Have a session made with `options` use them; it must hold what comes back for as long as it lives."""
        held = []
        for name, array in weights.items():
            value = self._value(array)
            options.add_initializer(name, value)
            held.append(value)
        return held

    def _value(self, array: Array) -> onnxruntime.OrtValue:
        import onnxruntime

        key = (array.dtype.str, array.shape, _identity(array))
        with self._lock:
            value = self._held.get(key)
            if value is None:
                value = self._held[key] = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            return value


def _identity(array: Array) -> bytes:
    """What tells the content of an array: its digest; of a mapped file the place in it, so that it is not read."""
    place = place_of(array)
    if place is None:
        return hashlib.sha256(np.ascontiguousarray(array).data.cast("B")).digest()
    found = Path(place[0]).stat()
    return repr((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, place[1])).encode()
