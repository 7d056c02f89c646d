"""An engine process: the in-process home, spoken to through local sockets.

Predictions and explanations come in on sockets of their own, each served by threads of its own, so that explanations
can never hold the threads that predictions need. A thread takes a request, runs it (the in-process home batches across
the threads) and answers; what comes when all threads are busy waits in the socket. Between the sockets and the threads
stands ZeroMQ's proxy, which needs no Python to pass a message on. A third socket takes short questions: figures,
cancellations.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import msgspec
import zmq

from .errors import EngineError, RunFailed
from .frames import Ask, Frame, Received, UnknownArtifact, answer, asked
from .in_process import InProcessEngine
from .place import Place, Talk
from .protocol import LANES, Array, Lane, RunResult
from .settings import EngineSettings

log = logging.getLogger("glasshouse.engine")
NAME = b"glasshouse-engi"  # the kernel keeps 15 bytes
PR_SET_NAME = 15


class Question(msgspec.Struct, array_like=True):
    """What the third socket is asked: `info`, `statistics`, `backlog` of a lane, `cancel` a tag, `unload` a digest."""

    word: str
    about: str = ""


class Told(NamedTuple):
    """How a process is told who it is."""

    settings: EngineSettings
    place: Place
    threads: Mapping[Lane, int]
    prepare: Callable[[], None] | None


def live(told: Told, ready: Connection) -> None:
    """The life of an engine process: until SIGTERM, or until whoever started it is gone (`prepare` sees to that)."""
    _call_it_by_name()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if told.prepare is not None:
        told.prepare()
    home = InProcessEngine(told.settings)
    context = zmq.Context()
    for lane in LANES:
        _listen(context, told.place, lane, told.threads[lane], lambda frames: _ran(home, frames))
    _listen(context, told.place, "control", 1, lambda frames: _replied(home, frames))
    ready.send(os.getpid())
    ready.close()
    stopped.wait()
    # Whoever asked has been answered or has given up. Sockets in use by other threads cannot be closed: all end here.
    os._exit(0)


def _listen(
    context: zmq.Context[Any], place: Place, talk: Talk, threads: int, reply: Callable[[Sequence[Frame]], list[Frame]]
) -> None:
    outside, inside = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    outside.bind(place.address(talk))
    inside.bind(f"inproc://{talk}")
    for index in range(threads):
        worker = threading.Thread(target=_work, args=(context, talk, reply), name=f"{talk}-{index}", daemon=True)
        worker.start()
    threading.Thread(target=_pass_on, args=(outside, inside), name=f"{talk}-proxy", daemon=True).start()


def _pass_on(outside: zmq.Socket[bytes], inside: zmq.Socket[bytes]) -> None:
    try:
        zmq.proxy(outside, inside)
    except zmq.ZMQError:
        outside.close(0)
        inside.close(0)


def _work(context: zmq.Context[Any], talk: Talk, reply: Callable[[Sequence[Frame]], list[Frame]]) -> None:
    socket = context.socket(zmq.REP)
    socket.connect(f"inproc://{talk}")
    try:
        while True:
            frames = socket.recv_multipart(copy=False)
            socket.send_multipart(reply(frames), copy=False)
    except zmq.ZMQError:
        socket.close(0)


def _ran(home: InProcessEngine, frames: Sequence[Frame]) -> list[Frame]:
    """What comes of a request; whatever goes wrong is answered, so that nobody waits in vain."""
    try:
        head, artifact, feeds = asked(frames)
        outcome = _outcome(home, head, artifact, feeds)
        while isinstance(outcome, UnknownArtifact) and head.payload:
            # It waited for the session that a request without the graph had begun to make. This one has the graph.
            outcome = _outcome(home, head, artifact, feeds)
    except Exception as error:
        log.exception("a request could not be run")
        outcome = RunFailed(f"the engine failed: {type(error).__name__}")
    return answer(outcome)


def _outcome(
    home: InProcessEngine, head: Ask, artifact: Received, feeds: dict[str, Array]
) -> RunResult | EngineError | None:
    try:
        if head.run:
            return home.run(artifact, feeds, lane=head.lane, deadline=head.deadline, tag=head.tag)
        home.load(artifact)
    except EngineError as error:
        return error
    return None


def _replied(home: InProcessEngine, frames: Sequence[Frame]) -> list[Frame]:
    question = msgspec.msgpack.decode(frames[0], type=Question)
    replies: Mapping[str, Callable[[], object]] = {
        "info": home.info,
        "statistics": home.statistics,
        "backlog": lambda: home.backlog("explain" if question.about == "explain" else "predict"),
        "cancel": lambda: home.cancel(question.about),
        "unload": lambda: home.unload(question.about),
    }
    return [msgspec.msgpack.encode(replies[question.word]())]


def _call_it_by_name() -> None:
    """So that `ps` and `top` tell an engine from an HTTP worker. Source: prctl(2), PR_SET_NAME."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_NAME, NAME, 0, 0, 0)
