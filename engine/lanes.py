"""What waits, and what runs next: plain data, no threads and no clock of its own.

Requests wait in two lanes, predictions before explanations. Within a lane, requests of equal key wait as one group,
because they may share a run; groups take turns, so that a busy model cannot starve a quiet one. The in-process home
holds its lock around every call.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .errors import EngineError
from .feeds import Checked, Key
from .protocol import LANES, Artifact, Lane, RunResult
from .sessions import Session


@dataclass(eq=False)
class Request:
    """One caller's work. `outcome` is set once, by whoever ran it, and `wake` tells the caller."""

    artifact: Artifact
    session: Session
    checked: Checked
    lane: Lane
    deadline: float | None
    arrived: float
    wake: threading.Condition
    waiting: bool = True
    started: float = 0.0
    outcome: RunResult | EngineError | None = None

    def expired(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return self.deadline is not None and self.deadline <= now


@dataclass
class Group:
    """Requests of one key, in order of arrival."""

    key: Key
    lane: Lane
    requests: deque[Request] = field(default_factory=deque)

    def items(self) -> int:
        """How many items wait in it."""
        return sum(request.checked.items for request in self.requests)

    def due(self, max_wait: float) -> float:
        """The moment from which on it should not be held back: `max_wait` after its first request came, or at once
        when a request's deadline would pass meanwhile."""
        due = self.requests[0].arrived + max_wait
        hurried = any(request.deadline is not None and request.deadline <= due for request in self.requests)
        return self.requests[0].arrived if hurried else due


class Lanes:
    """The waiting requests. `limit(request)` says how many items a run may carry that starts with this request."""

    def __init__(self, limit: Callable[[Request], int]) -> None:
        self._limit = limit
        self._groups: dict[Lane, OrderedDict[Key, Group]] = {lane: OrderedDict() for lane in LANES}
        self.items = 0
        self.requests = 0

    def __iter__(self) -> Iterator[Request]:
        for lane in LANES:
            for group in self._groups[lane].values():
                yield from group.requests

    def add(self, request: Request) -> None:
        """Let it wait behind those of its key."""
        groups = self._groups[request.lane]
        key = request.checked.key
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(key, request.lane)
        group.requests.append(request)
        self._count(request, +1)

    def remove(self, request: Request) -> None:
        """Take one request out that gave up waiting."""
        group = self._groups[request.lane][request.checked.key]
        group.requests.remove(request)
        if not group.requests:
            del self._groups[request.lane][request.checked.key]
        self._count(request, -1)

    def next(self) -> Group | None:
        """The group whose turn it is: predictions first."""
        for lane in LANES:
            for group in self._groups[lane].values():
                return group
        return None

    def full(self, group: Group) -> bool:
        """Whether one run could not carry more than what waits."""
        return group.items() >= self._limit(group.requests[0])

    def take(self, group: Group) -> list[Request]:
        """Take the requests of the next run: in order, at least one, no more items than a run may carry.

        What stays behind waits for the group's next turn.
        """
        taken: list[Request] = []
        items, limit = 0, self._limit(group.requests[0])
        while group.requests and (not taken or items + group.requests[0].checked.items <= limit):
            request = group.requests.popleft()
            self._count(request, -1)
            items += request.checked.items
            taken.append(request)
        groups = self._groups[group.lane]
        if group.requests:
            groups.move_to_end(group.key)
        else:
            del groups[group.key]
        return taken

    def _count(self, request: Request, sign: int) -> None:
        request.waiting = sign > 0
        self.items += sign * request.checked.items
        self.requests += sign


class Pace:
    """How long an item of each key takes, learned from the runs; remembers the most recent keys."""

    def __init__(self, remembered: int = 1024) -> None:
        self._seconds: OrderedDict[Key, float] = OrderedDict()
        self._remembered = remembered

    def learn(self, key: Key, items: int, seconds: float) -> None:
        """One more run; recent ones count most."""
        measured = seconds / items
        before = self._seconds.get(key, measured)
        self._seconds[key] = (before + measured) / 2
        self._seconds.move_to_end(key)
        if len(self._seconds) > self._remembered:
            self._seconds.popitem(last=False)

    def items_within(self, key: Key, seconds: float) -> int:
        """How many items a run of this length carries: at least 1, and 1 while nothing is known."""
        known = self._seconds.get(key)
        if known is None:
            return 1
        return max(1, int(seconds / max(known, 1e-9)))
