"""The engine's other home, seen from here: engine processes, spoken to through local sockets.

Every calling thread has sockets of its own, sends, and waits for the answer itself: no thread stands between. A message
carries a number, so that a late answer to a request that was given up is told from the one that is waited for. While it
waits, it looks whether the engine still is in the life that took the request.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import zmq

from .counters import EngineStatistics
from .errors import DeadlineExceeded, EngineClosed, EngineLost
from .frames import Frame, UnknownArtifact, answered, ask
from .home import Question
from .merging import merged
from .place import Place, Talk
from .protocol import Array, Artifact, EngineInfo, Lane, RunResult

LOOK_SECONDS = 0.1  # how often a waiting caller looks whether the engine lives
GRACE_SECONDS = 2.0  # an engine answers for itself that a deadline has passed; only then is it no longer waited for
QUESTION_SECONDS = 5.0
BACKLOG_SECONDS = 0.05  # how old a figure of what waits may be

T = TypeVar("T")


class RemoteEngine:
    """An `Engine` whose runs happen in engine processes; each request goes to the one with the fewest of ours."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = tuple(places)
        self._context = zmq.Context()
        self._own = threading.local()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._under_way = {place.index: 0 for place in self._places}
        self._infos: dict[tuple[int, int], EngineInfo] = {}
        self._backlogs: dict[Lane, tuple[float, float]] = {}
        self._sockets: set[zmq.Socket[Any]] = set()
        self._talks = 0
        self._closed = False

    def run(
        self,
        artifact: Artifact,
        feeds: Mapping[str, Array],
        *,
        lane: Lane = "predict",
        deadline: float | None = None,
        tag: str = "",
    ) -> RunResult:
        """See `Engine.run`. Raises `EngineLost` besides."""
        place = self._take()
        try:
            return self._run(place, artifact, feeds, lane, deadline, tag)
        finally:
            with self._lock:
                self._under_way[place.index] -= 1

    def load(self, artifact: Artifact) -> None:
        """See `Engine.load`: every process makes it."""
        for place in self._places:
            self._run(place, artifact, None, "predict", None, "")

    def unload(self, digest: str) -> None:
        """See `Engine.unload`."""
        self._tell_all("unload", digest)

    def cancel(self, tag: str) -> None:
        """See `Engine.cancel`."""
        self._tell_all("cancel", tag)

    def backlog(self, lane: Lane = "predict") -> float:
        """See `Engine.backlog`: of the process where least waits, at most 50 ms old."""
        at, seconds = self._backlogs.get(lane, (0.0, 0.0))
        now = time.monotonic()
        if now - at > BACKLOG_SECONDS:
            seconds = min(self._ask_all("backlog", lane, float), default=0.0)
            self._backlogs[lane] = (now, seconds)
        return seconds

    def info(self) -> EngineInfo:
        """See `Engine.info`; the processes are alike but for their devices, and all devices are named."""
        found = [self._info(place) for place in self._places]
        providers = tuple(dict.fromkeys(provider for each in found for provider in each.providers))
        return EngineInfo(found[0].runtime, found[0].version, providers, found[0].threads)

    def statistics(self) -> EngineStatistics:
        """See `Engine.statistics`: of all processes that live, together."""
        return merged(self.statistics_of_each())

    def statistics_of_each(self) -> list[EngineStatistics]:
        """See `Engine.statistics_of_each`."""
        return self._ask_all("statistics", "", EngineStatistics)

    def close(self) -> None:
        """Ask no more. The processes are whoever's that started them."""
        self._closed = True
        until = time.monotonic() + GRACE_SECONDS
        while self._talks and time.monotonic() < until:
            time.sleep(LOOK_SECONDS / 10)
        with self._lock:
            for socket in self._sockets:
                socket.close(0)
        self._context.term()

    def _take(self) -> Place:
        with self._lock:
            place = min(self._places, key=lambda each: (not each.life(), self._under_way[each.index]))
            self._under_way[place.index] += 1
            return place

    def _run(
        self,
        place: Place,
        artifact: Artifact,
        feeds: Mapping[str, Array] | None,
        lane: Lane,
        deadline: float | None,
        tag: str,
    ) -> RunResult:
        try:
            return answered(self._talk(place, lane, ask(artifact, feeds, lane, deadline, tag), deadline))
        except UnknownArtifact:
            whole = ask(artifact, feeds, lane, deadline, tag, artifact.serialize())
            return answered(self._talk(place, lane, whole, deadline))

    def _talk(self, place: Place, talk: Talk, frames: Sequence[Frame], deadline: float | None) -> list[Frame]:
        """Send, and wait for the answer."""
        self._count(+1)
        try:
            life = place.life()
            if self._closed:
                raise EngineClosed("the engine is closed")
            if not life:
                raise EngineLost("the engine is being restarted")
            socket, number = self._socket(place, talk), next(self._numbers).to_bytes(8, "little")
            socket.send_multipart([number, b"", *frames], copy=False)
            return self._awaited(socket, number, place, life, deadline)
        except zmq.ZMQError as error:
            raise EngineLost(f"the engine cannot be reached: {error}") from error
        finally:
            self._count(-1)

    def _awaited(
        self, socket: zmq.Socket[Any], number: bytes, place: Place, life: int, deadline: float | None
    ) -> list[Frame]:
        """The frames that answer the message of this number."""
        until = None if deadline is None else deadline + GRACE_SECONDS
        while True:
            if socket.poll(int(LOOK_SECONDS * 1000)):
                reply: list[Frame] = socket.recv_multipart(copy=False)
                if reply[0].bytes == number:
                    return reply[2:]
            elif place.life() != life:
                raise EngineLost("the engine died while it worked on the request")
            elif self._closed:
                raise EngineClosed("the engine was closed while the request waited")
            elif until is not None and time.monotonic() > until:
                raise DeadlineExceeded("the deadline passed, and the engine did not answer")

    def _count(self, talks: int) -> None:
        with self._lock:
            self._talks += talks

    def _socket(self, place: Place, talk: Talk) -> zmq.Socket[Any]:
        """This thread's socket to an engine; one for each of its lives, so that nothing old is left in it."""
        mine: dict[Any, tuple[int, zmq.Socket[Any] | None]] = self._own.__dict__
        life, socket = mine.get((place.index, talk), (0, None))
        if socket is None or life != place.life():
            if socket is not None:
                socket.close(0)
                self._sockets.discard(socket)
            socket = self._context.socket(zmq.DEALER)
            self._sockets.add(socket)
            socket.linger = 0
            socket.sndtimeo = int(QUESTION_SECONDS * 1000)
            socket.connect(place.address(talk))
            mine[place.index, talk] = (place.life(), socket)
        return socket

    def _info(self, place: Place) -> EngineInfo:
        known = (place.index, place.life())
        if known not in self._infos:
            self._infos[known] = self._question(place, "info", "", EngineInfo)
        return self._infos[known]

    def _question(self, place: Place, word: str, about: str, kind: type[T]) -> T:
        frames = [msgspec.msgpack.encode(Question(word, about))]
        (reply,) = self._talk(place, "control", frames, time.monotonic() + QUESTION_SECONDS - GRACE_SECONDS)
        return msgspec.msgpack.decode(reply, type=kind)

    def _ask_all(self, word: str, about: str, kind: type[T]) -> list[T]:
        """The answers of those that live."""
        found = []
        for place in self._places:
            try:
                found.append(self._question(place, word, about, kind))
            except (EngineLost, DeadlineExceeded):
                continue
        return found

    def _tell_all(self, word: str, about: str) -> None:
        self._ask_all(word, about, type(None))
