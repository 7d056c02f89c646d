"""A thousand switches of a model's version under load: no request fails, and no answer bears the name of the other.

    python -m benchmarks.swaps   # writes benchmarks/results/swaps.md

Two versions of one model differ in their weights. While predictions come at a fixed rate, the alias `default` is
pointed from one to the other and back. Every answer names its version and the digest of the file that computed it, and
its outputs are held against those of both files. *Late* are answers that name a version that was not the default at
any moment between the request and the answer. Memory is that of all the server's processes (PSS), warm and at the end.
"""

from __future__ import annotations

import argparse
import bisect
import hashlib
import json
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.support import asking, models, processes
from benchmarks.support.ceiling import session
from benchmarks.support.clients import Answer, load_of, open_loop, statuses
from benchmarks.support.page import Page, arguments, met
from model_store import DEFAULT_ALIAS, Store

TOLERANCE, APART = 1e-5, 1e-2
GROWTH_BAR = 0.05
WARM_SECONDS = 10.0


@dataclass(eq=False)
class Switcher(threading.Thread):
    """Points the alias to and fro, evenly over a time; `switched` are (begun, ended, version)."""

    store: Store
    count: int
    seconds: float
    switched: list[tuple[float, float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        start = time.monotonic()
        for number in range(self.count):
            time.sleep(max(0.0, start + self.seconds * number / self.count - time.monotonic()))
            begun, version = time.monotonic(), 2 - number % 2
            self.store.set_alias(models.MLP, DEFAULT_ALIAS, version)
            self.switched.append((begun, time.monotonic(), version))

    def defaults(self, sent: float, done: float) -> set[int]:
        """The versions that were the default at some moment between: before the first switch it is 1."""
        begun = [each[0] for each in self.switched]
        ended = [each[1] for each in self.switched]
        first = bisect.bisect_right(ended, sent)  # the last switch that had ended when it was sent
        last = bisect.bisect_right(begun, done)
        found = {version for _, _, version in self.switched[max(0, first - 1) : last]}
        return found | ({1} if first == 0 else set())


@dataclass(frozen=True)
class Expected:
    """What each version answers to the row, and the digest of its file."""

    outputs: dict[int, np.ndarray]
    digests: dict[int, str]

    @classmethod
    def of(cls, store: Path, row: np.ndarray) -> Expected:
        """By the raw session of both files."""
        files = {version: models.model_file(store, models.MLP, version) for version in (1, 2)}
        outputs = {version: session(data, 1).run(None, {"x": row})[0][0] for version, data in files.items()}
        assert np.abs(outputs[1] - outputs[2]).max() > APART, "the versions answer alike"
        return cls(outputs, {version: hashlib.sha256(data).hexdigest() for version, data in files.items()})

    def wrong(self, answer: Answer) -> str:
        """What is wrong with an answer, empty where nothing is."""
        if answer.status != 200:
            return "failed"
        found = json.loads(answer.body)
        version = int(found["model_version"])
        if not np.allclose(found["predictions"][0], self.outputs[version], rtol=0, atol=TOLERANCE):
            return "outputs of another version"
        return "" if found["model_digest"] == self.digests[version] else "digest of another version"


def judged(page: Page, answers: list[Answer], expected: Expected, switcher: Switcher, seconds: float) -> None:
    """Every answer by the version it names."""
    faults = [expected.wrong(answer) for answer in answers]
    good = [answer for answer, fault in zip(answers, faults, strict=True) if not fault]
    named = [int(json.loads(answer.body)["model_version"]) for answer in good]
    late = [a for a, version in zip(good, named, strict=True) if version not in switcher.defaults(a.sent, a.done)]
    table = page.table("what", "found", "bar", "")
    table.add("requests", f"{load_of(answers, seconds)}; {statuses(answers)}", "", "")
    table.add("switches", f"{len(switcher.switched):,}", "", "")
    table.add("answers of version 1, of version 2", f"{named.count(1):,}, {named.count(2):,}", "", "")
    for fault in ("failed", "outputs of another version", "digest of another version"):
        table.add(f"answers: {fault}", faults.count(fault), "0", met(faults.count(fault) == 0))
    table.add("late answers", f"{len(late):,}", "", "")


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = arguments(__doc__ or "", 60)
    parser.add_argument("--switches", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=200, help="predictions per second")
    given = parser.parse_args()
    if given.quick:
        given.seconds, given.switches = 6, 100
    return given


def main() -> None:
    """Measure, judge, write."""
    given = parsed()
    page = Page("swaps", "Version switches under load", (__doc__ or "").split("swaps.md")[1], given)
    row = models.rows(1)
    ask = asking.v1_rows(models.MLP, row)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = models.store_with(folder / "store", "pair")
        store, expected = Store(path, create=False), Expected.of(path, row)
        store.set_alias(models.MLP, DEFAULT_ALIAS, 1)
        with processes.glasshouse(path, folder, extra=given.serve) as server:
            for version in (2, 1):
                store.set_alias(models.MLP, DEFAULT_ALIAS, version)
                open_loop(server.port, [ask], given.rate, WARM_SECONDS)
            server.quiet()
            before, switcher = server.memory(), Switcher(store, given.switches, given.seconds)
            switcher.start()
            answers = open_loop(server.port, [ask], given.rate, given.seconds + 1, 256)
            switcher.join()
            server.quiet()
            after = server.memory()
    judged(page, answers, expected, switcher, given.seconds + 1)
    grown = after / before - 1
    found = f"{before:.1f} to {after:.1f} MiB ({grown:+.1%})"
    page.tables[-1].add("memory", found, f"within {GROWTH_BAR:.0%}", met(grown <= GROWTH_BAR))
    page.write()


if __name__ == "__main__":
    main()
