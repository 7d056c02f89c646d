"""How long runs take, learned from the runs, and how the lanes share the time.

Plain data, no clock of its own: the in-process home tells it what ran and for how long.
"""

from __future__ import annotations

from collections import OrderedDict

from .feeds import Key
from .protocol import Lane

FORGETTING = 0.02  # by which share the shortest run seen so far is taken to be longer at each run
DEBT_SECONDS = 0.5  # most that gaps which explanations filled are held against them


class _Seconds:
    """What is known of one key, in seconds per item and per run."""

    __slots__ = ("item", "shortest")

    def __init__(self, item: float, run: float) -> None:
        self.item, self.shortest = item, run


class Pace:
    """How long an item of each key takes; remembers the most recent keys."""

    def __init__(self, remembered: int = 1024) -> None:
        self._known: OrderedDict[Key, _Seconds] = OrderedDict()
        self._remembered = remembered

    def learn(self, key: Key, items: int, seconds: float) -> None:
        """One more run of the runtime; recent ones count most."""
        known = self._known.get(key)
        if known is None:
            self._known[key] = _Seconds(seconds / items, seconds)
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)
            return
        known.item = (known.item + seconds / items) / 2
        known.shortest = min(known.shortest * (1 + FORGETTING), seconds)
        self._known.move_to_end(key)

    def item_seconds(self, key: Key) -> float | None:
        """How long an item takes; None while nothing is known."""
        known = self._known.get(key)
        return None if known is None else known.item

    def shortest_run(self, key: Key) -> float | None:
        """The shortest recent run, in seconds: what a run takes when nothing else holds it up. None if unknown."""
        known = self._known.get(key)
        return None if known is None else known.shortest

    def items_within(self, key: Key, seconds: float, unknown: int = 1) -> int:
        """How many items a run of this length carries: at least 1, and `unknown` while nothing is known."""
        known = self._known.get(key)
        if known is None:
            return unknown
        return max(1, int(seconds / max(known.item, 1e-9)))


class Share:
    """The part of the time that explanations get even when predictions always wait.

    A run of predictions that explanations had to wait for earns them `share` / (1 - share) of its time; a run of theirs
    that predictions had to wait for spends it. They go first once they have earned what a run of theirs takes.
    """

    def __init__(self, share: float) -> None:
        self._rate = share / (1.0 - share)
        self._earned = 0.0

    def turn(self, wanted: float) -> Lane:
        """Whose turn it is where both lanes wait and the next run of explanations takes about `wanted` seconds."""
        return "explain" if self._rate and self._earned >= wanted else "predict"

    def ran(self, lane: Lane, seconds: float, other_waited: bool) -> None:
        """A run has ended; only what the other lane had to wait for counts."""
        if not other_waited:
            self._earned = 0.0
        elif lane == "predict":
            self._earned += seconds * self._rate
        else:
            self._earned = max(self._earned - seconds, -DEBT_SECONDS)
