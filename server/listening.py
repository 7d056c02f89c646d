"""Granian, with a rule of our own for worker processes that end.

Granian ends the server when a worker ends twice within 5.5 s: right for a program that cannot start, and wrong for one
that runs out of memory, or dies of a model, again and again. A worker that was killed is always replaced; one that
keeps being killed soon after its start gets more and more time in between. A worker that ends with an error of its own
falls under Granian's rule, so a server that cannot start says so and ends.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from granian.server import MPServer

from .logs import log

SOON_SECONDS = 1.0  # an end within this time of the start counts as too soon
LONGEST_PAUSE = 2.0


class Listener(MPServer):
    """Holds the socket, and sees to the workers that answer on it."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._soon: Counter[int] = Counter()

    def _respawn_workers(self, workers: Sequence[int], spawn_target: Any, target_loader: Any, delay: float = 0) -> None:
        """Replaces workers by their numbers, as Granian does; called when they have ended, or (SIGHUP) are to. Not
        where the server is to end."""
        codes = {index: self.wrks[index].inner.exitcode for index in workers}
        pauses = [self._pause(index, code) for index, code in codes.items() if code is not None]
        self.main_loop_interrupt.wait(max(pauses, default=0.0))
        if self.interrupt_signal:
            self.main_loop_interrupt.set()
            return
        super()._respawn_workers(workers, spawn_target, target_loader, delay)
        for index, code in codes.items():
            if not _erred(code):
                self.respawned_wrks.pop(index, None)
        if self.interrupt_children:  # another one ended while Granian was forgetting these
            self.main_loop_interrupt.set()

    def _pause(self, index: int, code: int) -> float:
        """How many seconds to wait before this one is replaced."""
        lived = time.monotonic() - self.wrks[index].birth
        self._soon[index] = self._soon[index] + 1 if lived < SOON_SECONDS else 0
        pause = min(LONGEST_PAUSE, 0.1 * 2 ** self._soon[index]) if self._soon[index] > 1 else 0.0
        log().error(
            "worker process ended; starting another",
            extra={"reason": f"worker {index + 1} ended with code {code}, {lived:.1f} s after its start"},
        )
        return pause


def _erred(code: int | None) -> bool:
    """Whether a process ended by an error of its own, and neither in peace nor by a signal (a negative code)."""
    return code is not None and code > 0
