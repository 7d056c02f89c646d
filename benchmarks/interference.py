"""What explanations do to predictions, and what an explanation costs over HTTP.

    python -m benchmarks.interference   # writes benchmarks/results/interference.md

Predictions come in an open loop at a share of what a closed loop gets (latency from when each was due), without and
with connections that ask for explanations in closed loops as fast as they are answered: kernel SHAP of a row (2,108
coalitions, 100 rows of background) and integrated gradients of a picture (50 steps), each new, so that no answer is
known already. The bar of the p99 with explanations is twice that without, and the longer of the quantum and one run of
a single evaluation, which nothing interrupts. A *single run* is the longest run of the explanation's programs, in the
benchmark's own process, where one evaluation is asked for (of kernel SHAP 60 coalitions, the fewest it takes).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.support import asking, models, processes
from benchmarks.support.bare import Bare
from benchmarks.support.clients import Answer, closed, load_of, open_loop
from benchmarks.support.load import FIRST, Load, begin, closed_loop, milliseconds, number
from benchmarks.support.page import Page, Table, arguments, met
from benchmarks.support.processes import Server

ROWS, PICTURES = "kernel SHAP of mlp", "integrated gradients of resnet"
PROCESSOR_QUANTUM_MS = 50.0
LEAD_SECONDS, TURNS, STEPS = 2.0, 7, 50
FEWEST = 2 * models.FEATURES  # coalitions that kernel SHAP asks for
ROW_BAR, PICTURE_BAR = 0.050, 1.15


def quantum(flags: str) -> float:
    """Seconds that a run of explanations may take: the flag, else the setting, else (0) the engine's on a processor."""
    command = [sys.executable, "-m", "cli", "config", "--json"]
    found = subprocess.run(command, cwd=models.ROOT, capture_output=True, text=True, check=True).stdout
    words = flags.replace("=", " ").split()
    flag = "--explain-quantum-ms"
    given = words[words.index(flag) + 1] if flag in words else json.loads(found)["explain_quantum_ms"]["value"]
    return (float(given) or PROCESSOR_QUANTUM_MS) / 1e3


def single_runs(store: Path) -> dict[str, float]:
    """Seconds of the longest run of each explanation's programs with as few evaluations as there can be."""
    cores = len(os.sched_getaffinity(0))
    row, picture = (Bare(models.model_file(store, name), cores) for name in (models.MLP, models.RESNET))
    row.record(models.rows(1), "kernel_shap", background={"x": models.rows(models.BACKGROUND, 1)}, n_samples=FEWEST)
    picture.record(models.pixels(), "integrated_gradients", baseline={"x": 0 * models.pixels()}, n_steps=1)
    return {ROWS: row.longest(), PICTURES: picture.longest()}


def predictions() -> dict[str, asking.Ask]:
    """One row each, as most clients send it."""
    jpeg = models.picture()
    return {
        models.MLP: asking.v2_json(models.MLP, models.rows(1)),
        models.RESNET: asking.v1_picture(models.RESNET, jpeg),
    }


def explanations() -> dict[str, asking.Ask]:
    """Each new in every request."""
    return {
        ROWS: asking.explain_row(models.MLP, models.rows(1)),
        PICTURES: asking.explain_picture(models.RESNET, models.picture(), STEPS),
    }


def predicted(server: Server, ask: asking.Ask, rate: float, seconds: float) -> Load:
    """Predictions at a fixed rate."""
    return load_of(open_loop(server.port, [ask], rate, seconds, 128), seconds)


