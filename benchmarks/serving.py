"""Requests per second and latency of predictions over HTTP, beside the raw session, an empty route and KServe.

    python -m benchmarks.serving   # writes benchmarks/results/serving.md

All servers run at once on this machine with the load generator beside them, and are asked in turns: a ratio is the
median of those of the rounds. *Closed loop*: each connection asks again as soon as it is answered. *Open loop*:
requests are due at a fixed rate, and latency counts from when each was due (no coordinated omission). The *raw session*
is ONNX Runtime called in the benchmark's own process, with the batch size and threads that are best here: the ceiling.
The *empty route* reads the same body and answers a constant: Flask behind the server's own front. *KServe* is its
Python server with a model that runs the same file. One HTTP worker each; weights are random.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnxruntime

from benchmarks.support import asking, models, peer_empty, processes
from benchmarks.support.ceiling import Ceiling, ceiling
from benchmarks.support.clients import load_of, open_loop
from benchmarks.support.load import Load, closed_loop, generator, number
from benchmarks.support.page import Page, Table, arguments, met
from benchmarks.support.processes import Server

OFF, REQUIRED, KSERVE, EMPTY, RAW = "audit=off", "audit=required", "KServe", "empty route", "raw session"
KSERVE_VERSION = "0.21.0"
JSON, BINARY, ROWS, JPEG = "V2 JSON", "V2 binary", "V1 rows", "JPEG by V1"
SHARES = (0.25, 0.5, 0.75)  # of the closed loop's throughput, for open loops
Key = tuple[str, str, int]  # model, protocol, connections
Found = dict[Key, dict[str, list[Load]]]


def asks() -> dict[tuple[str, str], asking.Ask]:
    """Every kind of request, one row each."""
    row, image, jpeg = models.rows(1), models.pixels(), models.picture()
    return {
        (models.MLP, JSON): asking.v2_json(models.MLP, row),
        (models.MLP, BINARY): asking.v2_binary(models.MLP, row),
        (models.MLP, ROWS): asking.v1_rows(models.MLP, row),
        (models.RESNET, JSON): asking.v2_json(models.RESNET, image),
        (models.RESNET, BINARY): asking.v2_binary(models.RESNET, image),
        (models.RESNET, JPEG): asking.v1_picture(models.RESNET, jpeg),
    }


@contextlib.contextmanager
def contenders(given: argparse.Namespace, folder: Path) -> Iterator[dict[str, Server]]:
    """All servers, ready."""
    store = models.store_with(folder / "store", models.MLP, models.RESNET)
    files = {name: folder / f"{name}.onnx" for name in (models.MLP, models.RESNET)}
    for name, path in files.items():
        path.write_bytes(models.model_file(store, name))
        if given.tune and name in given.models:
            processes.tune(store, name, given.tune)
    with contextlib.ExitStack() as stack:
        started = {
            OFF: stack.enter_context(processes.glasshouse(store, folder, extra=given.serve)),
            REQUIRED: stack.enter_context(processes.glasshouse(store, folder, audit="required", extra=given.serve)),
            EMPTY: stack.enter_context(processes.empty_route(folder)),
        }
        if given.peers:
            made = given.kserve_python or processes.kserve_python(
                folder / "kserve", KSERVE_VERSION, onnxruntime.__version__
            )
            started[KSERVE] = stack.enter_context(processes.kserve(made, files, folder))
        yield started


def closed_loops(given: argparse.Namespace, servers: dict[str, Server], ceilings: dict[str, Ceiling]) -> Found:
    """Every kind of request at every number of connections, the servers and the raw session in turns."""
    found: Found = {}
    for (model, protocol), ask in asks().items():
        if protocol not in given.protocols or model not in given.models:
            continue
        for connections in given.connections:
            of = found.setdefault((model, protocol, connections), {})
            for turn in range(given.rounds + 1):
                for name, server in servers.items():
                    if protocol == JPEG and name == KSERVE:
                        continue  # its server takes no pictures
                    asked = replace(ask, path=peer_empty.PATH) if name == EMPTY else ask
                    load = closed_loop(server.port, asked, connections, given.seconds if turn else 1)
                    of.setdefault(name, []).extend([load] * bool(turn))  # turn 0 warms up
                rate = ceilings[model].again(given.seconds if turn else 1)
                of.setdefault(RAW, []).extend([Load(rate)] * bool(turn))
    return found


def middle(loads: list[Load]) -> Load:
    """The round with the median rate."""
    return sorted(loads, key=lambda load: load.rate)[len(loads) // 2]


def ratio(of: dict[str, list[Load]], name: str, unit: str) -> float:
    """Requests per second of one in those of another, the median of the rounds."""
    return statistics.median(a.rate / b.rate for a, b in zip(of[name], of[unit], strict=True))


def closed_table(page: Page, found: Found, names: list[str]) -> None:
    """Rates and latencies side by side."""
    table = page.table("model", "request", "connections", *names, title=f"Closed loop, by {generator()}")
    for key, of in found.items():
        table.add(*key, *(middle(of[name]) if name in of else "" for name in names))


def open_loops(given: argparse.Namespace, page: Page, servers: dict[str, Server], found: Found) -> None:
    """Latency at shares of what audit=off answered in its closed loop, the same rate for all."""
    names = [name for name in servers if name != EMPTY]
    table = page.table("model", "request", "rate", *names, title="Open loop, latency from when a request was due")
    for (model, protocol), ask in asks().items():
        of = found.get((model, protocol, max(given.connections)))
        if of is None:
            continue
        for share in given.shares:
            rate = share * middle(of[OFF]).rate
            cells = []
            for name in names:
                if name in of:
                    answers = open_loop(servers[name].port, [ask], rate, given.seconds, 64)
                    cells.append(str(load_of(answers, given.seconds)))
                else:
                    cells.append("")
            table.add(model, protocol, f"{number(rate)}/s ({share:.0%})", *cells)


def bars(page: Page, found: Found) -> None:
    """What the figures come to."""
    table = page.table("what", "found", "bar", "", title="Bars")
    for connections, least in ((1, 1.5), (8, 2.0), (32, 3.0)):
        of = found.get((models.MLP, JSON, connections), {})
        for name in (OFF, REQUIRED):
            what = f"mlp, V2 JSON, {connections} connections, {name}: "
            if name in of and KSERVE in of:
                at_least(table, what + "times KServe", ratio(of, name, KSERVE), least)
            if name in of and EMPTY in of:
                at_least(table, what + "times the empty route", ratio(of, name, EMPTY), 0.6)
    for name, loads in found.get((models.MLP, JSON, 8), {}).items():
        if name in (OFF, REQUIRED):
            tail = statistics.median(load.p99 / load.p50 for load in loads)
            table.add(f"mlp, V2 JSON, 8 connections, {name}: p99 / p50", f"{tail:.2f}", "<= 3", met(tail <= 3))
    for protocol, least in ((BINARY, 0.92), (JPEG, 0.88)):
        of = found.get((models.RESNET, protocol, 8), {})
        for name in (each for each in of if each not in (EMPTY, RAW)):
            what = f"resnet, {protocol}, 8 connections, {name}: times the raw session"
            at_least(table, what, ratio(of, name, RAW), least)


def at_least(table: Table, what: str, value: float, bar: float) -> None:
    """A line with a bar from below."""
    table.add(what, f"{value:.2f}", f">= {bar:g}", met(value >= bar))


def ceilings_of(given: argparse.Namespace, page: Page, store: Path) -> dict[str, Ceiling]:
    """The raw session of each model, before any server runs."""
    rows, found = {models.MLP: models.rows(1), models.RESNET: models.pixels()}, {}
    for name in given.models:
        found[name] = ceiling(models.model_file(store, name), rows[name], given.seconds / 5)
        page.note(f"The raw session of {name} is best with {found[name]}.")
    return found


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = arguments(__doc__ or "", 5, (1, 8, 32))
    parser.add_argument("--rounds", type=int, default=3, help="turns of each closed loop")
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES), help="of open loops")
    parser.add_argument("--models", nargs="+", default=[models.MLP, models.RESNET])
    parser.add_argument("--protocols", nargs="+", default=[JSON, BINARY, ROWS, JPEG])
    parser.add_argument("--tune", choices=("latency", "throughput"), help="the models first, by `glasshouse tune`")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="without KServe")
    parser.add_argument("--kserve-python", type=Path, help="a Python that has kserve; else an environment is made")
    given = parser.parse_args()
    if given.quick:
        given.seconds, given.rounds, given.connections, given.shares = 2, 1, [1, 8], [0.5]
    return given


def main() -> None:
    """Measure, compare, write."""
    given = parsed()
    page = Page("serving", "Serving predictions", (__doc__ or "").split("serving.md")[1], given)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = models.store_with(folder / "ceiling", *given.models)
        ceilings = ceilings_of(given, page, store)
        with contenders(given, folder) as servers:
            found = closed_loops(given, servers, ceilings)
            closed_table(page, found, [*servers, RAW])
            open_loops(given, page, servers, found)
    bars(page, found)
    page.write()


if __name__ == "__main__":
    main()
