"""Explanations that were made, for when the same is asked again: kept by all that determines them, within a bound.

A request is kept whole and not row by row: a row by itself and the same row among others are equal within rounding
only, because the shape of a run decides the order of sums in it; and a request is one answer, with one seed, one budget
and one commit of its records. Of the rows that a client sent only the digest is kept: inputs, pictures and named
features of an answer come from the request that is answered.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import engine
import explain
from model_store import Decoded

from . import methods, records, targets
from .loaded import LoadedModel
from .messages import Arrays, ExplainAnswer, ExplainRequest
from .version import VERSION

PRECISION = "as served, halves in float32"  # what programs compute in
CUT = "budget_ms"
# What an answer takes from its own request, or says of its own making.
OWN = frozenset({"version", "inputs", "images", "features", "runs", "decisions", "provisional", "cached"})
KEPT = tuple(entry.name for entry in dataclasses.fields(ExplainAnswer) if entry.name not in OWN)

Kept = Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """All that determines an explanation, each member as JSON. Equal keys, equal answers.

    ``manifest`` is the digest that covers the model's files, background sets, names, units and defaults; ``inputs``
    that of the decoded rows. ``parameters`` have their defaults filled in; the target and what is compared with or
    removed stand as the request has them, which together with manifest and inputs says what they come to. ``run_rows``
    bounds the runs, and with them the order of sums (quantum.py).
    """

    manifest: str
    model: str
    inputs: str
    method: str
    parameters: Mapping[str, Any]
    checks: Mapping[str, Any]
    target: Any
    output: str
    space: str | None
    baseline: Any
    background: Any
    groups: Any
    group_names: Any
    removal: Any
    seed: int
    run_rows: int | None
    runtime: Mapping[str, Any]
    precision: str
    server: str

    @property
    def hurried(self) -> bool:
        """Whether a clock may cut it, so that waiting for another one's result would not be within its time."""
        return self.parameters.get(CUT) is not None

    def digest(self) -> str:
        """SHA-256, in hex, of the members as JSON with sorted names: 1, 1.0 and true are three things there."""
        members = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        text = json.dumps(members, sort_keys=True, separators=(",", ":"), default=_listed)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def _digest(arrays: Arrays) -> str:
    """SHA-256 over names, dtypes, shapes and contents; text as JSON, in which no two lists read alike."""
    state = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        text = array.dtype.kind in "OU"
        state.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        state.update(json.dumps(array.tolist()).encode("ascii") if text else np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def _listed(value: Any) -> Any:
    """Arrays and numbers of numpy, where Python asks."""
    return value.tolist()


def key_of(
    loaded: LoadedModel,
    decoded: Decoded,
    request: ExplainRequest,
    method: str,
    info: engine.EngineInfo,
    limit: int,
) -> Key:
    """The key of a request; `limit` is the largest number among the parameters.

    Raises:
        BadRequest: a parameter beyond the limit, an unknown check or output.
        InvalidParameter: a parameter that the method does not have or take.
    """
    asked = methods.asked(loaded, method, request, limit)
    checks = asked.pop("checks")
    return Key(
        manifest=loaded.version.digest,
        model=loaded.version.model_digest,
        inputs=_digest(decoded.inputs),
        method=method,
        parameters=explain.METHODS[method].resolve(asked),
        checks=checks,
        target=request.target,
        output=targets.output_spec(loaded.manifest, request.output).name,
        space=request.space,
        baseline=request.baseline,
        background=request.background,
        groups=request.groups,
        group_names=request.group_names,
        removal=request.removal,
        seed=request.seed,
        run_rows=loaded.run_rows,
        runtime={**dataclasses.asdict(info), "tuned_threads": loaded.tuning.threads},
        precision=PRECISION,
        server=VERSION,
    )


@dataclass(frozen=True)
class ResultStatistics:
    """Of the results of one process: lookups that found one and that did not, and what is kept now, in bytes."""

    hits: int = 0
    misses: int = 0
    entries: int = 0
    bytes: int = 0


class Results:
    """At most `limit` bytes of results by digest, the least recently used leaving first; 0 keeps none.

    Every method may be called from many threads. What is handed out is shared: its arrays are read-only.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: OrderedDict[str, tuple[int, Kept]] = OrderedDict()
        self._bytes = self._hits = self._misses = 0
        self._lock = threading.Lock()

    def get(self, digest: str) -> Kept | None:
        """The members of the answer that was kept under a digest."""
        with self._lock:
            found = self._entries.get(digest)
            if found is None:
                self._misses += 1
                return None
            self._hits += 1
            self._entries.move_to_end(digest)
            return found[1]

    def keep(self, digest: str, answer: ExplainAnswer) -> Kept | None:
        """Keep a finished answer; the first one stays. Gives what an equal request may be answered with, kept or too
        large for it; None for one to be made anew: cut by time, or no number."""
        if not repeatable(answer):
            return None
        kept = {name: _frozen(getattr(answer, name)) for name in KEPT}
        size = size_of(kept)
        with self._lock:
            if digest in self._entries:
                return self._entries[digest][1]
            if size <= self.limit:
                self._entries[digest] = (size, kept)
                self._bytes += size
            while self._bytes > self.limit:
                _, (freed, _) = self._entries.popitem(last=False)
                self._bytes -= freed
        return kept

    def statistics(self) -> ResultStatistics:
        """A snapshot of what was found and what is kept."""
        with self._lock:
            return ResultStatistics(self._hits, self._misses, len(self._entries), self._bytes)


def repeatable(answer: ExplainAnswer) -> bool:
    """Whether an equal request would come to the same: it was not cut by the clock, and it is all numbers."""
    cut = any(figures.get("stopped_by") == CUT for figures in answer.quality)
    return not cut and not records.not_finite(answer.values) and not records.not_finite(answer.outputs)


def _frozen(value: Any) -> Any:
    """Arrays copied, so that no run's whole batch is held, and read-only; what holds them likewise."""
    if isinstance(value, np.ndarray):
        copy = value.copy()
        copy.flags.writeable = False
        return copy
    if isinstance(value, Mapping):
        return {name: _frozen(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_frozen(member) for member in value)
    return value


def size_of(value: Any) -> int:
    """About how many bytes of memory a kept value takes, what it holds included."""
    held: Any = ()
    if isinstance(value, np.ndarray):
        held = value.reshape(-1).tolist() if value.dtype == object else ()
    elif isinstance(value, Mapping):
        held = (*value.keys(), *value.values())
    elif isinstance(value, tuple):
        held = value
    return sys.getsizeof(value) + sum(size_of(member) for member in held)
