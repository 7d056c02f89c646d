"""Request identifiers that sort by time: ULID, 48 bits of milliseconds and 80 random bits in Crockford's base 32.

Within one process every identifier is greater than the one before, whatever the clock or the number of threads does.
Source: the ULID specification (github.com/ulid/spec).
"""

import os
import secrets
import threading
import time

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 26


def encode(value: int) -> str:
    """Write a 128-bit integer as 26 digits."""
    return "".join(ALPHABET[(value >> shift) & 31] for shift in range(5 * (LENGTH - 1), -1, -5))


class UlidFactory:
    """Hands out identifiers; safe to share between threads and across a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        # A forked child inherits the last value: counting on from it would repeat what its parent hands out.
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def __call__(self) -> str:
        fresh = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
        with self._lock:
            same_tick_or_clock_went_back = fresh >> 80 <= self._last >> 80
            self._last = self._last + 1 if same_tick_or_clock_went_back else fresh
            return encode(self._last)


new_ulid = UlidFactory()
