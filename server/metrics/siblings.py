"""The workers of one server tell each other what they have counted, so that any of them can answer a scrape for all.

Each listens on a socket in a folder that the server makes for itself; whoever is asked by Prometheus asks the others
there. What was told last stands in one file beside the sockets: when a process is gone, what it had counted by then
stays counted, and its gauges are not. A worker too busy to answer is taken at its last word, and an engine process that
was gone for a while counts once when it is back.

In the same way they tell each other what they can say of the models (`others`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .samples import Samples, Sources, from_json, joined, to_json

ANSWER_SECONDS = 2.0
MOST_GONE = 64
LEAST_SECONDS = 0.05
FIGURES, STATES, LONGEST_WORD = b"figures", b"states", 16
KNOWN, LOCK, ENDING = "known.json", "lock", ".sock"
log = logging.getLogger("glasshouse.metrics")


class Siblings:
    """One worker's place among the others.

    ``folder`` belongs to this server alone; ``sources(name)`` gives what this worker, of that name, has counted, and
    ``states()`` what it says of the models, as JSON has it.
    """

    def __init__(self, folder: Path, sources: Callable[[str], Sources], states: Callable[[], Any] = list) -> None:
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._folder, self._sources, self._states = folder, sources, states
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / f"{self.name}{ENDING}"))
        self._listener.listen(64)
        threading.Thread(target=self._listen, name="metrics", daemon=True).start()

    def gather(self) -> tuple[Sources, Samples]:
        """The figures of all processes that live, and the sum of those that are gone."""
        until = time.monotonic() + ANSWER_SECONDS
        with _locked(self._folder / LOCK):
            known = self._read()
            live: dict[str, Samples] = {}
            told_by: dict[str, str] = {}
            for path in sorted(self._folder.glob(f"*{ENDING}")):
                told = self._told(path, known, until)
                live |= told
                told_by |= dict.fromkeys(told, path.stem)
            before = known["gone"] | {name: entry["samples"] for name, entry in known["sources"].items()}
            gone = {name: from_json(samples) for name, samples in before.items() if name not in live}
            ended = from_json(known["ended"])
            while len(gone) > MOST_GONE:
                ended = joined([], [ended, gone.pop(next(iter(gone)))])
            self._write(live, told_by, gone, ended)
        return live, joined([], [ended, *gone.values()])

    def others(self) -> list[Any]:
        """The `states` of the other workers that live and answer in time."""
        until, found = time.monotonic() + ANSWER_SECONDS, []
        for path in sorted(self._folder.glob(f"*{ENDING}")):
            if path.stem != self.name:
                with contextlib.suppress(OSError, ValueError):
                    found.append(json.loads(_ask(path, STATES, max(LEAST_SECONDS, until - time.monotonic()))))
        return found

    def close(self) -> None:
        """Answers no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _told(self, path: Path, known: dict[str, Any], until: float) -> Sources:
        """What a worker says, or said last; nothing when it has ended."""
        if path.stem == self.name:
            return self._sources(self.name)
        try:
            content = _ask(path, FIGURES, max(LEAST_SECONDS, until - time.monotonic()))
            return {name: from_json(samples) for name, samples in json.loads(content).items()}
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return {}
        except (OSError, ValueError):
            last = {name: entry for name, entry in known["sources"].items() if entry["by"] == path.stem}
            return {name: from_json(entry["samples"]) for name, entry in last.items()}

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                with connection:
                    connection.settimeout(ANSWER_SECONDS)
                    connection.sendall(json.dumps(self._answer(connection.recv(LONGEST_WORD))).encode())
            except Exception as error:  # whoever asked takes our last word; this thread must live on
                log.warning("nothing told to another worker", extra={"reason": f"{type(error).__name__}: {error}"})

    def _answer(self, word: bytes) -> Any:
        if word == STATES:
            return self._states()
        return {name: to_json(samples) for name, samples in self._sources(self.name).items()}

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._folder / KNOWN).read_text())
        except FileNotFoundError:
            return {"sources": {}, "gone": {}, "ended": {}}
        return found

    def _write(self, live: Sources, told_by: dict[str, str], gone: Sources, ended: Samples) -> None:
        left = {name: to_json(samples) for name, samples in gone.items()}
        told = {name: {"by": told_by[name], "samples": to_json(samples)} for name, samples in live.items()}
        beside = self._folder / f"{KNOWN}.new"
        beside.write_text(json.dumps({"sources": told, "gone": left, "ended": to_json(ended)}))
        beside.replace(self._folder / KNOWN)


def _ask(path: Path, word: bytes, seconds: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(str(path))
        connection.sendall(word)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process, and one thread of it, at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