def interference(given: argparse.Namespace, page: Page, server: Server, single: dict[str, float]) -> None:
    """Predictions without and with explanations, on the same model and on another."""
    heads = ("predictions", "explanations", "without", "with", "explanations finished", "bar of p99", "")
    table = page.table(*heads, title=f"Predictions beside {given.explaining} connections that explain")
    longest = quantum(given.serve)
    for model, ask in predictions().items():
        rate = given.share * closed_loop(server.port, ask, 8, max(4.0, given.seconds / 4)).rate
        for what, asked in explanations().items():
            server.quiet()
            without = predicted(server, ask, rate, given.seconds)
            lasting = given.seconds + LEAD_SECONDS
            load = begin(server.port, asked, given.explaining, lasting, next(FIRST))
            time.sleep(LEAD_SECONDS)
            beside = predicted(server, ask, rate, given.seconds)
            explained = load.result()
            bar = 2 * without.p99 + max(longest, single[what])
            held = beside.p99 <= bar and not beside.failed and explained.rate > 0
            finished = f"{number(explained.rate)}/s" + (f", {explained.failed} failed" if explained.failed else "")
            table.add(
                f"{model}, {number(rate)}/s", what, without, beside, finished, f"<= {milliseconds(bar)}", met(held)
            )


def row_cost(given: argparse.Namespace, table: Table, server: Server) -> None:
    """Kernel SHAP of a row, one after the other."""
    ask = explanations()[ROWS]
    load = closed_loop(server.port, ask, 1, given.seconds, next(FIRST))
    held = load.p50 <= ROW_BAR and not load.failed
    table.add(f"{ROWS} over HTTP", load, "", f"p50 <= {milliseconds(ROW_BAR)}", met(held))


def picture_cost(given: argparse.Namespace, table: Table, server: Server, store: Path) -> None:
    """Integrated gradients over HTTP and the same programs in a bare loop, in turns."""
    bare, ask, answers = Bare(models.model_file(store, models.RESNET)), explanations()[PICTURES], list[Answer]()
    bare.record(models.pixels(), "integrated_gradients", baseline={"x": 0 * models.pixels()}, n_steps=STEPS)
    bare.loop()
    loops = []
    for turn in range(given.turns + 1):
        number = turn + next(FIRST)
        closed(server.port, lambda n, last=number: ask if n <= last else None, 1, answers.append, number)
        loops.append(bare.loop())
    assert all(answer.status == 200 for answer in answers), [answer.body[:300] for answer in answers]
    pairs = list(zip(answers, loops, strict=True))[1:]
    ratio = statistics.median(answer.seconds / loop for answer, loop in pairs)
    over_http, alone = (statistics.median(values) for values in zip(*((a.seconds, b) for a, b in pairs), strict=True))
    found = f"{milliseconds(over_http)} over HTTP, {milliseconds(alone)} bare"
    table.add(f"{PICTURES}, {STEPS} steps", found, f"{ratio:.2f}", f"<= {PICTURE_BAR}", met(ratio <= PICTURE_BAR))


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = arguments(__doc__ or "", 20)
    parser.add_argument("--explaining", type=int, default=4, help="connections that ask for explanations")
    parser.add_argument("--share", type=float, default=0.2, help="of the closed loop's throughput, for predictions")
    parser.add_argument("--turns", type=int, default=TURNS, help="of an explanation over HTTP and in a bare loop")
    parser.add_argument("--tune", choices=("latency", "throughput"), help="the models first, by `glasshouse tune`")
    given = parser.parse_args()
    if given.quick:
        given.seconds, given.turns = 5, 1
    return given


def main() -> None:
    """Measure, compare, write."""
    given = parsed()
    page = Page("interference", "Explanations beside predictions", (__doc__ or "").split("interference.md")[1], given)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = models.store_with(folder / "store", models.MLP, models.RESNET)
        for model in (models.MLP, models.RESNET) if given.tune else ():
            processes.tune(store, model, given.tune)
        single = single_runs(store)
        page.note(f"The quantum of explanations is {milliseconds(quantum(given.serve))}.")
        for what, seconds in single.items():
            page.note(f"A single run of {what} takes {milliseconds(seconds)}.")
        with processes.glasshouse(store, folder, extra=given.serve) as server:
            costs = page.table("what", "found", "ratio", "bar", "", title="Explanations over HTTP, nothing beside them")
            row_cost(given, costs, server)
            picture_cost(given, costs, server, store)
            interference(given, page, server, single)
    page.write()


if __name__ == "__main__":
    main()
