"""Ten times more pictures than ResNet-18 can do: what is accepted still comes, the rest is refused at once.

    python -m benchmarks.overload   # writes benchmarks/results/overload.md

*Capacity* is what a closed loop of 16 connections gets. Then the same requests come in an open loop, at capacity and at
ten times that, and latency counts from when each was due. *Lag* is how late the load generator sent them, which is in
the latencies: with both on one machine it is at times the generator that waits. A refusal is a 429 or 503. Ten seconds
of each load come before what is measured: memory is to stay what it is at that load.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support import asking, models, processes
from benchmarks.support.clients import Answer, load_of, open_loop, statuses
from benchmarks.support.load import Load, closed_loop, milliseconds, number, percentiles
from benchmarks.support.page import Page, arguments, met
from benchmarks.support.processes import Server

REFUSED = (429, 503)
WARM_SECONDS = 10.0
REFUSAL_BAR, ACCEPTED_BAR, TAIL_BAR, MEMORY_BAR = 0.050, 0.95, 2.0, 20.0


@dataclass(frozen=True)
class Overload:
    """One open loop: what was accepted, what was refused, and the server's memory before and after it in MiB."""

    rate: float
    accepted: Load
    answers: Sequence[Answer]
    before: float
    after: float

    @property
    def refused(self) -> list[Answer]:
        """Those that came back with 429 or 503."""
        return [answer for answer in self.answers if answer.status in REFUSED]

    @property
    def silent(self) -> int:
        """Refusals that did not say when to come again."""
        return sum(not answer.retry_after for answer in self.refused)

    @property
    def refusals(self) -> tuple[float, float]:
        """p50 and p99 of the time to a refusal, from when the request was sent."""
        return percentiles([answer.done - answer.sent for answer in self.refused])

    @property
    def lag(self) -> float:
        """p99 of how late requests were sent."""
        return percentiles([answer.lag for answer in self.answers])[1]


def measured(server: Server, ask: asking.Ask, rate: float, seconds: float, connections: int) -> Overload:
    """An open loop at this rate; memory is looked at behind a warm-up at the same rate, and once it has settled."""
    open_loop(server.port, [ask], rate, min(WARM_SECONDS, seconds), connections, keep=lambda _: None)
    server.quiet()
    before = server.memory()
    answers = open_loop(server.port, [ask], rate, seconds, connections, keep=lambda _: None)
    lasted = max(answer.done for answer in answers) - min(answer.due for answer in answers)
    server.quiet()
    return Overload(rate, load_of(answers, lasted), answers, before, server.memory())


def bars(page: Page, capacity: float, once: Overload, ten: Overload) -> None:
    """What is promised of ten times the load."""
    table = page.table("what", "found", "bar", "", title="Bars")
    share, tail = ten.accepted.rate / capacity, ten.accepted.p99 / once.accepted.p99
    table.add("accepted at ten times, in capacities", f"{share:.2f}", f">= {ACCEPTED_BAR}", met(share >= ACCEPTED_BAR))
    table.add("p99 of accepted, in those at capacity", f"{tail:.2f}", f"<= {TAIL_BAR:g}", met(tail <= TAIL_BAR))
    p99 = ten.refusals[1]
    found = f"{milliseconds(p99)} (p99 of {len(ten.refused):,})" if ten.refused else "nothing was refused"
    table.add("time to a refusal", found, f"<= {milliseconds(REFUSAL_BAR)}", met(p99 <= REFUSAL_BAR))
    table.add("refusals without Retry-After", ten.silent, "0", met(ten.silent == 0))
    others = [answer for answer in ten.answers if answer.status not in (200, *REFUSED)]
    table.add("answers that are neither", f"{len(others):,}", "0", met(not others))
    grown = ten.after - ten.before
    table.add("memory grown, MiB", f"{grown:.1f}", f"<= {MEMORY_BAR:g}", met(grown <= MEMORY_BAR))


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = arguments(__doc__ or "", 60)
    parser.add_argument("--connections", type=int, default=2000, help="most requests under way at a time")
    parser.add_argument("--times", type=float, default=10, help="of capacity")
    given = parser.parse_args()
    if given.quick:
        given.seconds = 6
    return given


def main() -> None:
    """Measure, compare, write."""
    given = parsed()
    page = Page("overload", "Overload", (__doc__ or "").split("overload.md")[1], given)
    ask = asking.v1_picture(models.RESNET, models.picture())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = models.store_with(folder / "store", models.RESNET)
        with processes.glasshouse(store, folder, extra=given.serve) as server:
            closed_loop(server.port, ask, 16, max(3, given.seconds / 6))
            capacity = closed_loop(server.port, ask, 16, max(6, given.seconds / 3)).rate
            page.note(f"Capacity: {number(capacity)} pictures a second.")
            heads = ("load", "accepted", "all answers", "refused, p50 and p99", "lag, p99", "MiB before, after")
            table, found = page.table(*heads, title="Open loops"), []
            for times in (1.0, given.times):
                each = measured(server, ask, times * capacity, given.seconds, given.connections)
                refusals = ", ".join(milliseconds(value) for value in each.refusals) if each.refused else ""
                memory = f"{each.before:.0f}, {each.after:.0f}"
                what = f"{times:g} times, {number(each.rate)}/s"
                table.add(what, each.accepted, statuses(each.answers), refusals, milliseconds(each.lag), memory)
                found.append(each)
    bars(page, capacity, *found)
    page.write()


if __name__ == "__main__":
    main()
