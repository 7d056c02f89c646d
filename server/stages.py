"""The stages of a request: each is timed where it happens, and drawn as a span where traces are wanted.

The service asks the request's `Trace` for a stage and knows nothing of tracing; `NO_TRACE` only times.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol


class Stage:
    """Times one stage: leaving it adds the seconds to ``seconds[name]``."""

    __slots__ = ("_begun", "_name", "_seconds")

    def __init__(self, name: str, seconds: dict[str, float]) -> None:
        self._name, self._seconds, self._begun = name, seconds, 0.0

    def __enter__(self) -> Stage:
        self._begun = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        spent = time.perf_counter() - self._begun
        self._seconds[self._name] = self._seconds.get(self._name, 0.0) + spent

    def say(self, **attributes: Any) -> None:
        """More about this stage; never a value of the input."""


class Trace(Protocol):
    """What follows one request through its stages."""

    def stage(self, name: str, seconds: dict[str, float]) -> Stage:
        """A stage about to begin; ``seconds`` is where its time is added."""

    def say(self, **attributes: Any) -> None:
        """What the whole request turned out to be about: model, version, method, decision."""

    def passed(self, name: str, seconds: float) -> None:
        """A stage that took so long and ends now."""

    def end(self, status: int, error: str | None) -> None:
        """The answer is out; ``error`` is the type of what went wrong."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What the answer tells its client of the trace."""


class _NoTrace:
    headers: Mapping[str, str] = {}

    def stage(self, name: str, seconds: dict[str, float]) -> Stage:
        return Stage(name, seconds)

    def say(self, **attributes: Any) -> None:
        pass

    def passed(self, name: str, seconds: float) -> None:
        pass

    def end(self, status: int, error: str | None) -> None:
        pass


NO_TRACE: Trace = _NoTrace()
