"""How much memory this process holds."""

from __future__ import annotations

import os
from pathlib import Path

STATM = Path("/proc/self/statm")


def resident() -> int:
    """Resident memory in bytes; 0 where the system does not say. Source: proc(5), the second number of statm."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
