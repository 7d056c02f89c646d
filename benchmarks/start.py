"""How soon a server is ready and how much memory it takes before anybody has asked.

    python -m benchmarks.start   # writes benchmarks/results/start.md

*Ready* is from the command `glasshouse serve` to the first 200 of /v2/health/ready, with ten small models (30-64-64-2).
Memory is PSS of one HTTP worker and the engine with the example models, all loaded. What the processes have mapped is
read from /proc: the libraries of torch and shap must not be among them.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from benchmarks.support import models, processes
from benchmarks.support.page import Page, Table, arguments, met
from benchmarks.support.processes import Server, pss

READY_BAR, MEMORY_BAR = 3.0, 300.0
UNWANTED = ("torch", "shap", "captum", "sklearn", "skl2onnx", "lightning", "onnxscript")
PACKAGE = re.compile(r"site-packages/([A-Za-z0-9_]+?)(?:\.libs|\.cpython[^/]*|\.abi3\.so)?(?:/|$)")


def mapped(server: Server) -> set[str]:
    """Packages of which a process of the server has mapped a shared library."""
    found = set()
    for process in server.family():
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
            paths = (line.split(maxsplit=5)[-1] for line in lines if "site-packages" in line)
            found |= {match[1] for path in paths if (match := PACKAGE.search(path))}
            found |= {"torch"} if any("libtorch" in line for line in lines) else set()
    return found


def ready(given: argparse.Namespace, table: Table, folder: Path) -> None:
    """Start and stop a server of ten models, several times."""
    store, seconds = models.store_with(folder / "ten", "ten"), []
    for _ in range(given.starts):
        with processes.glasshouse(store, folder, extra=given.serve) as server:
            seconds.append(server.ready)
    found = f"median {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
    table.add(
        f"ready with ten models, {len(seconds)} starts", found, f"<= {READY_BAR:g} s", met(max(seconds) <= READY_BAR)
    )


def memory(given: argparse.Namespace, page: Page, table: Table, store: Path, folder: Path) -> None:
    """One server with the example models, looked at once all are loaded."""
    with processes.glasshouse(store, folder, "--workers", "1", audit="required", extra=given.serve) as server:
        for name in server.get("/v1/models")["models"]:
            server.get(f"/v2/models/{name}/ready")
        family, engines = server.family(), {each.pid for each in processes.engine_processes(server)}
        parts = page.table("process", "MiB (PSS)", "MiB (RSS)", title="Processes of the server with the example models")
        for process in family:
            parts.add(role(process, server, engines), f"{pss(process):.1f}", f"{process.memory_info().rss / 2**20:.1f}")
        serving = sum(pss(process) for process in family[1:])
        packages = mapped(server)
    found = f"{serving:.1f} MiB"
    table.add("HTTP worker and engine, PSS", found, f"<= {MEMORY_BAR:g} MiB", met(serving <= MEMORY_BAR))
    unwanted = sorted(packages & set(UNWANTED))
    table.add("mapped: torch, shap and their like", ", ".join(unwanted) or "none", "none", met(not unwanted))
    page.note(f"Packages with mapped libraries: {', '.join(sorted(packages))}.")


def role(process: psutil.Process, server: Server, engines: set[int]) -> str:
    """What a process is, in words."""
    if process.pid == server.process.pid:
        return "main"
    if process.pid in engines:
        return "engine"
    return "resource tracker" if "resource_tracker" in " ".join(process.cmdline()) else "HTTP worker"


def examples(given: argparse.Namespace, folder: Path) -> Path:
    """A store with the example models: the one given, or trained here."""
    if given.store is not None:
        return Path(given.store).absolute()
    command = [sys.executable, "-m", "cli", "examples", "--store", str(folder / "examples")]
    command += ["--epochs", "1"] if given.quick else []
    subprocess.run(command, cwd=models.ROOT, check=True, stdout=subprocess.DEVNULL)
    return folder / "examples"


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = arguments(__doc__ or "", 0)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--store", type=Path, help="with the example models; else they are trained first")
    given = parser.parse_args()
    if given.quick:
        given.starts = 2
    return given


def main() -> None:
    """Start, look, write."""
    given = parsed()
    page = Page("start", "Starting, and memory at rest", (__doc__ or "").split("start.md")[1], given)
    table = page.table("what", "found", "bar", "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ready(given, table, folder)
        memory(given, page, table, examples(given, folder), folder)
    page.write()


if __name__ == "__main__":
    main()
