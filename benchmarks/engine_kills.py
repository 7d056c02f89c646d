"""The engine's process is killed, again and again, under load: how long until answers are right again.

    python -m benchmarks.engine_kills   # writes benchmarks/results/engine_kills.md

Predictions come at a fixed rate to a server with two HTTP workers. Each kill is a SIGKILL of one process that runs
models; *back* is from the kill to the first right answer behind the last that failed. Every answer with 200 is held
against the raw session: a wrong one is worse than none. Health is asked for all along: the HTTP side must go on
answering. Where the engine has no process of its own, an HTTP worker is killed, and the page says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from benchmarks.support import asking, models, processes
from benchmarks.support.ceiling import session
from benchmarks.support.clients import Answer, load_of, open_loop, statuses
from benchmarks.support.load import percentiles
from benchmarks.support.page import Page, arguments, met
from benchmarks.support.processes import Server

TOLERANCE, BACK_BAR = 1e-4, 5.0
ENGINE, WORKER = "engine process", "HTTP worker (the engine has no process of its own here)"


@dataclass(eq=False)
class Killer(threading.Thread):
    """Kills a process every `gap` seconds; `kills` are the moments, `health` what /v2/health/live took (NaN: none)."""

    server: Server
    count: int
    gap: float
    target: str = ENGINE
    kills: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        draw = random.Random(0)  # noqa: S311 - no secret
        while len(self.kills) < self.count and self.server.process.poll() is None:
            until = time.monotonic() + self.gap * draw.uniform(0.8, 1.2)
            while time.monotonic() < until:
                self.look()
                time.sleep(0.2)
            victims = self.victims()
            if victims:
                with contextlib.suppress(psutil.NoSuchProcess):
                    draw.choice(victims).kill()
                    self.kills.append(time.monotonic())

    def victims(self) -> list[psutil.Process]:
        """What may be killed now."""
        if self.target == ENGINE:
            return processes.engine_processes(self.server)
        return [process for process in self.server.family()[1:] if process.num_threads() > 1]

    def look(self) -> None:
        """Ask for health."""
        start = time.monotonic()
        try:
            self.server.get("/v2/health/live", timeout=5.0)
            self.health.append(time.monotonic() - start)
        except (OSError, ValueError):
            self.health.append(math.nan)


def right(answer: Answer, expected: np.ndarray) -> bool:
    """Whether a 200 carries the model's outputs."""
    predictions = json.loads(answer.body)["predictions"][0]
    return bool(np.allclose(predictions, expected, rtol=0, atol=TOLERANCE))


def back(answers: Sequence[Answer], kills: Sequence[float]) -> list[float]:
    """Seconds from each kill to the first good answer behind the last failed one before the next kill; inf: none."""
    found = []
    for start, end in zip(kills, [*kills[1:], math.inf], strict=True):
        done = [answer for answer in answers if start <= answer.done < end]
        failed = max((answer.done for answer in done if answer.status != 200), default=start)
        good = [answer.done for answer in done if answer.status == 200 and answer.done > failed]
        found.append(min(good, default=math.inf) - start)
    return found


def judged(page: Page, answers: list[Answer], killer: Killer, expected: np.ndarray, seconds: float) -> None:
    """Every answer, every kill."""
    table, times = page.table("what", "found", "bar", ""), back(answers, killer.kills)
    wrong = sum(answer.status == 200 and not right(answer, expected) for answer in answers)
    lost = [answer for answer in answers if answer.status not in (200, 503)]
    unheard = sum(math.isnan(each) for each in killer.health)
    table.add("killed", f"{len(killer.kills)} times, {killer.target}", "", "")
    table.add("requests", f"{load_of(answers, seconds)}; {statuses(answers)}", "", "")
    table.add("wrong answers", wrong, "0", met(wrong == 0))
    worst = f"median {np.median(times):.2f} s, longest {max(times):.2f} s"
    table.add("back", worst, f"<= {BACK_BAR:g} s", met(max(times) <= BACK_BAR))
    table.add("503s of a kill", f"{sum(a.status == 503 for a in answers) / len(killer.kills):.1f}", "", "")
    table.add("answers that are neither 200 nor 503", f"{len(lost):,}", "0", met(not lost))
    p50, p99 = percentiles([each for each in killer.health if not math.isnan(each)])
    health = f"{len(killer.health):,} asked, {unheard} unanswered, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"
    table.add("health meanwhile", health, "0 unanswered", met(unheard == 0))


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = arguments(__doc__ or "", 4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=float, default=100, help="predictions per second")
    given = parser.parse_args()
    given.serve = given.serve or "--workers 2"
    if given.quick:
        given.kills = 3
    return given


def main() -> None:
    """Kill, judge, write."""
    given = parsed()
    page = Page("engine_kills", "An engine that dies", (__doc__ or "").split("engine_kills.md")[1], given)
    row = models.rows(1)
    ask = asking.v1_rows(models.MLP, row)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = models.store_with(folder / "store", models.MLP)
        expected = session(models.model_file(store, models.MLP), 1).run(None, {"x": row})[0][0]
        with processes.glasshouse(store, folder, extra=given.serve) as server:
            target = ENGINE if processes.engine_processes(server) else WORKER
            killer = Killer(server, given.kills, given.seconds, target)
            lasting = given.seconds * (1.2 * given.kills + 2)
            killer.start()
            answers = open_loop(server.port, [ask], given.rate, lasting, 256)
            killer.join()
            ended = server.process.poll()
    judged(page, answers, killer, expected, lasting)
    page.tables[-1].add(
        "the server at the end", "serves" if ended is None else "has ended", "serves", met(ended is None)
    )
    page.write()


if __name__ == "__main__":
    main()
