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
from .errors import InvalidSettings
from .providers import PROVIDERS

Array = NDArray[np.generic]
Kind = Literal["item", "shared"]
Lane = Literal["predict", "explain"]
LANES: tuple[Lane, ...] = ("predict", "explain")


class Artifact(Protocol):
    """Anything that can be run.

    An artifact may also have `max_items: int | None`: the most items one run may carry; 1 means row by row. And
    `constants(data) -> Mapping[str, Array]`: large constants by name of the graph that `data` is, which are held once
    in memory for all artifacts that have the same; those that are mapped files (`np.memmap`) are read where they lie,
    also by engine processes. `data_folder: str | None`: where the files lie that the graph refers to, all of whose
    tensors are then among its constants. And `knobs: Knobs`: how it is run.
    """

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what `serialize` returns and of files it refers to: equal digest, equal graph."""

    @property
    def inputs(self) -> Mapping[str, Kind]:
        """Every input of the graph, by name."""

    @property
    def outputs(self) -> Mapping[str, Kind]:
        """The outputs to be computed, by name."""

    def serialize(self) -> bytes:
        """The graph as the bytes of an ONNX model."""


@dataclass(frozen=True)
class Knobs:
    """How an artifact is run; None leaves it to the engine.

    `max_batch`: most items in one run. `max_wait_ms`: how long a run may wait for company, counted from its first
    request. `instances`: most runs of it at a time. `threads`: of one run.
    """

    max_batch: int | None = None
    max_wait_ms: float | None = None
    instances: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_batch", "instances", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidSettings(f"{name}: came {value}, expected 1 or more")
        if self.max_wait_ms is not None and not self.max_wait_ms >= 0:
            raise InvalidSettings(f"max_wait_ms: came {self.max_wait_ms}, expected 0 or more")


@dataclass(frozen=True)
class StoredModel:
    """A served model: its bytes are fetched by `load`, and read by `constants`, only when a session is made."""

    digest: str
    inputs: Mapping[str, Kind]
    outputs: Mapping[str, Kind]
    load: Callable[[], bytes] = field(repr=False, compare=False)
    max_items: int | None = None
    constants: Callable[[bytes], Mapping[str, Array]] | None = field(default=None, repr=False, compare=False)
    knobs: Knobs = field(default=Knobs(), compare=False)
    data_folder: str | None = field(default=None, compare=False)

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

    @property
    def on_gpu(self) -> bool:
        """Whether what is run is run on a GPU first."""
        return self.providers[0] == PROVIDERS["cuda"]


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
        tag: str = "",
    ) -> RunResult:
        """Run `artifact` on `feeds` and wait for the outputs.

        `deadline` is a moment of `time.monotonic()`; work that has not started by then never starts, and a run of
        which all requests are past their deadline is stopped. `tag` names the request, for `cancel`. Raises
        `InvalidFeeds`, `LoadFailed`, `RunFailed`, `QueueFull`, `DeadlineExceeded`, `Cancelled`, `EngineClosed`.
        """

    def cancel(self, tag: str) -> None:
        """End what is done under this tag: what waits is taken out, a run that nobody else shares is stopped, and if
        there is neither, the next run under the tag is refused. An unknown tag is no error."""

    def backlog(self, lane: Lane = "predict") -> float:
        """About how many seconds the work that waits in a lane will take."""

    def load(self, artifact: Artifact) -> None:
        """Make the artifact's session now, so that its first request does not wait for it. Raises `LoadFailed`."""

    def unload(self, digest: str) -> None:
        """Forget the session of `digest`; requests that hold it finish. Unknown digests are no error."""

    def info(self) -> EngineInfo:
        """The runtime behind this engine."""

    def statistics(self) -> EngineStatistics:
        """A snapshot of what has been done so far."""

    def statistics_of_each(self) -> list[EngineStatistics]:
        """The same of each process that does the work, where there are several; of those that answer."""

    def close(self) -> None:
        """Refuse new work, fail what waits with `EngineClosed`, and return when the runs under way have ended."""
