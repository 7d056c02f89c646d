"""Constants that several sessions hold, in memory once.

A model and the programs compiled of it have the same tables (of embeddings, above all). ONNX Runtime takes constants
from outside where it is handed them by name. What it packs for speed, kernels and matrices, stays each session's own,
and is not handed over: beside the packed copies the original would be one more. benchmarks/results/weights.md has both.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from .protocol import Array

if TYPE_CHECKING:
    import onnxruntime

Key = tuple[str, tuple[int, ...], bytes]


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
            value = self._value(np.ascontiguousarray(array))
            options.add_initializer(name, value)
            held.append(value)
        return held

    def _value(self, array: Array) -> onnxruntime.OrtValue:
        import onnxruntime

        key = (array.dtype.str, array.shape, hashlib.sha256(array.data.cast("B")).digest())
        with self._lock:
            value = self._held.get(key)
            if value is None:
                value = self._held[key] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            return value
