"""How long one more prediction would wait, told from those under way alone.

As many as are under way, at the pace at which they now end (J. Little, A Proof for the Queuing Formula L = λW, 1961).
So it is the whole wait, for a thread, for the engine and for the run, whatever runs, on whatever device, in company or
alone; and a look at it costs nothing, so that refusing takes no time from what was accepted.
"""

from __future__ import annotations

import time

RECENT = 32  # answers over which the pace is a mean
# So many may be under way however long it takes: clients that ask again once they are answered are no flood.
ALWAYS = 32


class Flow:
    """The predictions of one worker; used by the event loop alone. ``most_seconds``: how long one may have to wait."""

    def __init__(self, most_seconds: float) -> None:
        self._most_seconds = most_seconds
        self.under_way = 0
        # Seconds between two that ended while more were under way; 0 while that is not known.
        self._interval, self._last = 0.0, 0.0

    def begin(self) -> None:
        """One is under way."""
        self.under_way += 1

    def end(self) -> None:
        """One was answered."""
        self.under_way -= 1
        now = time.monotonic()
        if self._last:
            self._interval += (now - self._last - self._interval) / RECENT
        self._last = now if self.under_way else 0.0

    def wait(self) -> float:
        """About how many seconds one more would wait."""
        return self.under_way * self._interval

    @property
    def full(self) -> bool:
        """Whether one more would wait for too long."""
        return self.under_way >= ALWAYS and self.wait() > self._most_seconds
