"""What crosses between a process that asks and an engine process: a head in MessagePack, then arrays as raw frames.

Nothing is pickled. Arrays of numbers are their bytes, arrays of text a MessagePack list. Decoded arrays are copies:
frames have no alignment that a runtime could rely on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from . import errors
from .errors import EngineError, RunFailed
from .protocol import Array, Artifact, Kind, Knobs, Lane, RunResult
from .weights import place_of

Frame = Any  # bytes, a memoryview, or a zmq.Frame: whatever has a buffer
TEXT = "O"


class ArrayHead(msgspec.Struct, array_like=True):
    """What a frame of numbers or text is; of a mapped file there is no content in it, but the file's path and where the
    array begins."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str = ""
    offset: int = 0


class Ask(msgspec.Struct, array_like=True):
    """One run, or (without arrays and `run` false) one load. `payload`: the graph follows the arrays as one frame, and
    after it its `constants`."""

    digest: str
    inputs: dict[str, Kind]
    outputs: dict[str, Kind]
    max_items: int | None
    knobs: Knobs
    lane: Lane
    deadline: float | None
    tag: str
    run: bool
    arrays: list[ArrayHead]
    payload: bool
    constants: list[ArrayHead]
    data_folder: str | None = None


class Answer(msgspec.Struct, array_like=True):
    """What came of it: the arrays of a run and its figures, or an error by name with the arguments that make it."""

    arrays: list[ArrayHead] = []
    shared_with: int = 0
    batch_items: int = 0
    queue_seconds: float = 0.0
    run_seconds: float = 0.0
    runs: int = 1
    error: str = ""
    args: tuple[str, ...] = ()


class UnknownArtifact(EngineError):
    """The engine process has no session of this digest and needs the graph: ask again with the payload."""


class Received:
    """An artifact as it came; without its payload it can be run only where a session is ready."""

    def __init__(self, ask: Ask, payload: bytes | None, constants: Mapping[str, Array]) -> None:
        self.digest, self.inputs, self.outputs = ask.digest, ask.inputs, ask.outputs
        self.max_items, self.knobs, self.data_folder = ask.max_items, ask.knobs, ask.data_folder
        self._payload, self._constants = payload, constants

    def serialize(self) -> bytes:
        """The graph. Raises `UnknownArtifact` if it did not come."""
        if self._payload is None:
            raise UnknownArtifact(self.digest)
        return self._payload

    def constants(self, _: bytes) -> Mapping[str, Array]:
        """The large constants that came with it."""
        return self._constants


def ask(
    artifact: Artifact,
    feeds: Mapping[str, Array] | None,
    lane: Lane,
    deadline: float | None,
    tag: str,
    payload: bytes | None = None,
) -> list[Frame]:
    """The frames of a run (of a load, without feeds), with the graph if `payload` is it."""
    arrays, frames = _packed(feeds or {})
    of = getattr(artifact, "constants", None)
    constants, shared = _packed(of(payload) if of is not None and payload is not None else {}, in_files=True)
    head = Ask(
        digest=artifact.digest,
        inputs=dict(artifact.inputs),
        outputs=dict(artifact.outputs),
        max_items=getattr(artifact, "max_items", None),
        knobs=getattr(artifact, "knobs", None) or Knobs(),
        lane=lane,
        deadline=deadline,
        tag=tag,
        run=feeds is not None,
        arrays=arrays,
        payload=payload is not None,
        constants=constants,
        data_folder=getattr(artifact, "data_folder", None),
    )
    graph = [] if payload is None else [payload]
    return [msgspec.msgpack.encode(head), *frames, *graph, *shared]


def asked(frames: Sequence[Frame]) -> tuple[Ask, Received, dict[str, Array]]:
    """A run as it was asked for."""
    head = msgspec.msgpack.decode(frames[0], type=Ask)
    end = 1 + len(head.arrays)
    feeds = _unpacked(head.arrays, frames[1:end])
    if not head.payload:
        return head, Received(head, None, {}), feeds
    constants = _unpacked(head.constants, frames[end + 1 :])
    return head, Received(head, bytes(memoryview(frames[end])), constants), feeds


def answer(outcome: RunResult | EngineError | None) -> list[Frame]:
    """The frames of an outcome; None is a load that succeeded."""
    if outcome is None:
        return [msgspec.msgpack.encode(Answer())]
    if isinstance(outcome, EngineError):
        args = tuple(str(each) for each in outcome.args)
        if isinstance(outcome, errors.InvalidFeeds):
            args = (outcome.field, outcome.came, outcome.expected)
        return [msgspec.msgpack.encode(Answer(error=type(outcome).__name__, args=args))]
    arrays, frames = _packed(outcome.outputs)
    head = Answer(
        arrays,
        outcome.shared_with,
        outcome.batch_items,
        outcome.queue_seconds,
        outcome.run_seconds,
        outcome.runs,
    )
    return [msgspec.msgpack.encode(head), *frames]


def answered(frames: Sequence[Frame]) -> RunResult:
    """The outcome of a run, or what it raised."""
    head = msgspec.msgpack.decode(frames[0], type=Answer)
    if head.error:
        kind = UnknownArtifact if head.error == UnknownArtifact.__name__ else getattr(errors, head.error, RunFailed)
        raise kind(*head.args)
    outputs = _unpacked(head.arrays, frames[1:])
    return RunResult(outputs, head.shared_with, head.batch_items, head.queue_seconds, head.run_seconds, head.runs)


def _packed(arrays: Mapping[str, Array], in_files: bool = False) -> tuple[list[ArrayHead], list[Frame]]:
    heads: list[ArrayHead] = []
    frames: list[Frame] = []
    for name, array in arrays.items():
        place = place_of(array) if in_files else None
        if place is not None:
            heads.append(ArrayHead(name, array.dtype.str, array.shape, *place))
            frames.append(b"")
        elif array.dtype == np.object_:
            heads.append(ArrayHead(name, TEXT, array.shape))
            frames.append(msgspec.msgpack.encode(array.ravel().tolist()))
        else:
            heads.append(ArrayHead(name, array.dtype.str, array.shape))
            frames.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return heads, frames


def _unpacked(heads: Iterable[ArrayHead], frames: Iterable[Frame]) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for head, frame in zip(heads, frames, strict=False):
        if head.dtype == TEXT:
            texts = np.empty(len(found := msgspec.msgpack.decode(frame, type=list[str])), dtype=np.object_)
            texts[:] = found
            arrays[head.name] = texts.reshape(head.shape)
        elif head.file:
            arrays[head.name] = np.memmap(head.file, np.dtype(head.dtype), "r", head.offset, head.shape)
        else:
            arrays[head.name] = np.frombuffer(frame, np.dtype(head.dtype)).reshape(head.shape).copy()
    return arrays
