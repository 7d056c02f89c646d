"""A worker ends with the process that started it.

Granian's own process may die without a word to its workers (kill -9, out of memory); a worker that lived on would keep
answering on a port that nobody manages, and the next start would find it taken.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 1.0


def end_with(parent: int) -> None:
    """Lets this process end, at once, when its parent does.

    On Linux the kernel sees to it; it watches the parent's thread that made this process, so that must be the main
    one. Elsewhere a thread looks every second whether the parent has changed. Not SIGTERM, but SIGKILL: a worker that
    is still loading does not listen for the former. What it has answered is recorded already.

    Args:
        parent: the process that started this one, as it knew itself; it may be gone already.
    """
    if not _asked_kernel():
        threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()
    # It may have died between starting this process and the request above: then nothing would be sent any more.
    if os.getppid() != parent:
        _end()


def _asked_kernel() -> bool:
    """Source: prctl(2), PR_SET_PDEATHSIG."""
    if not sys.platform.startswith("linux"):
        return False
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    return prctl is not None and prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
