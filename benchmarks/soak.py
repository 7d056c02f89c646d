"""A hundred thousand mixed requests: memory, threads and descriptors stay what they were.

    python -m benchmarks.soak   # writes benchmarks/results/soak.md

Of 100 requests, in turn and on 8 connections: 60 predictions in JSON, 20 in binary, 10 explanations (DeepSHAP,
integrated gradients and kernel SHAP of rows, each new) and 10 that are refused (not JSON, too few values, an unknown
model, an unknown method, a binary tensor of the wrong length). The first fifth warms up. Memory is that of all the
server's processes (PSS); *slope* is that of a line through what is looked at behind the warm-up, in MiB per 100,000
requests.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.support import asking, models, processes
from benchmarks.support.asking import COUNTER, Ask
from benchmarks.support.clients import Answer, closed, statuses
from benchmarks.support.load import number, percentiles
from benchmarks.support.page import Page, arguments, met
from benchmarks.support.processes import Server

GROWTH_BAR, WARM_SHARE, LOOKS = 20.0, 0.2, 50
CLIENT_ERRORS = (400, 404, 405, 415, 422)


def mixture() -> list[tuple[Ask, bool]]:
    """A hundred requests, and whether each is to be answered with 200."""
    row = models.rows(1)
    json_ask, binary = asking.v2_json(models.MLP, row), asking.v2_binary(models.MLP, row)
    fresh = [float(f"0.{COUNTER}"), *models.rows(1)[0].tolist()[1:]]
    explained = [
        asking.v1_explain(models.MLP, fresh, "deep_shap"),
        asking.v1_explain(models.MLP, fresh, "integrated_gradients"),
        asking.v1_explain(models.MLP, fresh, "kernel_shap"),
    ]
    refused = [
        replace(json_ask, body=b'{"inputs": ['),
        Ask(f"/v1/models/{models.MLP}:predict", b'{"instances": [[1, 2, 3]]}'),
        replace(json_ask, path="/v2/models/nobody/infer"),
        asking.v1_explain(models.MLP, fresh, "magic"),
        replace(binary, body=binary.body[:-4]),
    ]
    good = [json_ask] * 6 + [binary] * 2
    tens = [[*good, explained[i % 3], refused[i % 5]] for i in range(10)]
    return [(ask, ask not in refused) for ten in tens for ask in ten]


@dataclass
class Watch:
    """Sees every answer, and looks at the server after every so many."""

    server: Server
    mixed: list[tuple[Ask, bool]]
    every: int
    answers: list[Answer] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    looks: list[tuple[int, float, int, int]] = field(default_factory=list)

    def __call__(self, answer: Answer) -> None:
        ask, good = self.mixed[answer.number % len(self.mixed)]
        if not (answer.status == 200 if good else answer.status in CLIENT_ERRORS):
            self.unexpected.append(f"{ask.path}: {answer.status} {answer.body[:120]!r}")
        self.answers.append(replace(answer, body=b""))
        if len(self.answers) % self.every == 0:
            self.looks.append((len(self.answers), self.server.memory(), *self.server.counts()))


def judged(page: Page, watch: Watch, warm: int) -> None:
    """What changed behind the warm-up."""
    table, looks = page.table("what", "found", "bar", ""), [look for look in watch.looks if look[0] >= warm]
    count, memory, threads, descriptors = (np.array(column, float) for column in zip(*looks, strict=True))
    slope = float(np.polyfit(count, memory, 1)[0]) * 1e5
    grown = float(np.median(memory[-3:]) - np.median(memory[:3]))
    p50, p99 = percentiles([answer.seconds for answer in watch.answers])
    seconds = watch.answers[-1].done - watch.answers[0].sent
    table.add("requests", f"{len(watch.answers):,} ({statuses(watch.answers)})", "", "")
    table.add(
        "rate and latency", f"{number(len(watch.answers) / seconds)}/s, {p50 * 1e3:.1f}, {p99 * 1e3:.1f} ms", "", ""
    )
    unexpected = watch.unexpected
    table.add(
        "other answers than expected",
        f"{len(unexpected):,}{', such as ' + unexpected[0] if unexpected else ''}",
        "0",
        met(not unexpected),
    )
    table.add("memory behind the warm-up", f"{memory[0]:.1f} to {memory[-1]:.1f} MiB, slope {slope:+.1f}", "", "")
    table.add("memory grown, MiB", f"{grown:+.1f}", f"<= {GROWTH_BAR:g}", met(grown <= GROWTH_BAR))
    for name, values in (("threads", threads), ("descriptors", descriptors)):
        found = f"{values.min():.0f} to {values.max():.0f}, last {values[-1]:.0f}"
        table.add(name, found, "constant", met(values[-1] <= values[0]))
    course = page.table("requests", "MiB", "threads", "descriptors", title="Course")
    for look in watch.looks[:: max(1, len(watch.looks) // 10)]:
        course.add(f"{look[0]:,}", f"{look[1]:.1f}", *look[2:])


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = arguments(__doc__ or "", 0)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--audit", choices=["required", "off"], default="required")
    given = parser.parse_args()
    if given.quick:
        given.requests = 2000
    return given


def main() -> None:
    """Ask, watch, write."""
    given = parsed()
    page = Page("soak", "Mixed requests for long", (__doc__ or "").split("soak.md")[1], given)
    mixed = mixture()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = models.store_with(folder / "store", models.MLP)
        with processes.glasshouse(store, folder, audit=given.audit, extra=given.serve) as server:
            watch = Watch(server, mixed, max(1, given.requests // LOOKS))
            turn = lambda n: mixed[n % len(mixed)][0] if n < given.requests else None  # noqa: E731
            closed(server.port, turn, given.connections, watch)
    judged(page, watch, round(WARM_SHARE * given.requests))
    page.write()


if __name__ == "__main__":
    main()
