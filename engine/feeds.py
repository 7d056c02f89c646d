"""Arrays on their way into a run and out of it.

`check` holds a request's arrays against the artifact before anything is queued and gives the request its key: requests
of equal key may share a run. `join` lays the item inputs of several requests behind one another along axis 0, `part`
gives each request its rows back. Nothing here knows a runtime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InvalidFeeds, RunFailed
from .protocol import Array, Artifact, Kind
from .sessions import Session, TensorType

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Checked:
    """A request that fits its artifact: its arrays, its number of items, its key.

    `max_items`: the most items a run may carry, if the artifact says so. `fixed`: the exact number a run must carry, if
    the graph's own batch is a number. `has_items`: False when every input is shared: the request counts as one item.
    """

    feeds: dict[str, Array]
    items: int
    key: Key
    max_items: int | None
    fixed: int | None
    has_items: bool

    def slice_size(self, max_batch: int) -> int:
        """How many items one run may carry under an engine's `max_batch`."""
        return self.fixed or min(max_batch, self.max_items or max_batch)

    def smaller(self, most: int) -> int | None:
        """Half as many items a run; None if a run cannot carry fewer."""
        return None if self.fixed or most <= 1 else most // 2


def check(artifact: Artifact, session: Session, feeds: Mapping[str, Array]) -> Checked:
    """Raises `InvalidFeeds` at the first array that does not fit: name, dtype, rank, fixed sizes, number of items."""
    _check_names(artifact, feeds)
    max_items: int | None = getattr(artifact, "max_items", None)
    checked: dict[str, Array] = {}
    parts: list[Any] = [artifact.digest, max_items]
    items: int | None = None
    fixed: int | None = None
    for name, kind in artifact.inputs.items():
        expected = session.inputs[name]
        array = checked[name] = _check_array(name, feeds[name], expected, kind)
        if kind == "shared":
            parts.append((name, digest(array)))
            continue
        parts.append((name, array.dtype.str, array.shape[1:]))
        if items is None:
            items = len(array)
        elif len(array) != items:
            raise InvalidFeeds(name, f"{len(array)} items", f"{items} items, as the inputs before it have")
        size = expected.shape[0]
        if isinstance(size, int):
            fixed = size
            if items % fixed:
                raise InvalidFeeds(name, f"{items} items", f"a multiple of {fixed}, the graph's fixed batch")
    # A run without item inputs is the same run for everybody who asks for it.
    return Checked(checked, 1 if items is None else items, tuple(parts), max_items, fixed, items is not None)


def digest(array: Array) -> str:
    """SHA-256 (hex) over dtype, shape and bytes."""
    sha = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    if array.dtype == np.object_:
        for text in array.ravel():
            encoded = str(text).encode()
            sha.update(len(encoded).to_bytes(8, "little") + encoded)
    else:
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def join(inputs: Mapping[str, Kind], requests: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """One set of feeds for all requests (of equal key): item inputs behind one another, shared inputs once."""
    first = requests[0]
    if len(requests) == 1:
        return dict(first)
    return {
        name: np.concatenate([feeds[name] for feeds in requests]) if kind == "item" else first[name]
        for name, kind in inputs.items()
    }


def cut(inputs: Mapping[str, Kind], feeds: Mapping[str, Array], start: int, stop: int) -> dict[str, Array]:
    """Items `start` to `stop` of the feeds, shared inputs whole."""
    return {name: feeds[name][start:stop] if kind == "item" else feeds[name] for name, kind in inputs.items()}


def check_rows(outputs: Mapping[str, Kind], arrays: Mapping[str, Array], items: int) -> None:
    """Raises `RunFailed` when an item output has another number of rows than the run had items."""
    for name, kind in outputs.items():
        if kind == "item" and (arrays[name].ndim == 0 or len(arrays[name]) != items):
            raise RunFailed(
                f"output {name!r} came as {list(arrays[name].shape)} for {items} items, expected {items} on axis 0"
            )


def part(outputs: Mapping[str, Kind], arrays: Mapping[str, Array], counts: Sequence[int]) -> list[dict[str, Array]]:
    """Each request's outputs: its own rows of the item outputs, the whole (read-only) of the shared ones."""
    for name, kind in outputs.items():
        if kind == "shared":
            arrays[name].flags.writeable = False
    parts: list[dict[str, Array]] = []
    start = 0
    for count in counts:
        parts.append(cut(outputs, arrays, start, start + count))
        start += count
    return parts


def stack(outputs: Mapping[str, Kind], slices: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The outputs of one request's runs behind one another; shared outputs are those of the first run."""
    return {
        name: np.concatenate([arrays[name] for arrays in slices]) if kind == "item" else slices[0][name]
        for name, kind in outputs.items()
    }


def _check_names(artifact: Artifact, feeds: Mapping[str, Array]) -> None:
    names = ", ".join(sorted(artifact.inputs))
    for name in feeds:
        if name not in artifact.inputs:
            raise InvalidFeeds(name, "an input the graph does not have", f"only {names}")
    for name in artifact.inputs:
        if name not in feeds:
            raise InvalidFeeds(name, "nothing", f"an array for each of {names}")


def _check_array(name: str, array: Array, expected: TensorType, kind: Kind) -> Array:
    if not isinstance(array, np.ndarray):
        raise InvalidFeeds(name, type(array).__name__, f"an array, {expected}")
    if expected.dtype == np.object_:
        array = _check_text(name, array, expected)
    if array.dtype != expected.dtype or array.ndim != len(expected.shape):
        raise InvalidFeeds(name, _describe(array), str(expected))
    first = 1 if kind == "item" else 0
    for size, wanted in zip(array.shape[first:], expected.shape[first:], strict=True):
        if isinstance(wanted, int) and size != wanted:
            raise InvalidFeeds(name, _describe(array), str(expected))
    if kind == "item" and (array.ndim == 0 or len(array) == 0):
        raise InvalidFeeds(name, _describe(array), "at least one item on axis 0")
    return array


def _check_text(name: str, array: Array, expected: TensorType) -> Array:
    if array.dtype.kind == "U":
        return array.astype(np.object_)
    if array.dtype.kind == "O":
        for value in array.ravel():
            if not isinstance(value, str):
                raise InvalidFeeds(name, f"{type(value).__name__} among the values", str(expected))
    return array


def _describe(array: Array) -> str:
    order = "" if array.dtype.isnative else " of the other byte order"
    return f"{array.dtype.name} {list(array.shape)}{order}"
