"""Engine processes: started, watched and started again by whoever serves.

Each device has one. A process that ends without being asked to is replaced at once, under the same addresses and with
the next number of its life; one that keeps ending soon after its start is given more and more time between.
"""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from .errors import LoadFailed
from .home import Told, live
from .place import Lives, Place, place_for_sockets
from .protocol import Lane
from .settings import EngineSettings

log = logging.getLogger("glasshouse.engine")
START_SECONDS = 60.0
STOP_SECONDS = 10.0
SOON_SECONDS = 1.0  # an end within this time of the start is a failure to start
LONGEST_PAUSE = 2.0


class EngineProcesses:
    """One engine process for each of `devices`, until `close`.

    `settings` are those of every engine, with its device in the place of `providers`; `threads`: how many requests of
    each lane a process takes at a time; `prepare` is called in a new process before anything else, and must be
    picklable. Raises `LoadFailed` when a process does not come up.
    """

    def __init__(
        self,
        settings: Sequence[EngineSettings],
        threads: Mapping[Lane, int],
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._folder = tempfile.mkdtemp(prefix="glasshouse-", dir=place_for_sockets())
        self.places = tuple(Place(self._folder, index) for index in range(len(settings)))
        self._told = [Told(own, place, threads, prepare) for own, place in zip(settings, self.places, strict=True)]
        self._spawning = multiprocessing.get_context("spawn")
        self._lives = Lives(self._folder, len(settings))
        self._numbers = [0] * len(settings)
        self._soon = [0] * len(settings)
        self._wake, self._waker = self._spawning.Pipe(duplex=False)
        self._closing = threading.Event()
        try:
            self._processes = [self._start(told) for told in self._told]
        except BaseException:
            self._remove()
            raise
        self._watch = threading.Thread(target=self._keep, name="engine-processes", daemon=True)
        self._watch.start()

    def close(self) -> None:
        """Stops them all."""
        self._closing.set()
        self._waker.send(None)
        self._watch.join()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        self._remove()

    def _start(self, told: Told) -> BaseProcess:
        """A process that takes requests."""
        index = told.place.index
        self._lives.set(index, 0)
        hear, say = self._spawning.Pipe(duplex=False)
        process = self._spawning.Process(target=live, args=(told, say), name=f"engine-{index}", daemon=True)
        process.start()
        say.close()
        if not _heard(hear):
            process.kill()
            process.join()
            raise LoadFailed(f"the engine process of {'/'.join(told.settings.providers)} did not start; see its log")
        self._numbers[index] += 1
        self._lives.set(index, self._numbers[index])
        return process

    def _keep(self) -> None:
        began = [time.monotonic()] * len(self._processes)
        while True:
            wait([self._wake, *(process.sentinel for process in self._processes)])
            if self._closing.is_set():
                return
            for index, process in enumerate(self._processes):
                if not process.is_alive():
                    self._replace(index, time.monotonic() - began[index])
                    began[index] = time.monotonic()

    def _replace(self, index: int, lived: float) -> None:
        self._lives.set(index, 0)
        ended = self._processes[index]
        self._soon[index] = self._soon[index] + 1 if lived < SOON_SECONDS else 0
        pause = min(LONGEST_PAUSE, 0.1 * 2 ** self._soon[index]) if self._soon[index] > 1 else 0.0
        log.error("engine process ended (code %s); starting another in %.1f s", ended.exitcode, pause)
        while not self._closing.wait(pause):
            try:
                self._processes[index] = self._start(self._told[index])
            except LoadFailed as error:
                log.error("%s", error)
                pause = LONGEST_PAUSE
            else:
                log.warning("engine process is back")
                return

    def _remove(self) -> None:
        self._lives.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _heard(ready: Connection) -> bool:
    """Whether a new process says that it is ready, before it ends and before the time is up."""
    with ready:
        try:
            return ready.poll(START_SECONDS) and bool(ready.recv())
        except EOFError:
            return False
