"""The machine a server runs on, as far as an answer may depend on it: runtimes differ in their last digits by CPU."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
# What Linux calls a processor's model: x86, some ARM boards and POWER, RISC-V.
NAMES = ("model name", "hardware", "cpu", "uarch")


@lru_cache(maxsize=1)
def cpu() -> str | None:
    """The processor's model and architecture, such as "Intel(R) Xeon(R) Platinum 8481C (x86_64)"; None if unknown."""
    model = _model() or platform.processor()
    architecture = platform.machine()
    if not model or model == architecture:
        return architecture or None
    return f"{model} ({architecture})"


def _model() -> str | None:
    try:
        lines = CPU_INFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    named = {
        name.strip().lower(): " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)
    }
    return next((named[name] for name in NAMES if named.get(name)), None)
