"""What runs next: the waiting requests, what runs already, and the rules between them.

Plain data with no lock and no clock of its own; the in-process home holds its lock around every call.

A run takes as many of the machine's threads as its session has, and no more runs are started than there are threads
for. Predictions go first, but for the share of the time that is kept for explanations. A group may be held back for
company (`max_wait`), or because its model has as many runs under way as it may; others then go before it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .lanes import Group, Lanes, Request
from .pace import Pace, Share
from .protocol import LANES, Lane


@dataclass(frozen=True)
class Rules:
    """An engine's settings; times in seconds. An artifact's own knobs go before `max_batch` and `max_wait`.

    `threads`: the threads that all runs together may take. `quantum`: how long a run may take when several requests
    share it, for each lane.
    """

    max_batch: int
    max_wait: float
    threads: int
    quantum: dict[Lane, float]
    explain_share: float


class Schedule:
    """Decides; whoever holds the lock does."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.lanes = Lanes()
        self.pace = Pace()
        self._share = Share(rules.explain_share)
        self._free = rules.threads
        self._running: Counter[str] = Counter()

    @property
    def runs(self) -> int:
        """How many runs are under way."""
        return self._running.total()

    def next(self, now: float) -> tuple[Group | None, float | None]:
        """The group to be run now; or None, and the moment at which one will be due if nothing else happens."""
        wake: float | None = None
        for lane in self._order():
            for group in self.lanes.groups(lane):
                due = self._due(group, now)
                if due is not None:
                    wake = due if wake is None else min(wake, due)
                elif not self._as_many_as_allowed(group.first):
                    # The next in turn waits for its threads: smaller ones that overtook it would starve it.
                    return (group if self._cost(group.first) <= self._free else None), wake
        return None, wake

    def start(self, group: Group) -> list[Request]:
        """Takes the requests of the group's next run, and the run's threads."""
        first = group.first
        self._free -= self._cost(first)
        self._running[first.artifact.digest] += 1
        return self.lanes.take(group, self._limit(first))

    def end(self, batch: list[Request], seconds: float) -> None:
        """Gives the threads of a run back, and learns from its time."""
        first = batch[0]
        self._free += self._cost(first)
        self._running[first.artifact.digest] -= 1
        if not self._running[first.artifact.digest]:
            del self._running[first.artifact.digest]
        other: Lane = "explain" if first.lane == "predict" else "predict"
        self._share.ran(first.lane, seconds, other_waited=bool(self.lanes.waiting(other)))

    def backlog(self, lane: Lane) -> float:
        """About how many seconds the work that waits in a lane will take; 0 for what was never run."""
        return sum(
            group.items * (self.pace.item_seconds(group.key) or 0.0) / self._at_a_time(group.first)
            for group in self.lanes.groups(lane)
        )

    def _order(self) -> tuple[Lane, ...]:
        explain = next(self.lanes.groups("explain"), None)
        if explain is None or not self.lanes.waiting("predict"):
            return LANES
        item = self.pace.item_seconds(explain.key)
        items = min(explain.items, self._limit(explain.first))
        wanted = self._rules.quantum["explain"] if item is None else items * item
        return LANES if self._share.turn(wanted) == "predict" else LANES[::-1]

    def _due(self, group: Group, now: float) -> float | None:
        """Until when the group is held back for company; None if it is not."""
        wait = group.first.wait(self._rules.max_wait)
        if wait <= 0 or group.items >= self._limit(group.first):
            return None
        due = group.due(wait)
        return due if now < due else None

    def _as_many_as_allowed(self, request: Request) -> bool:
        instances = request.knobs.instances
        return instances is not None and self._running[request.artifact.digest] >= instances

    def _at_a_time(self, request: Request) -> int:
        """How many runs of it there are room for."""
        room = max(1, self._rules.threads // self._cost(request))
        return min(room, request.knobs.instances or room)

    def _cost(self, request: Request) -> int:
        return min(request.session.threads, self._rules.threads)

    def _limit(self, request: Request) -> int:
        """How many items a run may carry that starts with this request."""
        most = request.most(self._rules.max_batch)
        unknown = 1 if request.lane == "explain" else most
        return min(most, self.pace.items_within(request.checked.key, self._rules.quantum[request.lane], unknown))
