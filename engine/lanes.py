"""What waits: plain data, no threads and no clock of its own.

Requests wait in two lanes, predictions and explanations. Within a lane, requests of equal key wait as one group,
because they may share a run; groups take turns, so that a busy model cannot starve a quiet one. Which group is next is
said by `schedule.py`; the in-process home holds its lock around every call.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from .errors import Cancelled, DeadlineExceeded, EngineError
from .feeds import Checked, Key
from .protocol import LANES, Artifact, Knobs, Lane, RunResult
from .sessions import Session

UNTUNED = Knobs()


@dataclass(eq=False)
class Request:
    """One caller's work. `outcome` is set once, by whoever ran it, and `wake` (of a request that waits) tells the
    caller."""

    artifact: Artifact
    session: Session
    checked: Checked
    lane: Lane
    deadline: float | None
    arrived: float
    tag: str = ""
    wake: threading.Condition = field(init=False, repr=False)
    waiting: bool = True
    cancelled: bool = False
    started: float = 0.0
    outcome: RunResult | EngineError | None = None

    @property
    def knobs(self) -> Knobs:
        """How its artifact is run."""
        found: Knobs = getattr(self.artifact, "knobs", None) or UNTUNED
        return found

    def most(self, max_batch: int) -> int:
        """How many items a run of it may carry, under an engine's `max_batch`."""
        return self.checked.slice_size(self.knobs.max_batch or max_batch)

    def wait(self, max_wait: float) -> float:
        """How many seconds it may wait for company, under an engine's `max_wait`."""
        own = self.knobs.max_wait_ms
        return max_wait if own is None else own / 1000

    def expired(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return self.deadline is not None and self.deadline <= now

    def over(self, now: float, done: str = "before the work was started") -> EngineError | None:
        """Why nobody wants it any more; None while somebody does. `done` is how far it came, for the message."""
        if self.cancelled:
            return Cancelled(f"cancelled {done}")
        if self.expired(now):
            return DeadlineExceeded(f"the deadline passed {done}")
        return None


@dataclass
class Group:
    """Requests of one key, in order of arrival. `items` is how many items wait in it."""

    key: Key
    lane: Lane
    requests: deque[Request] = field(default_factory=deque)
    items: int = 0

    @property
    def first(self) -> Request:
        """The request that waits longest."""
        return self.requests[0]

    def due(self, max_wait: float) -> float:
        """The moment from which on it should not be held back: `max_wait` after its first request came, or at once
        when a request's deadline would pass meanwhile."""
        due = self.first.arrived + max_wait
        hurried = any(request.deadline is not None and request.deadline <= due for request in self.requests)
        return self.first.arrived if hurried else due


class Lanes:
    """The waiting requests."""

    def __init__(self) -> None:
        self._groups: dict[Lane, OrderedDict[Key, Group]] = {lane: OrderedDict() for lane in LANES}
        self.items = 0
        self.requests = 0

    def __iter__(self) -> Iterator[Request]:
        for lane in LANES:
            for group in self._groups[lane].values():
                yield from group.requests

    def groups(self, lane: Lane) -> Iterator[Group]:
        """The groups of a lane, the one whose turn it is first."""
        return iter(self._groups[lane].values())

    def queued(self) -> dict[str, tuple[int, int]]:
        """How many items and requests wait, by lane."""
        waiting = {lane: list(groups.values()) for lane, groups in self._groups.items()}
        return {
            lane: (sum(group.items for group in groups), sum(len(group.requests) for group in groups))
            for lane, groups in waiting.items()
        }

    def waiting(self, lane: Lane) -> int:
        """How many items wait in a lane."""
        return sum(group.items for group in self._groups[lane].values())

    def add(self, request: Request) -> None:
        """Let it wait behind those of its key."""
        groups = self._groups[request.lane]
        key = request.checked.key
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(key, request.lane)
        group.requests.append(request)
        self._count(group, request, +1)

    def remove(self, request: Request) -> None:
        """Take one request out that gave up waiting."""
        group = self._groups[request.lane][request.checked.key]
        group.requests.remove(request)
        self._count(group, request, -1)
        if not group.requests:
            del self._groups[request.lane][request.checked.key]

    def take(self, group: Group, limit: int) -> list[Request]:
        """Take the requests of the next run: in order, at least one, no more than `limit` items.

        What stays behind waits for the group's next turn.
        """
        taken: list[Request] = []
        items = 0
        while group.requests and (not taken or items + group.first.checked.items <= limit):
            request = group.requests.popleft()
            self._count(group, request, -1)
            items += request.checked.items
            taken.append(request)
        groups = self._groups[group.lane]
        if group.requests:
            groups.move_to_end(group.key)
        else:
            del groups[group.key]
        return taken

    def _count(self, group: Group, request: Request, sign: int) -> None:
        request.waiting = sign > 0
        group.items += sign * request.checked.items
        self.items += sign * request.checked.items
        self.requests += sign
