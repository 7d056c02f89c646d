"""Worker processes that end: killed, they are replaced however often; unable to start, they end the server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from server import Config, listener

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
PROGRAM = """
import os, sys
from server import Config, serving
from server.front import Front

def application(environ, start_response):
    content = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(content)))])
    return [content]

def load():
    if sys.argv[2] == "unable":
        raise ZeroDivisionError("at the start")
    return Front(application, threads=2, waiting=8, max_body=100, body_seconds=5)

serving.listener(Config(port=int(sys.argv[1]))).serve(target_loader=load, wrap_loader=False)
"""
Start = Callable[[str], tuple[subprocess.Popen[bytes], str]]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def begin(kind: str) -> tuple[subprocess.Popen[bytes], str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(port), kind], cwd=ROOT, stderr=subprocess.DEVNULL, close_fds=True
        )
        running.append(process)
        return process, f"http://127.0.0.1:{port}"

    yield begin
    for process in running:
        process.kill()
        process.wait(PATIENCE)


def worker(process: subprocess.Popen[bytes], address: str, other_than: int = 0) -> int:
    """The process id of a worker that answers."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert process.poll() is None, "the server has ended"
        try:
            found = int(requests.get(address, timeout=PATIENCE).text)
        except requests.ConnectionError:
            found = other_than
        if found != other_than:
            return found
        time.sleep(0.02)
    raise AssertionError("no worker answers")


def test_a_killed_worker_is_replaced_however_often(start: Start) -> None:
    process, address = start("able")
    seen = [worker(process, address)]
    for ending in (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGKILL):
        os.kill(seen[-1], ending)
        seen.append(worker(process, address, seen[-1]))
    assert len(set(seen)) == 6
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0


def test_a_server_whose_worker_cannot_start_ends(start: Start) -> None:
    process, address = start("unable")
    assert process.wait(PATIENCE) == 1
    with pytest.raises(AssertionError, match="has ended"):
        worker(process, address)


def test_who_is_killed_too_soon_waits_longer_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """And starts afresh once one has lived."""

    class Ended:
        birth = time.monotonic()

    found = listener(Config(port=1))
    found.wrks = [Ended()]
    pauses = [found._pause(0, -9) for _ in range(8)]
    assert pauses == [0.0, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0]
    monkeypatch.setattr("server.listening.SOON_SECONDS", -1.0)
    assert [found._pause(0, -9) for _ in range(2)] == [0.0, 0.0]


def test_asked_to_end_while_it_waits_it_replaces_nobody() -> None:
    found = listener(Config(port=1))
    found.wrks = [type("Ended", (), {"birth": time.monotonic(), "inner": type("Process", (), {"exitcode": -9})})]
    found.interrupt_signal = True
    found.main_loop_interrupt.clear()
    found._respawn_workers([0], None, None)
    assert found.main_loop_interrupt.is_set(), "else the loop would sleep over it"
