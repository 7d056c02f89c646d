"""What the engine runs, and what an engine is.

An *artifact* is a graph with a digest and a word for each of its inputs and outputs: `item` (axis 0 counts items;
requests are joined along it) or `shared` (taken whole; requests join only when it is equal). A served model and a
compiled explanation are both artifacts, so both go through the same batcher. An *engine* turns an artifact and its
arrays into outputs; where that happens (this process, another one) is the engine's own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .counters import EngineStatistics

Array = NDArray[np.generic]
Kind = Literal["item", "shared"]
Lane = Literal["predict", "explain"]
LANES: tuple[Lane, ...] = ("predict", "explain")


class Artifact(Protocol):
    """Anything that can be run.

    An artifact may also have `max_items: int | None`: the most items one run may carry; 1 means row by row. And
    `constants(data) -> Mapping[str, Array]`: large constants by name of the graph that `data` is, which are held once
    in memory for all artifacts that have the same.
    """

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what `serialize` returns: equal digest, equal graph."""

    @property
    def inputs(self) -> Mapping[str, Kind]:
        """Every input of the graph, by name."""

    @property
    def outputs(self) -> Mapping[str, Kind]:
        """The outputs to be computed, by name."""

    def serialize(self) -> bytes:
        """The graph as the bytes of an ONNX model."""


@dataclass(frozen=True)
class StoredModel:
    """A served model: its bytes are fetched by `load`, and read by `constants`, only when a session is made."""

    digest: str
    inputs: Mapping[str, Kind]
    outputs: Mapping[str, Kind]
    load: Callable[[], bytes] = field(repr=False, compare=False)
    max_items: int | None = None
    constants: Callable[[bytes], Mapping[str, Array]] | None = field(default=None, repr=False, compare=False)

    def serialize(self) -> bytes:
        """The model's bytes, from wherever `load` takes them."""
        return self.load()


@dataclass(frozen=True)
class RunResult:
    """What one request got, and in whose company it was computed.

    `outputs`: one array per output of the artifact; `item` outputs have the request's items on axis 0. Arrays of
    `shared` outputs are read-only, because every request of the run holds the same one.
    `batch_items`: items in the run that computed them (the largest, when the request took several runs).
    `shared_with`: how many of those were not ours. `runs`: how many runs the request took.
    """

    outputs: dict[str, Array]
    shared_with: int
    batch_items: int
    queue_seconds: float
    run_seconds: float
    runs: int = 1


@dataclass(frozen=True)
class EngineInfo:
    """Which runtime computes the answers: recorded with every decision."""

    runtime: str
    version: str
    providers: tuple[str, ...]
    threads: int


@runtime_checkable
class Engine(Protocol):
    """One interface, whichever process does the work. Every method may be called from many threads at once."""

    def run(
        self,
        artifact: Artifact,
        feeds: Mapping[str, Array],
        *,
        lane: Lane = "predict",
        deadline: float | None = None,
    ) -> RunResult:
        """Run `artifact` on `feeds` and wait for the outputs.

        `deadline` is a moment of `time.monotonic()`; work that has not started by then never starts. Raises
        `InvalidFeeds`, `LoadFailed`, `RunFailed`, `QueueFull`, `DeadlineExceeded`, `EngineClosed`.
        """

    def load(self, artifact: Artifact) -> None:
        """Make the artifact's session now, so that its first request does not wait for it. Raises `LoadFailed`."""

    def unload(self, digest: str) -> None:
        """Forget the session of `digest`; requests that hold it finish. Unknown digests are no error."""

    def info(self) -> EngineInfo:
        """The runtime behind this engine."""

    def statistics(self) -> EngineStatistics:
        """A snapshot of what has been done so far."""

    def close(self) -> None:
        """Refuse new work, fail what waits with `EngineClosed`, and return when the runs under way have ended."""
