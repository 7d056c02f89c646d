"""Which requests were cancelled, by the tag under which their runs are made.

A request may make many runs, one after another, and be cancelled between two of them: the tag is kept until the next
run under it is refused, or for a while if there is none.
"""

from __future__ import annotations

from collections import OrderedDict

from .errors import Cancelled

KEPT_SECONDS = 60.0
MOST_KEPT = 4096


class Tags:
    """The cancelled tags."""

    def __init__(self) -> None:
        self._cancelled: OrderedDict[str, float] = OrderedDict()

    def cancel(self, tag: str, now: float) -> None:
        """Refuse the next run under this tag."""
        self._cancelled[tag] = now
        self._cancelled.move_to_end(tag)
        while len(self._cancelled) > MOST_KEPT:
            self._cancelled.popitem(last=False)

    def refuse(self, tag: str, now: float) -> Cancelled | None:
        """The error of a run under this tag, if it was cancelled; the tag is then free again."""
        if tag not in self._cancelled:
            return None
        cancelled_at = self._cancelled.pop(tag, None)
        if cancelled_at is None or now - cancelled_at > KEPT_SECONDS:
            return None
        return Cancelled("cancelled before the work was started")
