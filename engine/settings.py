"""What an engine can be told: one record, checked once, that any home of an engine is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import InvalidSettings
from .schedule import Rules

CPU_QUANTUM_MS, GPU_QUANTUM_MS = 50.0, 20.0
SWITCH = ("auto", "on", "off")


@dataclass(frozen=True)
class EngineSettings:
    """The settings of an engine.

    `max_batch`: most items in one run; a larger request runs alone, in slices. `max_wait_ms`: how long a run may wait
    for company, counted from its first request. `queue_limit`: most items that wait; a request larger than that is
    still taken when nothing else waits. `queue_seconds`: most seconds of work (learned) that may wait when one more
    prediction comes. `threads`: of one run (None: one per processor). `session_limit`: most sessions kept ready.
    `providers`: devices in order of preference, `cpu`, `cuda` or `cuda:1`. `slots`: runs at a time that take all their
    threads. `explain_quantum_ms`, `predict_quantum_ms`: how long a run may take when several requests share it (None
    for explanations: 50 on a processor, 20 on a GPU). `explain_share`: part of the time that explanations get even when
    predictions always wait. `at_once_us`: a prediction whose run is shorter is not queued, if it has at most
    `at_once_items` items. `arena_mib`: most memory of a GPU that a session takes (0: no limit). `shape_buckets`:
    whether runs are filled up to fixed sizes (auto: on a GPU). `tf32`: whether a GPU may round factors of products and
    convolutions to TF32. `io_binding`: whether inputs go through buffers that are kept (auto: on a GPU).
    `cuda_graphs`: whether runs on a GPU are recorded and replayed.
    """

    max_batch: int = 32
    max_wait_ms: float = 0.0
    queue_limit: int = 1024
    queue_seconds: float = 2.0
    threads: int | None = None
    session_limit: int = 64
    providers: tuple[str, ...] = ("cpu",)
    slots: int = 1
    explain_quantum_ms: float | None = None
    predict_quantum_ms: float = 200.0
    explain_share: float = 0.1
    at_once_us: float = 200.0
    at_once_items: int = 16
    arena_mib: int = 0
    shape_buckets: str = "auto"
    tf32: bool = False
    io_binding: str = "auto"
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "providers", tuple(self.providers))
        for name in ("max_batch", "queue_limit", "session_limit", "slots", "at_once_items"):
            self._at_least(name, 1)
        for name in ("max_wait_ms", "queue_seconds", "at_once_us", "arena_mib"):
            self._at_least(name, 0)
        if self.explain_quantum_ms is not None:
            self._at_least("explain_quantum_ms", 0)
        for name in ("shape_buckets", "io_binding"):
            if getattr(self, name) not in SWITCH:
                raise InvalidSettings(f"{name}: came {getattr(self, name)!r}, expected one of {', '.join(SWITCH)}")
        if not self.predict_quantum_ms > 0:
            raise InvalidSettings(f"predict_quantum_ms: came {self.predict_quantum_ms}, expected more than 0")
        if not 0 <= self.explain_share < 1:
            raise InvalidSettings(f"explain_share: came {self.explain_share}, expected 0 or more and less than 1")

    @classmethod
    def of(cls, settings: EngineSettings | None, more: Mapping[str, Any]) -> EngineSettings:
        """These settings (the defaults if None) with some fields changed. Raises `InvalidSettings`."""
        known = [field.name for field in fields(cls)]
        for name in more:
            if name not in known:
                raise InvalidSettings(f"{name}: is no setting of an engine, expected some of {', '.join(known)}")
        return replace(settings or cls(), **more)

    def rules(self, threads: int) -> Rules:
        """The schedule's rules, for runs that take `threads` threads."""
        on_gpu = self.providers[0].startswith("cuda")
        quantum = self.explain_quantum_ms
        if quantum is None:
            quantum = GPU_QUANTUM_MS if on_gpu else CPU_QUANTUM_MS
        return Rules(
            max_batch=self.max_batch,
            max_wait=self.max_wait_ms / 1000,
            threads=threads * self.slots,
            quantum={"predict": self.predict_quantum_ms / 1000, "explain": quantum / 1000},
            explain_share=self.explain_share,
        )

    def _at_least(self, name: str, least: float) -> None:
        value = getattr(self, name)
        if not value >= least:
            raise InvalidSettings(f"{name}: came {value}, expected {least} or more")
