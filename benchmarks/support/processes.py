"""Servers in processes of their own: started, waited for, looked at from outside, and stopped."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
START_SECONDS, STOP_SECONDS, LOOK_SECONDS = 120, 40, 0.5
IDLE_SHARE = 0.1  # of a core
ENGINE_NAME = "glasshouse-engi"  # what Linux keeps of the name of an engine's process: 15 characters
MIB = 2**20


@dataclass
class Server:
    """A server that answers at `port` of this machine.

    `started` is when its command was given (time.monotonic), `ready` after how many seconds it was ready.
    """

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    started: float = field(default_factory=time.monotonic)
    ready: float = math.nan

    def get(self, path: str, timeout: float = 60.0) -> Any:
        """The JSON at a path; urllib's errors pass through."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
            return json.loads(answer.read() or b"null")

    def family(self) -> list[psutil.Process]:
        """The process and all it started, itself first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        return []

    def memory(self) -> float:
        """MiB resident of the whole family, shared pages divided among those that share them (PSS)."""
        return sum(pss(process) for process in self.family())

    def counts(self) -> tuple[int, int]:
        """Threads and open descriptors of the whole family."""
        threads = descriptors = 0
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                threads, descriptors = threads + process.num_threads(), descriptors + process.num_fds()
        return threads, descriptors

    def quiet(self, most: float = 30.0) -> None:
        """Wait until the server has hardly anything to do: what was asked before is done or given up."""
        until, used = time.monotonic() + most, self._used()
        while time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            before, used = used, self._used()
            if used - before < IDLE_SHARE * LOOK_SECONDS:
                return

    def _used(self) -> float:
        """Seconds of processor time of the whole family."""
        used = 0.0
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                used += sum(process.cpu_times()[:2])
        return used

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what does not go."""
        family = self.family()
        self.process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(family, STOP_SECONDS)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(STOP_SECONDS)


def pss(process: psutil.Process) -> float:
    """MiB of one process, 0 for one that has gone."""
    with contextlib.suppress(psutil.Error):
        return float(process.memory_full_info().pss) / MIB
    return 0.0


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """Ours without the settings of a user."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GLASSHOUSE_")}


@contextlib.contextmanager
def running(name: str, command: Sequence[str], port: int, ready: str, folder: Path) -> Iterator[Server]:
    """A server from its command until the block ends, given out once `ready` (a path) is answered with 200.

    Raises RuntimeError with the end of its log if it does not come to that.
    """
    log = folder / f"{name.replace(' ', '-')}-{port}.log"
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=output, stderr=subprocess.STDOUT)
    server = Server(name, process, port, log, started)
    try:
        server.ready = wait_for(server, ready)
        yield server
    finally:
        server.stop()


def wait_for(server: Server, path: str) -> float:
    """Seconds since the start until a path is answered with 200."""
    until = server.started + START_SECONDS
    while time.monotonic() < until and server.process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            server.get(path, timeout=2.0)
            return time.monotonic() - server.started
        time.sleep(0.01)
    raise RuntimeError(f"{server.name} did not get ready:\n{server.log.read_text(errors='replace')[-3000:]}")


@contextlib.contextmanager
def glasshouse(store: Path, folder: Path, *flags: str, audit: str = "off", extra: str = "") -> Iterator[Server]:
    """`glasshouse serve` over a store; `extra` are further flags as a line of text."""
    port = free_port()
    command = [sys.executable, "-m", "cli", "serve", "--store", str(store), "--port", str(port), "--audit", audit]
    command += ["--database", str(folder / f"{port}.sqlite"), "--log-level", "error", *flags, *shlex.split(extra)]
    with running(f"glasshouse audit={audit}", command, port, "/v2/health/ready", folder) as server:
        yield server


def tune(store: Path, model: str, prefer: str, seconds: float = 20) -> None:
    """Have a model of the store run as it runs best here."""
    command = [sys.executable, "-m", "cli", "tune", model, "--prefer", prefer, "--seconds", str(seconds)]
    subprocess.run(
        [*command, "--store", str(store)], cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL
    )


@contextlib.contextmanager
def kserve(python: Path, files: dict[str, Path], folder: Path) -> Iterator[Server]:
    """KServe's Python server with these ONNX files, by the Python that has it."""
    port, script = free_port(), ROOT / "benchmarks" / "support" / "peer_kserve.py"
    command = [str(python), str(script), str(port), *(f"{name}={path}" for name, path in files.items())]
    with running("KServe", command, port, "/v2/health/ready", folder) as server:
        yield server


@contextlib.contextmanager
def empty_route(folder: Path, threads: int = 64) -> Iterator[Server]:
    """An empty Flask route on the HTTP server that Glasshouse stands on."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.support.peer_empty", str(port), str(threads)]
    with running("empty route", command, port, "/empty/infer", folder) as server:
        yield server


def kserve_python(folder: Path, version: str, runtime: str) -> Path:
    """The Python of a new virtual environment in `folder` with this KServe and the ONNX Runtime that we have."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    packages = [f"kserve=={version}", f"onnxruntime=={runtime}"]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def engine_processes(server: Server) -> list[psutil.Process]:
    """The processes that run models and answer no HTTP: by their command line, else by the server's statistics.

    Empty where the engine has no process of its own.
    """
    family = server.family()[1:]
    named = []
    for process in family:
        with contextlib.suppress(psutil.Error):
            if ENGINE_NAME in " ".join([process.name(), *process.cmdline()]):
                named.append(process)
    if named:
        return named
    with contextlib.suppress(OSError, ValueError, urllib.error.URLError):
        pids = {int(pid) for pid in _found(server.get("/v2/models/stats", timeout=5.0), "pid")}
        return [process for process in family if process.pid in pids]
    return []


def _found(value: Any, member: str) -> Iterator[Any]:
    """Every value of a member of this name, at any depth."""
    if isinstance(value, dict):
        yield from (inner for name, inner in value.items() if name == member)
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _found(inner, member)
