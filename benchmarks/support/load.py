"""Closed loops: so many connections, each asking again as soon as it is answered. By wrk where it is installed.

wrk takes a small script for the body, written where the caller says; it is one process of C, which leaves the cores to
the server. Without it, our own loop (clients.py) asks in a process of its own, and the table says so.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .asking import COUNTER, Ask

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 300
# Where the numbers of a loop begin: no loop repeats another's requests, or a server would know the answers. Small steps
# for the numbers must differ as float32.
FIRST = itertools.count(0, 20_000)
SCRIPT = """
wrk.method, wrk.path = %(method)s, %(path)s
%(headers)s
local file = io.open(%(body)s, "rb")
wrk.body = file:read("*all")
file:close()
local count, mark = %(first)d, %(mark)s
local function split(text)
  local at = text:find(mark, 1, true)
  if not at then return text, nil end
  return text:sub(1, at - 1), text:sub(at + #mark)
end
function init(args)
  local p, q = split(wrk.path)
  local b, c = split(wrk.body)
  if not (q or c) then return end
  request = function()
    count = count + 1
    local stamp = string.format("%%0" .. #mark .. "d", count)
    return wrk.format(nil, q and p .. stamp .. q or p, nil, c and b .. stamp .. c or b)
  end
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n@{"requests":%%d,"us":%%d,"p50":%%d,"p99":%%d,"max":%%d,"failed":%%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What a loop found: requests per second that were answered with 2xx, seconds of latency, and what failed."""

    rate: float
    p50: float = math.nan
    p99: float = math.nan
    failed: int = 0
    requests: int = 0

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        times = "" if math.isnan(self.p50) else f", p50 {milliseconds(self.p50)}, p99 {milliseconds(self.p99)}"
        return f"{number(self.rate)}/s{times}{failed}"


def number(value: float) -> str:
    """Three figures and no exponent."""
    if not value or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def milliseconds(seconds: float) -> str:
    """Seconds as "12.3 ms"."""
    return f"{number(seconds * 1e3)} ms"


def generator() -> str:
    """Which load generator closed loops use."""
    return "wrk" if shutil.which("wrk") else "a Python loop of our own (wrk is not installed)"


def closed_loop(port: int, ask: Ask, connections: int, seconds: float, first: int | None = None) -> Load:
    """Ask on so many connections for so long; the numbers that replace COUNTER begin behind `first`."""
    return begin(port, ask, connections, seconds, first).result()


@dataclass
class Running:
    """A closed loop under way in another process."""

    process: subprocess.Popen[str]
    folder: tempfile.TemporaryDirectory[str]

    def result(self) -> Load:
        """Wait for its end. Raises RuntimeError with its output where it has no result."""
        output, _ = self.process.communicate()
        self.folder.cleanup()
        lines = [line for line in output.splitlines() if line.startswith("@")]
        if not lines:
            raise RuntimeError(f"the load generator found nothing:\n{output[-2000:]}")
        found = json.loads(lines[-1][1:])
        answered = found["requests"] - found["failed"]
        rate = answered / (found["us"] / 1e6)
        return Load(rate, found["p50"] / 1e6, found["p99"] / 1e6, found["failed"], found["requests"])


def begin(port: int, ask: Ask, connections: int, seconds: float, first: int | None = None) -> Running:
    """The same, while the caller does something else."""
    first = next(FIRST) if first is None else first
    folder = tempfile.TemporaryDirectory()
    body = Path(folder.name) / "body"
    body.write_bytes(ask.body)
    if shutil.which("wrk"):
        script = Path(folder.name) / "ask.lua"
        script.write_text(_lua(ask, body, first))
        loop = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_SECONDS}s"]
        command = [*loop, "-s", str(script), f"http://127.0.0.1:{port}"]
    else:
        spec = {"path": ask.path, "headers": dict(ask.headers), "method": ask.method, "body": str(body)}
        sizes = [str(value) for value in (port, connections, seconds, first)]
        command = [sys.executable, "-m", "benchmarks.support.clients", json.dumps(spec), *sizes]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return Running(process, folder)


def _lua(ask: Ask, body: Path, first: int) -> str:
    headers = "\n".join(f"wrk.headers[{_quoted(n)}] = {_quoted(v)}" for n, v in ask.headers.items())
    values = {"method": _quoted(ask.method), "path": _quoted(ask.path), "body": _quoted(str(body)), "first": first}
    return SCRIPT % {**values, "headers": headers, "mark": _quoted(COUNTER)}


def _quoted(text: str) -> str:
    """A Lua string; JSON's quoting is Lua's for printable ASCII."""
    return json.dumps(text)


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99, NaN of nothing."""
    if not len(seconds):
        return math.nan, math.nan
    return float(np.percentile(seconds, 50)), float(np.percentile(seconds, 99))
